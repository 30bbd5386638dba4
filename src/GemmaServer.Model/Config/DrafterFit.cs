namespace GemmaServer.Model;

/// <summary>Whether a drafter was made for a target: it speaks the target's tokens, takes its hidden rows and reads its keys.</summary>
public static class DrafterFit
{
    /// <summary>The target's layer whose cache a drafter's layer reads: the last one of its kind that has keys of its own; −1 when there is none.</summary>
    public static int SourceLayer(ModelConfig target, bool isSliding)
    {
        for (int i = target.LayerCount - 1; i >= 0; i--)
            if (target.Layers[i].IsSliding == isSliding && target.Layers[i].OwnsKv) return i;
        return -1;
    }

    /// <summary>Refuses a drafter of another model.</summary>
    /// <exception cref="CheckpointException">They do not fit; the message says in what.</exception>
    public static void Check(Checkpoint drafter, Checkpoint target)
    {
        if (drafter.Drafter is not DrafterConfig head || target.Drafter is not null)
            throw new CheckpointException(drafter.Path, "", "expected a drafter and a whole model");
        ModelConfig d = drafter.Config, t = target.Config;
        Require("vocabulary", t.VocabularySize, d.VocabularySize);
        Require("backbone width", t.HiddenSize, head.BackboneSize);
        Require("RMS epsilon", t.RmsEpsilon, d.RmsEpsilon);
        foreach (LayerConfig layer in d.Layers)
        {
            string kind = layer.IsSliding ? "sliding" : "global";
            int source = SourceLayer(t, layer.IsSliding);
            if (source < 0) throw Problem($"layer {layer.Index}", $"it reads keys of a {kind} layer, and the model has none");
            LayerConfig owner = t.Layers[source];
            Require($"head size of {kind} layers", owner.HeadDim, layer.HeadDim);
            if (layer.KvHeadCount > 0) Require($"KV heads of {kind} layers", owner.KvHeadCount, layer.KvHeadCount);
            if (d.HeadCount % owner.KvHeadCount != 0)
                throw Problem("heads", $"expected a multiple of the model's {owner.KvHeadCount} KV heads, found {d.HeadCount}");
            // Pages behind the target's window are given back.
            if (layer.IsSliding && d.SlidingWindow > t.SlidingWindow)
                throw Problem("sliding window", $"expected at most the model's {t.SlidingWindow}, found {d.SlidingWindow}");
        }

        void Require<T>(string what, T expected, T found) where T : notnull
        {
            if (!expected.Equals(found)) throw Problem(what, $"expected {expected}, as the model has; found {found}");
        }

        CheckpointException Problem(string what, string problem) =>
            new(drafter.Path, what, $"the drafter does not fit {target.Path}: {problem}");
    }
}
