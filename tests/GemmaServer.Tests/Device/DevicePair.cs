using GemmaServer.Compute;

namespace GemmaServer.Tests.Device;

/// <summary>
/// A device beside the CPU's exact one: what is made here is made on both, and what comes out is held against each other. Only
/// through the contract, so that every device passes the same tests.
/// </summary>
internal sealed class DevicePair : IDisposable
{
    private readonly List<TestWeight> _weights = [];

    /// <param name="name">The tested device.</param>
    /// <param name="activations">Its arithmetic.</param>
    /// <param name="batchInvariant">Whether its rows do not depend on the batch.</param>
    /// <param name="adjust">Changes what else it is opened with, if it is one of <see cref="TestDevices.Gpus"/>.</param>
    public DevicePair(string name, ActivationType activations = ActivationType.F32, bool batchInvariant = false, Func<GpuOptions, GpuOptions>? adjust = null)
    {
        Tested = TestDevices.Open(name, activations, batchInvariant, adjust);
        Exact = new CpuDevice(1, ActivationType.F32);
    }

    public IComputeDevice Tested { get; }

    public IComputeDevice Exact { get; }

    /// <summary>Runs the same on both, the exact one first.</summary>
    public T[] Both<T>(Func<IComputeDevice, T> run) => [run(Exact), run(Tested)];

    /// <summary>Runs the same on both, the exact one first.</summary>
    public void Both(Action<IComputeDevice> run)
    {
        run(Exact);
        run(Tested);
    }

    /// <summary>A random weight; lives as long as the pair.</summary>
    public TestWeight Weight(TensorType type, int rows, int columns, int seed)
    {
        TestWeight weight = new(type, rows, columns, seed);
        _weights.Add(weight);
        return weight;
    }

    public static float[] Random(int count, int seed, float spread = 1)
    {
        Random random = new(seed);
        return [.. Enumerable.Range(0, count).Select(_ => (float)((random.NextDouble() - 0.5) * 2 * spread))];
    }

    /// <summary>The first rows of a tensor.</summary>
    public static float[] Rows(DeviceTensor tensor, int rows)
    {
        float[] values = new float[rows * tensor.Columns];
        tensor.Read(values);
        return values;
    }

    /// <summary>Holds two results against each other: a part of the greatest value, not of each.</summary>
    public static void AssertClose(float[] expected, float[] actual, float relative)
    {
        Assert.Equal(expected.Length, actual.Length);
        float scale = Math.Max(1e-6f, expected.Max(Math.Abs));
        for (int i = 0; i < expected.Length; i++)
            Assert.True(Math.Abs(expected[i] - actual[i]) <= relative * scale, $"[{i}]: {actual[i]} instead of {expected[i]}, greatest {scale}");
    }

    public void Dispose()
    {
        Tested.Dispose();
        Exact.Dispose();
        GC.KeepAlive(_weights);
    }
}
