using GemmaServer.Compute;

namespace GemmaServer.Tests.Gpu;

/// <summary>Norms and gates on the device against their plain twins.</summary>
[Trait("Category", "Gpu")]
public sealed class GpuRowTests
{
    private const float Epsilon = 1e-6f;

    [OpenClTheory]
    [InlineData(1, 96, true, false)]
    [InlineData(5, 96, true, true)]
    [InlineData(3, 1536, false, false)]
    [InlineData(7, 2816, true, false)]
    public void Rms_norm_is_its_twin(int rows, int columns, bool hasWeight, bool add)
    {
        using GpuBench bench = new();
        GpuRows kernels = new(bench.Gpu, bench.Step, Epsilon);
        float[] x = GpuBench.Random((rows + 1) * columns, 1, 3), before = GpuBench.Random((rows + 1) * columns, 2), w = GpuBench.Random(columns, 3);
        using GpuTensor gx = bench.Tensor(rows + 1, columns, x), gy = bench.Tensor(rows + 1, columns, before);
        using GpuVector gw = new(bench.Gpu, w);

        bench.Begin(rows);
        kernels.RmsNorm(gx, hasWeight ? gw : null, gy, add);

        float[] y = GpuBench.Rows(gy, rows + 1), expected = new float[columns];
        for (int r = 0; r < rows; r++)
        {
            RmsNorm.RowReference(x.AsSpan(r * columns, columns), hasWeight ? w : [], Epsilon, expected);
            for (int i = 0; i < columns; i++) Assert.Equal(expected[i] + (add ? before[r * columns + i] : 0), y[r * columns + i], 1e-5f);
        }
        // The row behind the step's is left alone.
        Assert.Equal(before[(rows * columns)..], y[(rows * columns)..]);
    }

    [OpenClTheory]
    [InlineData(1, 96, true)]
    [InlineData(6, 1536, true)]
    [InlineData(2, 640, false)]
    public void Add_norm_is_its_twin(int rows, int columns, bool hasNext)
    {
        const float Scale = 0.7f;
        using GpuBench bench = new();
        GpuRows kernels = new(bench.Gpu, bench.Step, Epsilon);
        float[] x = GpuBench.Random(rows * columns, 1), delta = GpuBench.Random(rows * columns, 2, 4), post = GpuBench.Random(columns, 3), next = GpuBench.Random(columns, 4);
        using GpuTensor gx = bench.Tensor(rows, columns, x), gd = bench.Tensor(rows, columns, delta), gn = bench.Tensor(rows, columns, new float[rows * columns]);
        using GpuVector gPost = new(bench.Gpu, post), gNext = new(bench.Gpu, next);

        bench.Begin(rows);
        kernels.AddNorm(gx, gd, gPost, Scale, hasNext ? gNext : null, gn);

        float[] sum = GpuBench.Rows(gx, rows), normed = GpuBench.Rows(gn, rows), change = new float[columns], expected = new float[columns];
        for (int r = 0; r < rows; r++)
        {
            RmsNorm.RowReference(delta.AsSpan(r * columns, columns), post, Epsilon, change);
            float[] row = [.. change.Select((c, i) => (x[r * columns + i] + c) * Scale)];
            RmsNorm.RowReference(row, next, Epsilon, expected);
            for (int i = 0; i < columns; i++)
            {
                Assert.Equal(row[i], sum[r * columns + i], 1e-5f);
                Assert.Equal(hasNext ? expected[i] : 0, normed[r * columns + i], 1e-5f);
            }
        }
    }

    [OpenClFact]
    public void Gate_takes_its_own_layers_input()
    {
        const int Rows = 3, Columns = 32, Layers = 4, Layer = 2;
        using GpuBench bench = new();
        GpuRows kernels = new(bench.Gpu, bench.Step, Epsilon);
        float[] y = GpuBench.Random(Rows * Columns, 1, 6), ple = GpuBench.Random(Rows * Columns * Layers, 2);
        using GpuTensor gy = bench.Tensor(Rows, Columns, y), gp = bench.Tensor(Rows, Columns * Layers, ple);

        bench.Begin(Rows);
        kernels.GateByInput(gy, gp, Layer);

        float[] actual = GpuBench.Rows(gy, Rows);
        for (int i = 0; i < y.Length; i++)
        {
            double x = y[i], gelu = 0.5 * x * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)));
            Assert.Equal(gelu * ple[i / Columns * Columns * Layers + Layer * Columns + i % Columns], actual[i], 1e-5);
        }
    }

    [OpenClFact]
    public void A_kernel_that_does_not_compile_says_why()
    {
        using OpenClContext gpu = new(0, new KernelCache(null));
        // Its group size is missing.
        GpuException e = Assert.Throws<GpuException>(() => gpu.Kernel(new KernelSource("rows.cl"), "rms_norm"));
        Assert.Contains("rows.cl", e.Message);
        Assert.Contains("GROUP", e.Message);
    }

    [OpenClFact]
    public void A_device_that_is_not_there_is_named_beside_those_that_are()
    {
        GpuException e = Assert.Throws<GpuException>(() => new OpenClContext(99));
        Assert.Contains("opencl:99", e.Message);
        Assert.Contains("opencl:0", e.Message);
    }
}
