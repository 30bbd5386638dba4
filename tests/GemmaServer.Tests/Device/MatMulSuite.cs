using GemmaServer.Compute;

namespace GemmaServer.Tests.Device;

/// <summary>Products of every device beside the CPU's.</summary>
[Trait("Category", "Device")]
public sealed class MatMulSuite
{
    private const int Outputs = 70;

    private static readonly TensorType[] s_types = [TensorType.F32, TensorType.BF16, TensorType.Q4_0, TensorType.Q8_0, TensorType.Q4_K, TensorType.Q6_K];

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void Exact_products(string device)
    {
        using DevicePair pair = new(device);
        Compare(pair, pair.Exact, pair.Tested);
    }

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void Integer_products(string device)
    {
        using DevicePair pair = new(device, ActivationType.Int8);
        using CpuDevice integers = new(1, ActivationType.Int8);
        Compare(pair, integers, pair.Tested);
    }

    [DeviceTheory]
    [MemberData(nameof(TestDevices.Gpus), MemberType = typeof(TestDevices))]
    public void Products_of_matrices_larger_than_a_buffer(string device)
    {
        using DevicePair pair = new(device, adjust: static o => o with { LargestPart = 4096 });
        Compare(pair, pair.Exact, pair.Tested);
    }

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void Parts_of_several_types(string device)
    {
        const int Columns = 256;
        using DevicePair pair = new(device);
        TestWeight q = pair.Weight(TensorType.Q4_K, 48, Columns, 1), k = pair.Weight(TensorType.Q8_0, 16, Columns, 2), v = pair.Weight(TensorType.F16, 16, Columns, 3);
        float[] x = DevicePair.Random(4 * Columns, 4);
        float[][] results = pair.Both(d =>
        {
            using DeviceMatrix w = d.LoadMatrix(q.Source, k.Source, v.Source);
            d.Reserve(16, 4, 64);
            return Run(d, x, 3, Columns, 80, (input, output) => d.MatMul(input, w, output));
        });
        DevicePair.AssertClose(results[0], results[1], 1e-5f);
    }

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void A_gate_of_the_layers_own_input(string device)
    {
        const int Columns = 96, Width = 32, Layers = 3;
        using DevicePair pair = new(device);
        TestWeight gate = pair.Weight(TensorType.Q8_0, Width, Columns, 1);
        float[] x = DevicePair.Random(3 * Columns, 4), inputs = DevicePair.Random(3 * Width * Layers, 5);
        float[][] results = pair.Both(d =>
        {
            using DeviceMatrix w = d.LoadMatrix(gate.Source);
            using DeviceTensor ple = d.CreateTensor(3, Width * Layers);
            d.Reserve(16, 4, 64);
            ple.Write(inputs);
            return Run(d, x, 3, Columns, Width, (input, output) => d.PerLayerGate(input, w, ple, 1, output));
        });
        DevicePair.AssertClose(results[0], results[1], 1e-5f);
    }

    /// <summary>Plain and gated, of few rows and of many, for some types.</summary>
    private static void Compare(DevicePair pair, IComputeDevice expected, IComputeDevice actual)
    {
        IComputeDevice[] devices = [expected, actual];
        foreach (IComputeDevice d in devices) d.Reserve(16, 4, 64);
        foreach (TensorType type in s_types)
        {
            int columns = TestWeight.ColumnsFor(type);
            TestWeight weight = pair.Weight(type, Outputs, columns, (int)type);
            foreach (int rows in (int[])[3, 12])
            {
                // Small enough that gelu does not square the differences.
                float[] x = DevicePair.Random(rows * columns, rows, 0.2f);
                float[][] plain = new float[2][], gated = new float[2][];
                for (int i = 0; i < 2; i++)
                {
                    IComputeDevice d = devices[i];
                    using DeviceMatrix w = d.LoadMatrix(weight.Source);
                    plain[i] = Run(d, x, rows, columns, Outputs, (input, output) => d.MatMul(input, w, output));
                    gated[i] = Run(d, x, rows, columns, Outputs / 2, (input, output) => d.GatedMatMul(input, w, output));
                }
                DevicePair.AssertClose(plain[0], plain[1], 1e-5f);
                DevicePair.AssertClose(gated[0], gated[1], 5e-5f);
            }
        }
    }

    /// <summary>A step of sequences of one row where they fit, so that a device may round their number up; else of one sequence.</summary>
    private static float[] Run(IComputeDevice d, float[] x, int rows, int columns, int outputs, Action<DeviceTensor, DeviceTensor> multiply)
    {
        using DeviceTensor input = d.CreateTensor(16, columns), output = d.CreateTensor(16, outputs);
        input.Write(x.AsSpan(0, rows * columns));
        output.Write(new float[16 * outputs]);
        StepBatch batch = new(16, 4);
        for (int s = 0; s < (rows <= 4 ? rows : 1); s++)
            batch.Add(new SequenceSlice { Slot = s, Blocks = new BlockTable(0), PromptLogprobs = -1, NextPromptToken = -1 }, new int[rows <= 4 ? 1 : rows]);
        d.BeginStep(batch);
        multiply(input, output);
        float[] all = DevicePair.Rows(output, 16);
        Assert.All(all[(rows * outputs)..], v => Assert.Equal(0, v));
        return all[..(rows * outputs)];
    }
}
