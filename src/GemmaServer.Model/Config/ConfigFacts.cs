namespace GemmaServer.Model;

/// <summary>What a checkpoint says about its model, before defaults: null means that the file does not say.</summary>
internal sealed record ConfigFacts
{
    /// <summary>File the facts are from, for messages.</summary>
    public required string File { get; init; }

    /// <summary>Not null in a drafter: none of its layers has keys of its own.</summary>
    public DrafterFacts? Drafter { get; init; }

    public required int LayerCount { get; init; }
    public int? HiddenSize { get; init; }
    public int? HeadCount { get; init; }
    public int? VocabularySize { get; init; }
    public int? ContextLength { get; init; }
    public int? SlidingWindow { get; init; }
    public int? PerLayerInputSize { get; init; }
    public int? SharedKvLayers { get; init; }
    public float? RmsEpsilon { get; init; }

    /// <summary>0 when the file says that there is no cap.</summary>
    public float? LogitSoftcap { get; init; }

    public float? RopeBaseSliding { get; init; }
    public float? RopeBaseGlobal { get; init; }
    public float? PartialRotaryFactor { get; init; }

    /// <summary>0 when the file says that there are no experts.</summary>
    public int? ExpertCount { get; init; }

    public int? ExpertsUsed { get; init; }
    public int? ExpertWidth { get; init; }

    /// <summary>Whether global layers go without a value projection; GGUF says it only by leaving the tensors out.</summary>
    public bool? ValueIsKeyOnGlobal { get; init; }

    /// <summary>One per layer.</summary>
    public required bool[] IsSliding { get; init; }

    /// <summary>One per layer; null where the file does not say.</summary>
    public required int?[] HeadDim { get; init; }

    /// <summary>One per layer; null where the file does not say.</summary>
    public required int?[] KvHeadCount { get; init; }

    /// <summary>One per layer; null where the file does not say.</summary>
    public required int?[] FeedForwardWidth { get; init; }
}
