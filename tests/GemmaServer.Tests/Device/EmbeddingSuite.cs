using GemmaServer.Compute;

namespace GemmaServer.Tests.Device;

/// <summary>Table lookups of every device beside the CPU's.</summary>
[Trait("Category", "Device")]
public sealed class EmbeddingSuite
{
    private static readonly int[] s_tokens = [4, 0, 9, 4, 7];

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void Rows_of_every_type_are_bit_for_bit_the_same(string device)
    {
        using DevicePair pair = new(device);
        pair.Both(static d => d.Reserve(s_tokens.Length, 2, 64));
        foreach (TensorType type in Enum.GetValues<TensorType>())
        {
            int columns = TestWeight.ColumnsFor(type);
            TestWeight weight = pair.Weight(type, 10, columns, (int)type);
            float[] before = DevicePair.Random(s_tokens.Length * 24, 3);
            float[][] results = pair.Both(d =>
            {
                using DeviceMatrix table = d.LoadTable(weight.Source);
                using DeviceTensor x = d.CreateTensor(s_tokens.Length, columns), beside = d.CreateTensor(s_tokens.Length, 24);
                using DeviceTensor y = d.CreateTensor(s_tokens.Length, columns + 24);
                beside.Write(before);
                Begin(d);
                d.Embed(table, 7.5f, x);
                d.EmbedBeside(table, 0.75f, beside, y);
                return (float[])[.. DevicePair.Rows(x, s_tokens.Length), .. DevicePair.Rows(y, s_tokens.Length)];
            });
            Assert.Equal(results[0], results[1]);
            Assert.Equal(weight.Row(s_tokens[2])[5] * 7.5f, results[1][2 * columns + 5]);
        }
    }

    [DeviceTheory]
    [MemberData(nameof(TestDevices.Gpus), MemberType = typeof(TestDevices))]
    public void A_table_larger_than_a_buffer_is_looked_up_in_its_parts(string device)
    {
        // Two rows of 192 bytes to a part, beside what rounding planes may take.
        const int Columns = 96, Rows = 10;
        using DevicePair pair = new(device, adjust: static o => o with { LargestPart = 2 * 2 * Columns + 1024 });
        pair.Both(static d => d.Reserve(s_tokens.Length, 2, 64));
        TestWeight weight = pair.Weight(TensorType.BF16, Rows, Columns, 5);
        float[] before = DevicePair.Random(s_tokens.Length * 24, 3);
        float[][] results = pair.Both(d =>
        {
            using DeviceMatrix table = d.LoadTable(weight.Source);
            if (table is GpuMatrix m) Assert.Equal([0, 2, 4, 6, 8], m.Parts.Select(static p => p.FirstRow));
            using DeviceTensor x = d.CreateTensor(s_tokens.Length, Columns), beside = d.CreateTensor(s_tokens.Length, 24);
            using DeviceTensor y = d.CreateTensor(s_tokens.Length, Columns + 24);
            beside.Write(before);
            Begin(d);
            d.Embed(table, 7.5f, x);
            d.EmbedBeside(table, 0.75f, beside, y);
            return (float[])[.. DevicePair.Rows(x, s_tokens.Length), .. DevicePair.Rows(y, s_tokens.Length)];
        });
        Assert.Equal(results[0], results[1]);
    }

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void Inputs_of_the_layers(string device) => CheckInputs(device, long.MaxValue);

    [DeviceTheory]
    [MemberData(nameof(TestDevices.Gpus), MemberType = typeof(TestDevices))]
    public void Inputs_of_the_layers_from_a_table_in_parts(string device) => CheckInputs(device, 2048);

    private static void CheckInputs(string device, long largestPart)
    {
        using DevicePair pair = new(device, adjust: o => o with { LargestPart = largestPart });
        pair.Both(static d => d.Reserve(s_tokens.Length, 2, 64));
        // The second one's layers end within groups of 32 columns.
        foreach ((TensorType type, int layers, int width) in ((TensorType, int, int)[])[(TensorType.Q5_K, 3, 256), (TensorType.F16, 5, 20)])
        {
            TestWeight weight = pair.Weight(type, 10, layers * width, 1), scale = pair.Weight(TensorType.F32, 1, width, 2);
            float[] before = DevicePair.Random(s_tokens.Length * layers * width, 3);
            float[][] results = pair.Both(d =>
            {
                using DeviceMatrix table = d.LoadTable(weight.Source);
                using DeviceVector norm = d.LoadVector(scale.Source);
                using DeviceTensor ple = d.CreateTensor(s_tokens.Length, layers * width);
                ple.Write(before);
                Begin(d);
                d.PerLayerInputs(ple, 0.3f, norm, table, 16);
                return DevicePair.Rows(ple, s_tokens.Length);
            });
            DevicePair.AssertClose(results[0], results[1], 1e-5f);
        }
    }

    private static void Begin(IComputeDevice d)
    {
        StepBatch batch = new(s_tokens.Length, 2);
        batch.Add(new SequenceSlice { Blocks = new BlockTable(0), PromptLogprobs = -1, NextPromptToken = -1 }, s_tokens);
        d.BeginStep(batch);
    }
}
