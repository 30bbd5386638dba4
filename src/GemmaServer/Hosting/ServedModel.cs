using GemmaServer.Engine;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>A model that is loaded and running: what requests need to know about it, and the engine that answers.</summary>
public sealed class ServedModel : IDisposable
{
    private int _disposed;

    /// <summary>Names clients may use; at least one, the first is shown.</summary>
    public required IReadOnlyList<string> Names { get; init; }

    /// <summary>The vocabulary.</summary>
    public required Tokenizer Tokenizer { get; init; }

    /// <summary>Which prompt format.</summary>
    public required TemplateFlavour Flavour { get; init; }

    /// <summary>Sampling where a request says nothing.</summary>
    public required SamplingDefaults Defaults { get; init; }

    /// <summary>Token ids that end an answer: the checkpoint's and the format's own.</summary>
    public required IReadOnlyList<int> EndTokens { get; init; }

    /// <summary>Token ids that are never sampled (12B: media end markers).</summary>
    public IReadOnlyList<int> SuppressTokens { get; init; } = [];

    /// <summary>The engine; already started. Its MaxModelLength is the context clients see.</summary>
    public required InferenceEngine Engine { get; init; }

    /// <summary>Token ids are 0 … VocabularySize − 1.</summary>
    public required int VocabularySize { get; init; }

    /// <summary>Positions in one KV page of a global group, for /metrics.</summary>
    public required int BlockSize { get; init; }

    /// <summary>Tells weights and version apart: <c>gs-0.1.0-3f2a…</c>.</summary>
    public required string Fingerprint { get; init; }

    /// <summary>What is told about the checkpoint; null where there is none.</summary>
    public ModelCard? Card { get; init; }

    /// <summary>When it was loaded.</summary>
    public DateTimeOffset Created { get; init; } = DateTimeOffset.UtcNow;

    /// <summary>What is disposed after the engine, in this order: runner, checkpoint.</summary>
    public IReadOnlyList<IDisposable> Owned { get; init; } = [];

    /// <summary>Most tokens of prompt and answer together.</summary>
    public int MaxModelLength => Engine.MaxModelLength;

    /// <summary>
    /// UTF-16 units that one token stands for at most, so that a text much too long is refused before it is tokenized.
    /// </summary>
    public int LongestToken => field > 0 ? field : field = Longest(Tokenizer);

    /// <summary>Whether clients may ask for this name.</summary>
    public bool Serves(string name) => Names.Contains(name, StringComparer.Ordinal);

    /// <summary>Stops the engine and frees the model.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) != 0) return;
        Engine.Dispose();
        foreach (IDisposable owned in Owned) owned.Dispose();
    }

    private static int Longest(Tokenizer tokenizer)
    {
        int longest = 1;
        for (int id = 0; id < tokenizer.VocabularySize; id++) longest = Math.Max(longest, tokenizer.Piece(id).Length);
        return longest;
    }
}

/// <summary>Sampling where a request says nothing: the checkpoint's own recommendation, else Google's for Gemma 4.</summary>
/// <param name="Temperature">Default 1.0.</param>
/// <param name="TopP">Default 0.95.</param>
/// <param name="TopK">Default 64.</param>
public sealed record SamplingDefaults(float Temperature = 1f, float TopP = 0.95f, int TopK = 64);
