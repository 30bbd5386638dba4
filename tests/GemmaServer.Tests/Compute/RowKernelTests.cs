using GemmaServer.Compute;

namespace GemmaServer.Tests.Compute;

[Trait("Category", "Kernels")]
public unsafe class RowKernelTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(31)]
    [InlineData(256)]
    [InlineData(1536)]
    public void Rms_norm_equals_its_twin(int dim)
    {
        Random random = new(dim);
        float[] x = [.. Enumerable.Range(0, dim).Select(_ => (float)(random.NextDouble() * 6 - 3))];
        float[] w = [.. Enumerable.Range(0, dim).Select(_ => (float)(random.NextDouble() * 2 - 1))];
        float[] expected = new float[dim], actual = new float[dim];
        foreach (float[] weight in new[] { w, [] })
        {
            RmsNorm.RowReference(x, weight, 1e-6f, expected);
            RmsNorm.Row(x, weight, 1e-6f, actual);
            for (int i = 0; i < dim; i++) Assert.Equal(expected[i], actual[i], 1e-5f);
        }
    }

    [Fact]
    public void Rotation_turns_pairs_half_a_head_apart_and_leaves_the_rest()
    {
        const int Dim = 64, Position = 1234;
        float[] frequencies = new float[Dim / 2];
        for (int i = 0; i < 8; i++) frequencies[i] = (float)Math.Pow(1e6, -2.0 * i / Dim);
        using Rope rope = new(frequencies);
        rope.Reserve(3);
        rope.Prepare(2, Position);
        float[] head = [.. Enumerable.Range(0, Dim).Select(i => i + 1f)], rotated = [.. head];
        fixed (float* p = rotated) rope.Apply(2, p);
        for (int i = 0; i < Dim / 2; i++)
        {
            double angle = Position * (double)frequencies[i], c = Math.Cos(angle), s = Math.Sin(angle);
            Assert.Equal(head[i] * c - head[i + Dim / 2] * s, rotated[i], 2e-2);
            Assert.Equal(head[i + Dim / 2] * c + head[i] * s, rotated[i + Dim / 2], 2e-2);
            if (i >= 8) Assert.Equal((head[i], head[i + Dim / 2]), (rotated[i], rotated[i + Dim / 2]));
        }
    }
}
