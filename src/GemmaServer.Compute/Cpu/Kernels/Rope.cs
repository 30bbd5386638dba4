using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>
/// Rotation of the pairs (i, i + d/2) of a head: <c>x'[i] = x[i]·cos − x[i+d/2]·sin</c>, <c>x'[i+d/2] = x[i+d/2]·cos + x[i]·sin</c>.
/// </summary>
/// <remarks>Source: google-deepmind/gemma, <c>gm/math/_positional_embeddings.py</c>; spec §1.3.</remarks>
internal sealed unsafe class Rope : IDisposable
{
    private readonly float[] _inverseFrequencies;
    private readonly AlignedBuffer _table = new();
    private int _rows;

    /// <summary>Frequencies that are zero at the end are not rotated at all.</summary>
    public Rope(ReadOnlySpan<float> inverseFrequencies)
    {
        _inverseFrequencies = inverseFrequencies.ToArray();
        HeadDim = inverseFrequencies.Length * 2;
        Pairs = inverseFrequencies.TrimEnd(0f).Length;
    }

    public int HeadDim { get; }

    /// <summary>Leading pairs that rotate.</summary>
    public int Pairs { get; }

    /// <summary>Whether it turns by these frequencies.</summary>
    public bool Is(ReadOnlySpan<float> inverseFrequencies) => inverseFrequencies.SequenceEqual(_inverseFrequencies);

    public void Reserve(int rows)
    {
        _table.Ensure((long)rows * Pairs * 2 * sizeof(float));
        _rows = rows;
    }

    /// <summary>Fills a row's cosines and sines for one position: fp32(position) · fp32(frequency), as the reference does.</summary>
    public void Prepare(int row, int position)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(row, _rows);
        float* cos = Cosines(row), sin = cos + Pairs;
        for (int i = 0; i < Pairs; i++)
            (sin[i], cos[i]) = MathF.SinCos(position * _inverseFrequencies[i]);
    }

    /// <summary>Rotates one head in place.</summary>
    public void Apply(int row, float* head)
    {
        float* cos = Cosines(row), sin = cos + Pairs, a = head, b = head + HeadDim / 2;
        int i = 0;
        for (; i + Vector512<float>.Count <= Pairs; i += Vector512<float>.Count)
        {
            Vector512<float> c = Vector512.Load(cos + i), s = Vector512.Load(sin + i);
            Vector512<float> x = Vector512.Load(a + i), y = Vector512.Load(b + i);
            (x * c - y * s).Store(a + i);
            (y * c + x * s).Store(b + i);
        }
        for (; i < Pairs; i++)
        {
            float x = a[i], y = b[i];
            a[i] = x * cos[i] - y * sin[i];
            b[i] = y * cos[i] + x * sin[i];
        }
    }

    public void Dispose() => _table.Dispose();

    private float* Cosines(int row) => (float*)_table.Pointer + (long)row * Pairs * 2;
}
