using GemmaServer.Compute;

namespace GemmaServer.Tests.Gpu;

/// <summary>A mixture of experts on the device against the formula, in double precision.</summary>
[Trait("Category", "Gpu")]
public sealed class GpuExpertTests
{
    private const int Experts = 8, Used = 3, Hidden = 64, Width = 96, MaxRows = 72;
    private const float Epsilon = 1e-6f;

    private readonly TestWeight _router = new(TensorType.F32, Experts, Hidden, 1);
    private readonly TestWeight _gateUp = new(TensorType.Q8_0, Experts * 2 * Width, Hidden, 2);
    private readonly TestWeight _down = new(TensorType.Q5_0, Experts * Hidden, Width, 3);
    private readonly float[] _scale = GpuBench.Random(Hidden, 4), _expertScale = GpuBench.Random(Experts, 5);

    [OpenClTheory]
    [InlineData(1, false)]
    [InlineData(2, false)]
    [InlineData(43, false)]
    [InlineData(70, false)]
    [InlineData(1, true)]
    [InlineData(70, true)]
    public void A_mixture_is_its_formula(int rows, bool batchInvariant)
    {
        using GpuBench bench = new(MaxRows);
        using GpuWeights weights = new(bench.Gpu);
        using GpuExperts experts = new(bench.Gpu, bench.Step, new GpuOptions(BatchInvariant: batchInvariant));
        experts.Reserve(MaxRows);
        using GpuMatrix router = weights.Load(_router.Source), gateUp = weights.Load(_gateUp.Source), down = weights.Load(_down.Source);
        using GpuVector scale = new(bench.Gpu, _scale), expertScale = new(bench.Gpu, _expertScale);
        float[] x = GpuBench.Random(rows * Hidden, 6, 3), normed = GpuBench.Random(rows * Hidden, 7), before = GpuBench.Random(MaxRows * Hidden, 8);
        using GpuTensor gx = bench.Tensor(MaxRows, Hidden, x), gn = bench.Tensor(MaxRows, Hidden, normed), gy = bench.Tensor(MaxRows, Hidden, before);

        bench.Begin(rows);
        experts.Route(gx, scale, router, expertScale, Used);
        experts.Run(gn, gateUp, null, down, Width, gy);

        float[] y = GpuBench.Rows(gy, MaxRows);
        for (int r = 0; r < rows; r++)
        {
            double[] expected = Mixture(x.AsSpan(r * Hidden, Hidden), normed.AsSpan(r * Hidden, Hidden));
            double largest = expected.Max(Math.Abs);
            for (int i = 0; i < Hidden; i++) Assert.Equal(expected[i], y[r * Hidden + i], 1e-5 * largest);
        }
        Assert.Equal(before[(rows * Hidden)..], y[(rows * Hidden)..]);
    }

    private double[] Mixture(ReadOnlySpan<float> x, ReadOnlySpan<float> normed)
    {
        double square = 0;
        foreach (float v in x) square += (double)v * v;
        double[] router = new double[Hidden], input = new double[Hidden], y = new double[Hidden];
        for (int i = 0; i < Hidden; i++)
        {
            router[i] = x[i] / Math.Sqrt(square / Hidden + Epsilon) * _scale[i];
            input[i] = normed[i];
        }
        double[] scores = [.. Enumerable.Range(0, Experts).Select(e => Dot(_router, e, router))];
        int[] best = [.. Enumerable.Range(0, Experts).OrderByDescending(e => scores[e]).Take(Used)];
        double sum = best.Sum(e => Math.Exp(scores[e]));
        foreach (int e in best)
        {
            double[] activation = new double[Width];
            for (int j = 0; j < Width; j++) activation[j] = Gelu(Dot(_gateUp, 2 * Width * e + j, input)) * Dot(_gateUp, 2 * Width * e + Width + j, input);
            for (int i = 0; i < Hidden; i++) y[i] += Math.Exp(scores[e]) / sum * _expertScale[e] * Dot(_down, Hidden * e + i, activation);
        }
        return y;
    }

    private static double Dot(TestWeight w, int row, double[] x)
    {
        ReadOnlySpan<float> values = w.Row(row);
        double sum = 0;
        for (int i = 0; i < x.Length; i++) sum += values[i] * x[i];
        return sum;
    }

    private static double Gelu(double x) => 0.5 * x * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)));
}
