namespace GemmaServer.Model;

/// <summary>Hyper-parameters of the text model, resolved from the file's keys, the class defaults and the tensor shapes, and checked.</summary>
public sealed record ModelConfig
{
    /// <summary>Always "gemma4": the unified 12B computes the same graph.</summary>
    public required string Architecture { get; init; }

    /// <summary>"E2B", "E4B", "12B", "26B-A4B", "31B", or "custom".</summary>
    public required string SizeName { get; init; }

    /// <summary>Width of the residual stream.</summary>
    public required int HiddenSize { get; init; }

    /// <summary>Decoder layers.</summary>
    public required int LayerCount { get; init; }

    /// <summary>Query heads, the same on all layers.</summary>
    public required int HeadCount { get; init; }

    /// <summary>Rows of the embedding table; token ids are 0 … VocabularySize − 1.</summary>
    public required int VocabularySize { get; init; }

    /// <summary>Longest context in tokens that the model was made for.</summary>
    public required int ContextLength { get; init; }

    /// <summary>Keys a sliding layer sees, the query's own included.</summary>
    public required int SlidingWindow { get; init; }

    /// <summary>Width of the per-layer input of E2B and E4B; 0 when there is none.</summary>
    public required int PerLayerInputSize { get; init; }

    /// <summary>How many of the last layers read another layer's keys and values.</summary>
    public required int SharedKvLayers { get; init; }

    /// <summary>Added to the mean square in every norm.</summary>
    public required float RmsEpsilon { get; init; }

    /// <summary>c in <c>c · tanh(logit / c)</c>; 0 when logits are not capped.</summary>
    public required float LogitSoftcap { get; init; }

    /// <summary>RoPE base of the sliding layers.</summary>
    public required float RopeBaseSliding { get; init; }

    /// <summary>RoPE base of the global layers.</summary>
    public required float RopeBaseGlobal { get; init; }

    /// <summary>Share of a global head's pairs that rotate (0.25), the first ones.</summary>
    public required float PartialRotaryFactor { get; init; }

    /// <summary>
    /// One per pair of a global head, <c>[HeadDim / 2]</c>: pair i turns by <c>position · base^(−2i/HeadDim) / divisor[i]</c>.
    /// 1 for pairs that rotate, +∞ for those that do not. GGUF stores them (with 1e30 for ∞), otherwise they follow from the factor.
    /// </summary>
    public required IReadOnlyList<float> GlobalRopeDivisors { get; init; }

    /// <summary>Experts per layer; 0 when the model has none.</summary>
    public required int ExpertCount { get; init; }

    /// <summary>Experts that run for one token.</summary>
    public required int ExpertsUsed { get; init; }

    /// <summary>Inner width of one expert.</summary>
    public required int ExpertWidth { get; init; }

    /// <summary>One per layer, by index.</summary>
    public required IReadOnlyList<LayerConfig> Layers { get; init; }
}
