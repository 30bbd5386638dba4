namespace GemmaServer.Model;

/// <summary>Sampling settings that the checkpoint's makers recommend; null where the file says nothing.</summary>
public sealed record GenerationDefaults
{
    /// <summary>Softmax temperature.</summary>
    public float? Temperature { get; init; }

    /// <summary>Keep this many most likely tokens.</summary>
    public int? TopK { get; init; }

    /// <summary>Keep the smallest set of tokens with this total probability.</summary>
    public float? TopP { get; init; }

    /// <summary>
    /// Token ids that end a generation, ascending: the union of every place that names some, because published files disagree
    /// (a GGUF names one, a config.json two, a generation_config.json three). All are below the vocabulary size.
    /// </summary>
    public IReadOnlyList<int> EosTokenIds { get; init; } = [];

    /// <summary>Token ids that must never be sampled (12B: the media end markers). All are below the vocabulary size.</summary>
    public IReadOnlyList<int> SuppressTokens { get; init; } = [];
}
