using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using GemmaServer.Compute;
using GemmaServer.Tests;

namespace GemmaServer.GpuChecks;

/// <summary>Single operations through the device contract, as shares of what the device gives at most.</summary>
/// <param name="device">As the tests name it.</param>
/// <param name="peaks">Measured in the same run.</param>
/// <param name="small">Shapes for a processor.</param>
internal sealed unsafe class KernelShares(string device, GpuPeaks peaks, bool small)
{
    // gate and up of 31B in one matrix, and its down; enough copies that no cache holds them.
    private (string Name, int Rows, int Columns)[] Shapes => small ? [("gate and up", 1024, 256)] : [("gate and up", 2 * 21504, 5376), ("down", 5376, 21504)];

    private int[] RowCounts => small ? [1, 64] : [1, 8, 64, 2048];

    private static readonly TensorType[] s_types =
        [TensorType.BF16, TensorType.F16, TensorType.Q8_0, TensorType.Q4_0, TensorType.Q4_K, TensorType.Q5_K, TensorType.Q6_K, TensorType.IQ4_XS, TensorType.MXFP4];

    /// <summary>Products of every weight type.</summary>
    public JsonArray Products(ActivationType activations, DateTime deadline)
    {
        JsonArray results = [];
        foreach ((string name, int outRows, int columns) in Shapes)
        {
            foreach (TensorType type in s_types)
            {
                if (DateTime.UtcNow > deadline) return results;
                using IComputeDevice opened = TestDevices.Open(device, activations);
                Measure(opened, results, name, type, outRows, columns, activations);
            }
        }
        return results;
    }

    private void Measure(IComputeDevice opened, JsonArray results, string name, TensorType type, int outRows, int columns, ActivationType activations)
    {
        int most = RowCounts.Max();
        long bytes = (long)outRows * columns / TensorTypes.BlockLength(type) * TensorTypes.BlockBytes(type);
        byte[] pool = RandomBlocks.Make(type, 1 / Math.Sqrt(columns), new RandomBits(3), 4 << 20);
        byte* memory = (byte*)NativeMemory.AlignedAlloc((nuint)bytes, 64);
        List<IDisposable> owned = [];
        try
        {
            for (long at = 0; at < bytes; at += pool.Length) pool.AsSpan(0, (int)Math.Min(pool.Length, bytes - at)).CopyTo(new Span<byte>(memory + at, pool.Length));
            DeviceMatrix[] matrices = [.. Enumerable.Range(0, 2).Select(_ => opened.LoadMatrix(new TensorSource("weights", type, outRows, columns, (nint)memory, bytes)))];
            owned.AddRange(matrices);
            DeviceTensor x = opened.CreateTensor(most, columns), y = opened.CreateTensor(most, outRows);
            owned.AddRange([x, y]);
            opened.Reserve(most, 1, 1024);
            float[] values = new float[most * columns];
            RandomBits random = new(5);
            foreach (ref float v in values.AsSpan()) v = (float)random.Signed();
            x.Write(values);
            foreach (int rows in RowCounts)
            {
                StepBatch batch = new(most, 1);
                batch.Add(new SequenceSlice { Blocks = new BlockTable(0), PromptLogprobs = -1, NextPromptToken = -1 }, new int[rows]);
                opened.BeginStep(batch);
                double seconds = Best(turn => opened.MatMul(x, matrices[turn % 2], y), () => y.Read(stackalloc float[1]), rows > 64 ? 4 : 20);
                double operations = 2.0 * rows * outRows * columns, peak = peaks.MatrixPerSecond > 0 ? peaks.MatrixPerSecond : peaks.FloatPerSecond;
                results.Add((JsonNode)new JsonObject
                {
                    ["kernel"] = $"product {type}", ["shape"] = $"{name} {outRows} x {columns}", ["rows"] = rows, ["activations"] = activations.ToString(),
                    ["us"] = Math.Round(seconds * 1e6, 2),
                    ["share_of_copy_bandwidth"] = Math.Round(bytes / seconds / peaks.CopyBytesPerSecond, 4),
                    ["share_of_peak"] = Math.Round(operations / seconds / peak, 4),
                });
            }
        }
        finally
        {
            foreach (IDisposable thing in owned) thing.Dispose();
            NativeMemory.AlignedFree(memory);
        }
    }

    // The layers of 31B, and the global ones of 12B and E4B: (heads, their key/value heads, a head's elements, those of a key, window).
    private (string Name, int Heads, int KvHeads, int Dim, int KeyDim, int Window)[] AttentionShapes => small
        ? [("sliding", 4, 2, 64, 64, 40), ("global", 4, 1, 64, 16, 0)]
        : [("31B sliding", 32, 16, 256, 256, 1024), ("31B global", 32, 4, 512, 128, 0), ("12B global", 16, 1, 512, 128, 0), ("E4B global", 8, 2, 512, 512, 0)];

    /// <summary>A prompt's attention over an f16 cache: its first rows, and as many behind three times that.</summary>
    public JsonArray Attention(ActivationType activations, DateTime deadline)
    {
        JsonArray results = [];
        int rows = small ? 64 : 2048;
        foreach ((string name, int heads, int kvHeads, int dim, int keyDim, int window) in AttentionShapes)
        {
            if (DateTime.UtcNow > deadline) return results;
            AttentionPlan plan = new(heads, kvHeads, dim, window, 0, 0, 0, OwnsKv: true, ValueIsKey: keyDim < dim, keyDim);
            Measure(results, name, plan, rows, chunks: 4, activations);
        }
        return results;
    }

    private void Measure(JsonArray results, string name, AttentionPlan plan, int rows, int chunks, ActivationType activations)
    {
        const int TokensPerPage = 16;
        using IComputeDevice opened = TestDevices.Open(device, activations);
        int pages = chunks * rows / TokensPerPage;
        long bytes = KvLayout.BytesPerToken(KvCacheType.F16, plan.KvHeadCount, plan.HeadDim, plan.KeyDim);
        opened.AddRope([.. Enumerable.Range(0, plan.HeadDim / 2).Select(i => i < plan.KeyDim / 2 ? (float)Math.Pow(1e4, -2.0 * i / plan.HeadDim) : 0f)]);
        using DeviceKvCache cache = opened.CreateKvCache(new KvCachePlan([new KvGroup([0], plan.Window, TokensPerPage, bytes)], bytes * TokensPerPage, pages, KvCacheType.F16), _ => plan);
        opened.Reserve(rows, 1, 1024);
        float[] ones = new float[plan.HeadDim];
        Array.Fill(ones, 1f);
        fixed (float* p = ones)
        {
            using DeviceVector norm = opened.LoadVector(new TensorSource("norm", TensorType.F32, 1, ones.Length, (nint)p, ones.Length * sizeof(float)));
            using DeviceTensor qkv = opened.CreateTensor(rows, plan.QkvWidth), y = opened.CreateTensor(rows, plan.QueryWidth);
            BlockTable table = new(1);
            for (int page = 0; page < pages; page++) table.Add(0, (page * 7 + 3) % pages);
            float[] values = new float[rows * plan.QkvWidth];
            RandomBits random = new(5);
            foreach (ref float v in values.AsSpan()) v = (float)random.Signed();
            for (int chunk = 0; chunk < chunks; chunk++)
            {
                int context = chunk * rows;
                StepBatch batch = new(rows, 1);
                batch.Add(new SequenceSlice { ContextLength = context, Blocks = table, PromptLogprobs = -1, NextPromptToken = -1 }, new int[rows]);
                opened.BeginStep(batch);
                qkv.Write(values);
                opened.NormRopeStore(plan, norm, norm, qkv, cache);
                if (chunk > 0 && chunk < chunks - 1) continue;
                double seconds = Best(_ => opened.Attend(plan, qkv, cache, y), () => y.Read(stackalloc float[1]), 4), seen = 0;
                for (int row = 0; row < rows; row++) seen += plan.Window > 0 ? Math.Min(plan.Window, context + row + 1) : context + row + 1;
                double operations = 4 * seen * plan.QueryWidth, peak = peaks.MatrixPerSecond > 0 ? peaks.MatrixPerSecond : peaks.FloatPerSecond;
                results.Add((JsonNode)new JsonObject
                {
                    ["kernel"] = "attention F16", ["shape"] = $"{name}: {plan.HeadCount} heads of {plan.HeadDim}, {plan.KvHeadCount} of keys, window {plan.Window}",
                    ["rows"] = rows, ["context"] = context, ["activations"] = activations.ToString(),
                    ["us"] = Math.Round(seconds * 1e6, 2), ["share_of_peak"] = Math.Round(operations / seconds / peak, 4),
                });
            }
        }
    }

    /// <summary>Seconds of one call: the best of five rounds, each of many calls that are waited for once.</summary>
    private static double Best(Action<int> call, Action wait, int calls)
    {
        double best = double.MaxValue;
        for (int round = 0; round < 6; round++)
        {
            wait();
            long start = Stopwatch.GetTimestamp();
            for (int i = 0; i < calls; i++) call(i);
            wait();
            if (round > 0) best = Math.Min(best, Stopwatch.GetElapsedTime(start).TotalSeconds / calls);
        }
        return best;
    }
}
