using System.Runtime.InteropServices;
using GemmaServer.Compute;

namespace GemmaServer.Tests.Gpu;

/// <summary>Weights on the device: taken apart into planes, and decoded bit for bit as ggml does.</summary>
[Trait("Category", "Gpu")]
public sealed class GpuWeightsTests
{
    public static TheoryData<TensorType> AllTypes => TestWeight.AllTypes;

    [OpenClTheory]
    [MemberData(nameof(AllTypes))]
    public void Rows_are_what_ggml_decodes(TensorType type)
    {
        using GpuBench bench = new();
        using GpuWeights weights = new(bench.Gpu);
        GpuGather gather = new(bench.Gpu, bench.Step, 1e-6f);
        using PinnedBytes raw = new(QuantVectors.Raw(type));
        using GpuMatrix table = weights.Load(new TensorSource("vectors", type, QuantVectors.Rows, QuantVectors.Columns, raw.Pointer, raw.Length));
        using GpuTensor x = new(bench.Gpu, QuantVectors.Rows, QuantVectors.Columns);

        bench.Begin(QuantVectors.Rows);
        gather.Embed(table, 1, x);

        float[] actual = GpuBench.Rows(x, QuantVectors.Rows);
        Assert.True(MemoryMarshal.AsBytes<float>(actual).SequenceEqual(MemoryMarshal.AsBytes(QuantVectors.Decoded(type))), Difference(QuantVectors.Decoded(type), actual));
    }

    [OpenClFact]
    public void Parts_take_the_bytes_of_the_file()
    {
        using GpuBench bench = new();
        using GpuWeights weights = new(bench.Gpu);
        TestWeight q = new(TensorType.Q6_K, 64, 512, 1), k = new(TensorType.Q4_0, 32, 512, 2);
        GpuMatrix matrix = weights.Load(q.Source, k.Source);

        Assert.Equal(96, matrix.Rows);
        Assert.Equal([0, 64], matrix.Parts.Select(p => p.FirstRow));
        // Each plane begins at a multiple of its unit: four of them to a part at most.
        Assert.InRange(weights.Bytes, q.Source.Bytes + k.Source.Bytes, q.Source.Bytes + k.Source.Bytes + 2 * 4 * WeightFormat.Unit);
        matrix.Dispose();
        Assert.Equal(0, weights.Bytes);
    }

    [OpenClFact]
    public void Parts_of_different_width_are_refused()
    {
        using GpuBench bench = new();
        using GpuWeights weights = new(bench.Gpu);
        TestWeight a = new(TensorType.F32, 4, 64, 1), b = new(TensorType.F32, 4, 96, 2);
        Assert.Contains("96", Assert.Throws<ArgumentException>(() => weights.Load(a.Source, b.Source)).Message);
    }

    private static string Difference(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual)
    {
        for (int i = 0; i < expected.Length; i++)
            if (BitConverter.SingleToInt32Bits(expected[i]) != BitConverter.SingleToInt32Bits(actual[i])) return $"[{i}]: {actual[i]:R} instead of {expected[i]:R}";
        return "";
    }

    /// <summary>A copy at a fixed address.</summary>
    private sealed class PinnedBytes : IDisposable
    {
        private GCHandle _handle;

        public PinnedBytes(ReadOnlySpan<byte> bytes)
        {
            Length = bytes.Length;
            _handle = GCHandle.Alloc(bytes.ToArray(), GCHandleType.Pinned);
        }

        public nint Pointer => _handle.AddrOfPinnedObject();

        public int Length { get; }

        public void Dispose() => _handle.Free();
    }
}
