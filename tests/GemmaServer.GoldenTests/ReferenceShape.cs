namespace GemmaServer.GoldenTests;

/// <summary>What a Gemma 4 text model looks like, as the reference and the checkpoint writers understand it.</summary>
internal sealed record ReferenceShape
{
    /// <summary>One letter per layer: S slides, F sees everything.</summary>
    public required string Pattern { get; init; }

    public required int Hidden { get; init; }
    public required int Vocabulary { get; init; }
    public required int Heads { get; init; }
    public required int SlidingKvHeads { get; init; }
    public required int FullKvHeads { get; init; }
    public required int SlidingHeadDim { get; init; }
    public required int FullHeadDim { get; init; }
    public required int Window { get; init; }
    public required int FeedForward { get; init; }

    /// <summary>KV-shared layers have an MLP of twice the width.</summary>
    public bool DoubleWide { get; init; }

    /// <summary>Full layers have no value projection.</summary>
    public bool ValueIsKey { get; init; }

    /// <summary>How many of the last layers read another layer's keys.</summary>
    public int SharedLayers { get; init; }

    /// <summary>0 without per-layer inputs.</summary>
    public int PerLayerWidth { get; init; }

    /// <summary>0 without experts.</summary>
    public int Experts { get; init; }

    public int TopExperts { get; init; }
    public int ExpertWidth { get; init; }

    /// <summary>0 for none.</summary>
    public double Softcap { get; init; } = 30;

    public double RotaryFactor { get; init; } = 0.25;
    public double SlidingBase { get; init; } = 10_000;
    public double FullBase { get; init; } = 1_000_000;

    public int Layers => Pattern.Length;

    public bool Slides(int layer) => Pattern[layer] == 'S';

    public int HeadDim(int layer) => Slides(layer) ? SlidingHeadDim : FullHeadDim;

    public int KvHeads(int layer) => Slides(layer) ? SlidingKvHeads : FullKvHeads;

    public bool OwnsKv(int layer) => layer < Layers - SharedLayers;

    public bool HasValue(int layer) => !ValueIsKey || Slides(layer);

    public int FeedForwardOf(int layer) => DoubleWide && !OwnsKv(layer) ? 2 * FeedForward : FeedForward;

    /// <summary>The layer whose keys a layer reads: the last one with keys of its own and the same letter; −1 when there is none.</summary>
    public int Donor(int layer) => OwnsKv(layer) ? layer : Pattern.LastIndexOf(Pattern[layer], Layers - SharedLayers - 1);
}
