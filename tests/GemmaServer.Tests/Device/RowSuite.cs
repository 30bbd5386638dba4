using GemmaServer.Compute;

namespace GemmaServer.Tests.Device;

/// <summary>Norms of every device: the CPU's are held against their twins elsewhere.</summary>
[Trait("Category", "Device")]
public sealed class RowSuite
{
    private const int Rows = 5;

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void Norms_of_a_layer(string device)
    {
        const int Columns = 96;
        using DevicePair pair = new(device);
        TestWeight w = pair.Weight(TensorType.F32, 1, Columns, 1);
        float[] x = DevicePair.Random(Rows * Columns, 2, 3), delta = DevicePair.Random(Rows * Columns, 3);

        float[][] results = pair.Both(d =>
        {
            using DeviceTensor gx = d.CreateTensor(Rows, Columns), gd = d.CreateTensor(Rows, Columns), gn = d.CreateTensor(Rows, Columns);
            using DeviceVector norm = d.LoadVector(w.Source);
            d.Reserve(Rows, 2, 64);
            gx.Write(x);
            gd.Write(delta);
            StepBatch batch = new(Rows, 2);
            batch.Add(new SequenceSlice { Blocks = new BlockTable(0), PromptLogprobs = -1, NextPromptToken = -1 }, new int[Rows]);
            d.BeginStep(batch);
            d.RmsNormAdd(gd, norm, gx);
            gd.Write(delta);
            d.AddNorm(gx, gd, norm, 0.5f, norm, gn);
            return (float[])[.. DevicePair.Rows(gx, Rows), .. DevicePair.Rows(gn, Rows)];
        });
        DevicePair.AssertClose(results[0], results[1], 1e-5f);
    }
}
