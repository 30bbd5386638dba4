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
    public void A_tensor_larger_than_a_buffer_becomes_parts()
    {
        using GpuBench bench = new();
        using GpuWeights weights = new(bench.Gpu, largestPart: 40_000);
        TestWeight q = new(TensorType.Q6_K, 100, 512, 1), k = new(TensorType.Q8_0, 300, 512, 2);
        using GpuMatrix matrix = weights.Load(q.Source, k.Source);
        // 420 and 544 bytes a row: at most 92 and 71 of them, in whole tiles.
        Assert.Equal([(0, 64), (64, 36), (100, 64), (164, 64), (228, 64), (292, 64), (356, 44)], matrix.Parts.Select(static p => (p.FirstRow, p.Rows)));
        Assert.All(matrix.Parts, static p => Assert.InRange(p.Buffer.Bytes, 1, 40_000));
        Assert.Equal(400, matrix.Rows);
    }

    [Theory]
    [InlineData(TensorType.BF16, 262144, 10752, 1, 6L << 30, 262144)]        // E4B's table: one part where it fits
    [InlineData(TensorType.BF16, 262144, 10752, 1, 4L << 30, 131072)]        // halves
    [InlineData(TensorType.BF16, 262144, 10752, 1, 2_000_000_000, 87424)]    // thirds, in whole tiles
    [InlineData(TensorType.Q4_0, 1 << 26, 1024, 1, long.MaxValue, 1 << 25)]  // 2^31 groups, of which kernels count 2^30
    [InlineData(TensorType.BF16, 128 * 1408, 2816, 128, 400_000_000, 43 * 1408)]
    [InlineData(TensorType.BF16, 128 * 1408, 2816, 128, 9_000_000, 1408)]    // one expert to a part
    [InlineData(TensorType.BF16, 128 * 1408, 2816, 128, 7_000_000, 1408)]    // not less, whatever the device says to it
    [InlineData(TensorType.F32, 10, 1000, 1, 100, 1)]
    public void Parts_are_of_about_one_size_and_keep_stacks_whole(TensorType type, long rows, int columns, int stacks, long largest, int expected) =>
        Assert.Equal(expected, GpuWeights.RowsOfPart(new TensorSource("w", type, rows, columns, 0, 0) { Stacks = stacks }, largest));

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
