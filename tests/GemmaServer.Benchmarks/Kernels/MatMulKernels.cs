using GemmaServer.Compute;

namespace GemmaServer.Benchmarks;

/// <summary>Matrix products of every weight type, for one row and for many.</summary>
/// <param name="timer">How long to look.</param>
/// <param name="threads">Of the device.</param>
/// <param name="types">Of the weights.</param>
internal sealed class MatMulKernels(KernelTimer timer, int threads, IReadOnlyList<TensorType> types)
{
    /// <summary>Rows of x: a decode, two batches of decodes, a chunk of a prompt.</summary>
    private static readonly int[] s_rows = [1, 8, 16, KernelStep.MaxRows];

    /// <summary>Weights that one run after the other goes through: more than any cache holds.</summary>
    private const long Spread = 400L << 20;

    /// <summary>E2B's gate and up in one matrix, and its down.</summary>
    private static readonly (string Name, int Rows, int Columns)[] s_shapes = [("gate and up", 2 * 6144, 1536), ("down", 1536, 6144)];

    public IEnumerable<KernelResult> Run(ActivationType activations)
    {
        using KernelStep step = new(threads, activations, vocabulary: 1024);
        Dictionary<int, DeviceTensor> inputs = s_shapes.ToDictionary(static s => s.Columns, s => step.Random(s.Columns));
        Dictionary<int, DeviceTensor> outputs = s_shapes.ToDictionary(static s => s.Rows, s => step.Empty(s.Rows));
        BlockTable blocks = new(1);
        foreach (TensorType type in types)
        {
            foreach ((string name, int outRows, int columns) in s_shapes)
            {
                long bytes = KernelStep.MatrixBytes(type, outRows, columns);
                int count = (int)Math.Max(2, Spread / bytes);
                using HugeBuffer buffer = new(count * bytes);
                KernelStep.Fill(buffer, type);
                DeviceMatrix[] matrices = [.. Enumerable.Range(0, count).Select(i => step.Device.LoadMatrix(KernelStep.Source(buffer, i * bytes, type, outRows, columns)))];
                foreach (int m in s_rows)
                {
                    step.BeginChunk(m, 0, blocks);
                    double seconds = timer.Best(turn => step.Device.MatMul(inputs[columns], matrices[turn % count], outputs[outRows]));
                    // Plain floats are multiplied as floats whatever the setting.
                    bool isInteger = activations == ActivationType.Int8 && type is not (TensorType.F32 or TensorType.F16 or TensorType.BF16);
                    yield return new(KernelResult.ProductPrefix + type, $"{name} {outRows} × {columns}", m, seconds, bytes, 2.0 * m * outRows * columns, isInteger);
                }
                foreach (DeviceMatrix matrix in matrices) matrix.Dispose();
            }
        }
    }
}
