using GemmaServer.Compute;

namespace GemmaServer.Tests.Device;

/// <summary>Mixture of experts of every device beside the CPU's.</summary>
[Trait("Category", "Device")]
public sealed class ExpertSuite
{
    /// <param name="Experts">Experts to choose from.</param>
    /// <param name="Used">Experts of a row.</param>
    /// <param name="Hidden">Columns of the residual.</param>
    /// <param name="Width">Columns of an expert.</param>
    private readonly record struct Shape(int Experts, int Used, int Hidden, int Width);

    private static readonly Shape s_small = new(8, 3, 256, 96);

    public static TheoryData<string, bool> DevicesInvariantOrNot
    {
        get
        {
            TheoryData<string, bool> data = [];
            foreach (string device in TestDevices.Names)
                foreach (bool invariant in (bool[])[false, true]) data.Add(device, invariant);
            return data;
        }
    }

    public static TheoryData<string, TensorType> Types => TypesOn(TestDevices.Names);

    public static TheoryData<string, TensorType> TypesInBf16 => TypesOn(TestDevices.RoundingToBf16);

    private static TheoryData<string, TensorType> TypesOn(IEnumerable<string> devices)
    {
        TheoryData<string, TensorType> data = [];
        foreach (string device in devices)
            foreach (TensorType type in Enum.GetValues<TensorType>()) data.Add(device, type);
        return data;
    }

    [DeviceTheory]
    [MemberData(nameof(DevicesInvariantOrNot))]
    public void Any_number_of_rows(string device, bool invariant)
    {
        using DevicePair pair = new(device, batchInvariant: invariant);
        using Layer layer = new(pair, s_small, TensorType.BF16, TensorType.F32, split: false);
        Layer.Reserve(pair);
        foreach (int rows in (int[])[1, 2, 3, 8, 9, 33, 42, 43, 70])
        {
            (float[] x, float[] normed) = Inputs(s_small, rows);
            float[][] results = pair.Both(d => layer.Run(d, rows, x, normed));
            DevicePair.AssertClose(results[0], results[1], 1e-5f);
        }
    }

    [DeviceTheory]
    [MemberData(nameof(Types))]
    public void Every_type_alone_and_among_others(string device, TensorType type)
    {
        // A row of the down projection must hold whole blocks of its type.
        Shape shape = new(8, 3, 512, TensorTypes.BlockLength(type) == 256 ? 256 : 96);
        using DevicePair pair = new(device);
        using Layer layer = new(pair, shape, type, type, split: false);
        Layer.Reserve(pair);
        foreach (int rows in (int[])[1, 12, 60])
        {
            (float[] x, float[] normed) = Inputs(shape, rows);
            float[][] results = pair.Both(d => layer.Run(d, rows, x, normed));
            DevicePair.AssertClose(results[0], results[1], 1e-5f);
        }
    }

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void Gate_up_and_down_may_be_of_different_types(string device)
    {
        foreach (ActivationType activations in (ActivationType[])[ActivationType.F32, ActivationType.Int8])
        {
            foreach ((TensorType gate, TensorType up) in ((TensorType, TensorType)[])[(TensorType.Q8_0, TensorType.BF16), (TensorType.BF16, TensorType.Q8_0)])
            {
                using DevicePair pair = new(device, activations);
                using Layer layer = new(pair, s_small, gate, TensorType.Q4_0, split: true, up: up);
                Layer.Reserve(pair);
                foreach (int rows in (int[])[1, 12, 60])
                {
                    (float[] x, float[] normed) = Inputs(s_small, rows);
                    float[][] results = pair.Both(d => layer.Run(d, rows, x, normed));
                    DevicePair.AssertClose(results[0], results[1], activations == ActivationType.Int8 ? 0.02f : 1e-5f);
                }
            }
        }
    }

    [DeviceTheory]
    [MemberData(nameof(TestDevices.Gpus), MemberType = typeof(TestDevices))]
    public void Mixtures_larger_than_a_buffer(string device)
    {
        // An expert's gate and up have 52,224 bytes, its down projection 26,112: parts of one and two of the eight, or of three and six.
        foreach ((ActivationType activations, long largestPart) in ((ActivationType, long)[])
            [(ActivationType.F32, 60_000), (ActivationType.Int8, 170_000), (ActivationType.BF16, 170_000)])
        {
            using DevicePair pair = new(device, activations, adjust: o => o with { LargestPart = largestPart });
            using Layer layer = new(pair, s_small, TensorType.Q8_0, TensorType.Q8_0, split: false);
            Layer.Reserve(pair);
            foreach (int rows in (int[])[1, 20, 150])
            {
                (float[] x, float[] normed) = Inputs(s_small, rows);
                float[][] results = pair.Both(d => layer.Run(d, rows, x, normed));
                DevicePair.AssertClose(results[0], results[1], activations switch { ActivationType.F32 => 1e-5f, ActivationType.BF16 => 0.01f, _ => 0.02f });
            }
        }
    }

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void Widths_that_are_no_whole_groups(string device)
    {
        Shape shape = new(8, 3, 70, 50);
        using DevicePair pair = new(device);
        using Layer layer = new(pair, shape, TensorType.F16, TensorType.F32, split: false);
        Layer.Reserve(pair);
        foreach (int rows in (int[])[1, 12, 60])
        {
            (float[] x, float[] normed) = Inputs(shape, rows);
            float[][] results = pair.Both(d => layer.Run(d, rows, x, normed));
            DevicePair.AssertClose(results[0], results[1], 1e-5f);
        }
    }

    [DeviceTheory]
    [MemberData(nameof(Types))]
    public void Activations_of_bytes_come_close(string device, TensorType type)
    {
        Shape shape = new(8, 3, 512, TensorTypes.BlockLength(type) == 256 ? 256 : 96);
        using DevicePair pair = new(device, ActivationType.Int8);
        using Layer layer = new(pair, shape, type, type, split: true);
        Layer.Reserve(pair);
        foreach (int rows in (int[])[1, 12, 60])
        {
            (float[] x, float[] normed) = Inputs(shape, rows);
            float[][] results = pair.Both(d => layer.Run(d, rows, x, normed));
            DevicePair.AssertClose(results[0], results[1], 0.02f);
        }
    }

    [RoundingTheory]
    [MemberData(nameof(TypesInBf16))]
    public void Activations_of_bf16_come_close(string device, TensorType type)
    {
        Shape shape = new(4, 3, 512, TensorTypes.BlockLength(type) == 256 ? 256 : 96);
        using DevicePair pair = new(device, ActivationType.BF16);
        using Layer layer = new(pair, shape, type, type, split: true);
        Layer.Reserve(pair);
        foreach (int rows in (int[])[1, 40])
        {
            (float[] x, float[] normed) = Inputs(shape, rows);
            float[][] results = pair.Both(d => layer.Run(d, rows, x, normed));
            DevicePair.AssertClose(results[0], results[1], 0.01f);
        }
    }

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void Tiles_of_every_size_in_bf16(string device)
    {
        Shape shape = new(2, 2, 64, 160);
        using DevicePair pair = new(device, ActivationType.BF16);
        foreach (TensorType type in (TensorType[])[TensorType.BF16, TensorType.Q8_0])
        {
            using Layer layer = new(pair, shape, type, type, split: false);
            Layer.Reserve(pair);
            foreach (int rows in (int[])[10, 20, 60, 150])
            {
                (float[] x, float[] normed) = Inputs(shape, rows);
                float[][] results = pair.Both(d => layer.Run(d, rows, x, normed));
                DevicePair.AssertClose(results[0], results[1], 0.01f);
            }
        }
    }

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void The_shape_of_the_large_model(string device)
    {
        // 26B-A4B has 128 experts and a down projection of another type, because its width, 704 there, is no multiple of 256.
        Shape shape = new(128, 8, 256, 96);
        using DevicePair pair = new(device);
        using Layer layer = new(pair, shape, TensorType.Q4_K, TensorType.Q5_0, split: false);
        Layer.Reserve(pair);
        foreach (int rows in (int[])[1, 20, 70])
        {
            (float[] x, float[] normed) = Inputs(shape, rows);
            float[][] results = pair.Both(d => layer.Run(d, rows, x, normed));
            DevicePair.AssertClose(results[0], results[1], 1e-5f);
        }
    }

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void Decode_steps_are_as_long_as_their_rows(string device)
    {
        // A device may launch for more rows than a decode step has.
        foreach (ActivationType activations in (ActivationType[])[ActivationType.F32, ActivationType.Int8])
        {
            using DevicePair pair = new(device, activations);
            using Layer layer = new(pair, s_small, TensorType.Q4_0, TensorType.Q8_0, split: false);
            Layer.Reserve(pair);
            foreach (int rows in (int[])[43, 3, 17, 1, 2])
            {
                (float[] x, float[] normed) = Inputs(s_small, rows);
                float[][] results = pair.Both(d => layer.Run(d, rows, x, normed, isDecode: true));
                DevicePair.AssertClose(results[0], results[1], activations == ActivationType.Int8 ? 0.02f : 1e-5f);
                Assert.Equal(results[0][(rows * s_small.Hidden)..], results[1][(rows * s_small.Hidden)..]);
            }
        }
    }

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void One_expert_has_all_rows(string device)
    {
        const int Rows = 70;
        using DevicePair pair = new(device);
        using Layer layer = new(pair, s_small with { Used = 1 }, TensorType.Q8_0, TensorType.Q4_0, split: true);
        Layer.Reserve(pair);
        (_, float[] normed) = Inputs(s_small, Rows);
        float[] same = DevicePair.Random(s_small.Hidden, 9);
        float[] x = [.. Enumerable.Range(0, Rows).SelectMany(_ => same)];
        float[][] results = pair.Both(d => layer.Run(d, Rows, x, normed));
        DevicePair.AssertClose(results[0], results[1], 1e-5f);
    }

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void Of_equal_scores_the_lower_experts_win(string device)
    {
        const int Rows = 5;
        using DevicePair pair = new(device);
        using Layer layer = new(pair, s_small, TensorType.F16, TensorType.F16, split: false);
        Layer.Reserve(pair);
        (_, float[] normed) = Inputs(s_small, Rows);
        // Rows of zeros: every score is zero.
        float[] x = new float[Rows * s_small.Hidden];
        float[][] results = pair.Both(d => layer.Run(d, Rows, x, normed));
        DevicePair.AssertClose(results[0], results[1], 1e-5f);
    }

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void A_row_is_the_same_whatever_is_beside_it(string device)
    {
        const int Rows = 37;
        int hidden = s_small.Hidden;
        foreach (ActivationType activations in (ActivationType[])[ActivationType.F32, ActivationType.Int8])
        {
            using DevicePair pair = new(device, activations, batchInvariant: true);
            using Layer layer = new(pair, s_small, TensorType.Q4_0, TensorType.Q8_0, split: false);
            Layer.Reserve(pair);
            (float[] x, float[] normed) = Inputs(s_small, Rows);
            float[] all = layer.Run(pair.Tested, Rows, x, normed);
            foreach (int row in (int[])[0, 17, 36])
            {
                Range range = (row * hidden)..((row + 1) * hidden);
                float[] alone = layer.Run(pair.Tested, 1, x[range], normed[range]);
                Assert.Equal(alone[..hidden], all[range]);
            }
        }
    }

    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public void Layers_follow_each_other(string device)
    {
        // The choice of one layer is gone when the next one chooses, and both share what they write to.
        const int Rows = 20;
        using DevicePair pair = new(device);
        using Layer first = new(pair, s_small, TensorType.BF16, TensorType.BF16, split: false);
        using Layer second = new(pair, s_small, TensorType.Q8_0, TensorType.F16, split: true, seed: 50);
        Layer.Reserve(pair);
        (float[] x, float[] normed) = Inputs(s_small, Rows);
        float[][] results = pair.Both(d => (float[])[.. first.Run(d, Rows, x, normed), .. second.Run(d, Rows, x, normed)]);
        DevicePair.AssertClose(results[0], results[1], 1e-5f);
    }

    /// <summary>What the router reads and what the experts read: rows of different sizes.</summary>
    private static (float[] X, float[] Normed) Inputs(Shape shape, int rows) =>
        (DevicePair.Random(rows * shape.Hidden, 100 + rows, 5), DevicePair.Random(rows * shape.Hidden, 200 + rows));

    /// <summary>The weights of one mixture on both devices.</summary>
    private sealed class Layer : IDisposable
    {
        private const int MaxRows = 152, MaxSequences = 48;

        private readonly DevicePair _pair;
        private readonly Shape _shape;
        private readonly Loaded _exact, _tested;

        public Layer(DevicePair pair, Shape shape, TensorType gateUp, TensorType down, bool split, int seed = 1, TensorType? up = null)
        {
            (_pair, _shape) = (pair, shape);
            int rows = shape.Experts * shape.Width;
            TestWeight[] matrices =
            [
                pair.Weight(TensorType.F32, shape.Experts, shape.Hidden, seed),
                pair.Weight(gateUp, split ? rows : 2 * rows, shape.Hidden, seed + 1),
                pair.Weight(down, shape.Experts * shape.Hidden, shape.Width, seed + 2),
                .. split ? [pair.Weight(up ?? gateUp, rows, shape.Hidden, seed + 3)] : (TestWeight[])[],
            ];
            TestWeight routerScale = pair.Weight(TensorType.F32, 1, shape.Hidden, seed + 4), expertScale = pair.Weight(TensorType.F32, 1, shape.Experts, seed + 5);
            Loaded[] both = pair.Both(d => new Loaded(
                d.LoadMatrix(matrices[0].Source), d.LoadVector(routerScale.Source), d.LoadVector(expertScale.Source),
                d.LoadMatrix(Stacked(matrices[1])), split ? d.LoadMatrix(Stacked(matrices[3])) : null, d.LoadMatrix(Stacked(matrices[2]))));
            (_exact, _tested) = (both[0], both[1]);

            TensorSource Stacked(TestWeight w) => w.Source with { Stacks = shape.Experts };
        }

        /// <summary>As a model does: once, when its weights are there.</summary>
        public static void Reserve(DevicePair pair) => pair.Both(d => d.Reserve(MaxRows, MaxSequences, 64));

        /// <summary>All rows of the output, also those behind the step: they keep what they held.</summary>
        public float[] Run(IComputeDevice d, int rows, float[] x, float[] normed, bool isDecode = false)
        {
            Loaded w = d == _pair.Exact ? _exact : _tested;
            using DeviceTensor gx = d.CreateTensor(MaxRows, _shape.Hidden), gn = d.CreateTensor(MaxRows, _shape.Hidden), gy = d.CreateTensor(MaxRows, _shape.Hidden);
            gx.Write(x);
            gn.Write(normed);
            gy.Write(DevicePair.Random(MaxRows * _shape.Hidden, 300, 0.1f));
            StepBatch batch = new(MaxRows, MaxSequences);
            for (int s = 0; s < (isDecode ? rows : 1); s++)
                batch.Add(new SequenceSlice { Slot = s, Blocks = new BlockTable(0), PromptLogprobs = -1, NextPromptToken = -1 }, new int[isDecode ? 1 : rows]);
            d.BeginStep(batch);
            d.Route(gx, w.RouterScale, w.Router, w.ExpertScale, _shape.Used);
            d.Experts(gn, w.Gate, w.Up, w.Down, _shape.Width, gy);
            return DevicePair.Rows(gy, MaxRows);
        }

        public void Dispose()
        {
            foreach (Loaded w in (Loaded[])[_exact, _tested])
                foreach (IDisposable? part in (IDisposable?[])[w.Router, w.RouterScale, w.ExpertScale, w.Gate, w.Up, w.Down]) part?.Dispose();
        }

        private sealed record Loaded(DeviceMatrix Router, DeviceVector RouterScale, DeviceVector ExpertScale, DeviceMatrix Gate, DeviceMatrix? Up, DeviceMatrix Down);
    }
}
