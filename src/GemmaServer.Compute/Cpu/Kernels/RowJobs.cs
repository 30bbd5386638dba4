using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>Rotation angles of the step's rows.</summary>
internal readonly struct RopeJob(Rope rope, CpuStep step) : IWorkerJob
{
    public void Execute(int item, int worker) => rope.Prepare(item, step.Position(item));
}

/// <summary>x = table[token] · scale.</summary>
internal readonly struct EmbedJob(CpuStep step, CpuWeights table, float scale, CpuTensor x) : IWorkerJob
{
    public void Execute(int item, int worker)
    {
        Span<float> row = x.RowSpan(item);
        table.DecodeRow(step.Tokens[item], row);
        RowMath.Scale(row, scale);
    }
}

/// <summary>y = [table[token] · scale | x].</summary>
internal readonly struct EmbedBesideJob(CpuStep step, CpuWeights table, float scale, CpuTensor x, CpuTensor y) : IWorkerJob
{
    public void Execute(int item, int worker)
    {
        Span<float> row = y.RowSpan(item), embedding = row[..table.Columns];
        table.DecodeRow(step.Tokens[item], embedding);
        RowMath.Scale(embedding, scale);
        x.RowSpan(item).CopyTo(row[table.Columns..]);
    }
}

/// <summary>See <see cref="IComputeDevice.PerLayerInputs"/>.</summary>
internal readonly unsafe struct PerLayerInputsJob(
    CpuStep step, CpuTensor ple, float contextScale, float[] norm, CpuWeights table, float tableScale, float epsilon, float* scratch)
    : IWorkerJob
{
    private static readonly float InverseRootTwo = 1f / MathF.Sqrt(2f);

    public void Execute(int item, int worker)
    {
        int width = norm.Length;
        Span<float> token = new(scratch + (long)worker * ple.Columns, ple.Columns);
        table.DecodeRow(step.Tokens[item], token);
        Span<float> row = ple.RowSpan(item);
        RowMath.Scale(row, contextScale);
        for (int at = 0; at < row.Length; at += width)
        {
            Span<float> layer = row.Slice(at, width);
            RmsNorm.Row(layer, norm, epsilon, layer);
            for (int i = 0; i < width; i++) layer[i] = (layer[i] + token[at + i] * tableScale) * InverseRootTwo;
        }
    }
}

/// <summary>y = RMS(x; w), or y += RMS(x; w).</summary>
internal readonly struct RmsNormJob(CpuTensor x, float[] w, CpuTensor y, float epsilon, bool add) : IWorkerJob
{
    public void Execute(int item, int worker)
    {
        if (!add)
        {
            RmsNorm.Row(x.RowSpan(item), w, epsilon, y.RowSpan(item));
            return;
        }
        RmsNorm.Row(x.RowSpan(item), w, epsilon, x.RowSpan(item));
        RowMath.Add(y.RowSpan(item), x.RowSpan(item));
    }
}

/// <summary>Residual add with post-norm and layer scale, then the next pre-norm: one pass while the row is in cache.</summary>
internal readonly struct AddNormJob(CpuTensor x, CpuTensor delta, float[] post, float scale, float[]? next, CpuTensor normed, float epsilon)
    : IWorkerJob
{
    public void Execute(int item, int worker)
    {
        Span<float> row = x.RowSpan(item), change = delta.RowSpan(item);
        RmsNorm.Row(change, post, epsilon, change);
        RowMath.Add(row, change);
        if (scale != 1f) RowMath.Scale(row, scale);
        if (next is not null) RmsNorm.Row(row, next, epsilon, normed.RowSpan(item));
    }
}

/// <summary>y = gelu_tanh(y) ⊙ ple[:, layer].</summary>
internal readonly struct PerLayerGateJob(CpuTensor ple, int layer, CpuTensor y) : IWorkerJob
{
    public void Execute(int item, int worker)
    {
        Span<float> gate = y.RowSpan(item);
        Span<float> input = ple.RowSpan(item).Slice(layer * gate.Length, gate.Length);
        FastMath.GeluTanhMultiply(gate, input, gate);
    }
}

/// <summary>Loops over one row.</summary>
internal static class RowMath
{
    public static void Scale(Span<float> x, float factor)
    {
        int i = 0;
        for (; i + 16 <= x.Length; i += 16) (Vector512.Create<float>(x.Slice(i, 16)) * factor).CopyTo(x[i..]);
        for (; i < x.Length; i++) x[i] *= factor;
    }

    /// <summary>x · y.</summary>
    public static float Dot(ReadOnlySpan<float> x, ReadOnlySpan<float> y)
    {
        Vector512<float> sum = default;
        int i = 0;
        for (; i + 16 <= x.Length; i += 16) sum = Vector512.FusedMultiplyAdd(Vector512.Create(x.Slice(i, 16)), Vector512.Create(y.Slice(i, 16)), sum);
        float total = Vector512.Sum(sum);
        for (; i < x.Length; i++) total = MathF.FusedMultiplyAdd(x[i], y[i], total);
        return total;
    }

    public static void Add(Span<float> x, ReadOnlySpan<float> y)
    {
        int i = 0;
        for (; i + 16 <= x.Length; i += 16) (Vector512.Create<float>(x.Slice(i, 16)) + Vector512.Create(y.Slice(i, 16))).CopyTo(x[i..]);
        for (; i < x.Length; i++) x[i] += y[i];
    }
}
