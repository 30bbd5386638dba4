using System.Globalization;
using GemmaServer.Compute;

namespace GemmaServer.Model;

/// <summary>What the user asked of memory and batch sizes; null is "decide for me".</summary>
/// <param name="KvCacheType">Element type of keys and values.</param>
/// <param name="BlockSize">Tokens in a page of the heaviest layer group.</param>
/// <param name="KvCacheMemory">Bytes for the KV pool.</param>
/// <param name="MaxModelLength">Prompt and answer together, in tokens.</param>
/// <param name="MaxSequences">Sequences that run at once.</param>
/// <param name="MaxBatchTokens">Rows in one step.</param>
public sealed record RunnerOptions(
    KvCacheType KvCacheType, int BlockSize, long? KvCacheMemory, int? MaxModelLength, int MaxSequences, int MaxBatchTokens);

/// <summary>Sizes decided before anything is allocated: the memory plan.</summary>
/// <param name="KvCache">Groups, page shape, page count.</param>
/// <param name="MaxModelLength">Positions of the longest sequence.</param>
/// <param name="MaxSequences">Slots.</param>
/// <param name="MaxBatchTokens">Rows in one step.</param>
/// <param name="WeightBytes">Bytes of all weights: packed by the device, or mapped from the file.</param>
/// <param name="ActivationBytes">Bytes of the step's buffers, about.</param>
/// <param name="Budget">The device's memory.</param>
public sealed record RunnerPlan(
    KvCachePlan KvCache, int MaxModelLength, int MaxSequences, int MaxBatchTokens, long WeightBytes, long ActivationBytes, DeviceBudget Budget)
{
    /// <summary>Bytes of a drafter's weights and buffers, in the two sums too; 0 without one.</summary>
    public long DrafterBytes { get; init; }

    /// <summary>Decides.</summary>
    /// <exception cref="MemoryPlanException">It cannot fit; the message says what would.</exception>
    /// <param name="config">The model.</param>
    /// <param name="weightBytes">Its weights.</param>
    /// <param name="options">What the user asked for.</param>
    /// <param name="budget">The device's memory.</param>
    /// <param name="drafter">A drafter beside it.</param>
    public static RunnerPlan Make(ModelConfig config, long weightBytes, RunnerOptions options, DeviceBudget budget, Checkpoint? drafter = null)
    {
        KvCachePlan shape = KvCachePlanner.Plan(config, options.KvCacheType, options.BlockSize);
        long activations = ActivationEstimate(config, options.MaxBatchTokens, budget);
        long drafterWeights = drafter?.StoredTensors.Sum(static t => t.Bytes) ?? 0;
        long drafterBuffers = drafter is null ? 0 : DrafterModel.BufferBytes(drafter, options.MaxSequences);
        weightBytes += drafterWeights;
        activations += drafterBuffers;
        int wanted = Math.Min(options.MaxModelLength ?? config.ContextLength, config.ContextLength);
        if (options.MaxModelLength > config.ContextLength)
            throw new MemoryPlanException($"--max-model-len {options.MaxModelLength} is more than the model's context of {config.ContextLength} tokens.");

        long free = budget.AvailableBytes - weightBytes - activations;
        if (budget.HoldsWeights && free < shape.PageBytes) throw new MemoryPlanException(DoesNotFit(weightBytes, activations, budget));
        long pool = PoolBytes(options, budget, Math.Max(0, free));
        long pages = Math.Min(pool / shape.PageBytes, int.MaxValue);
        // More than every slot at full length is never used.
        long full = shape.PagesForSequences(options.MaxSequences, wanted, options.MaxBatchTokens);
        pages = Math.Min(pages, full);

        int length = LongestThatFits(shape, wanted, options.MaxBatchTokens, pages);
        if (length < Math.Min(wanted, options.MaxModelLength ?? 256))
        {
            long need = shape.PagesForSequence(options.MaxModelLength ?? Math.Min(wanted, 256), options.MaxBatchTokens) * shape.PageBytes;
            throw new MemoryPlanException(
                $"The KV cache gets {Bytes(pool)}, but one sequence of {options.MaxModelLength ?? Math.Min(wanted, 256)} tokens needs {Bytes(need)}. " +
                $"Raise {(budget.HoldsWeights && options.KvCacheMemory is null ? "--gpu-memory-utilization" : "--kv-cache-memory")}, or lower --max-model-len or --max-num-batched-tokens.");
        }
        return new RunnerPlan(
            shape with { PageCount = (int)pages }, length, options.MaxSequences, options.MaxBatchTokens, weightBytes, activations, budget)
            { DrafterBytes = drafterWeights + drafterBuffers };
    }

    /// <summary>The plan as lines for the log and <c>inspect</c>.</summary>
    public IEnumerable<string> Lines()
    {
        yield return $"weights      {Bytes(WeightBytes),12}  of the file; {(Budget.HoldsWeights ? "all on the device" : "what is multiplied is packed, tables stay mapped")}";
        yield return $"buffers      {Bytes(ActivationBytes),12}  for steps of {MaxBatchTokens} rows";
        if (DrafterBytes > 0) yield return $"  drafter    {Bytes(DrafterBytes),12}  of these";
        long pool = KvCache.PageBytes * KvCache.PageCount;
        // Weights are split where they are larger than a buffer; the pool is one.
        string bound = Budget.HoldsWeights && pool + KvCache.PageBytes > Budget.LargestBuffer ? "; one buffer, and the device gives none larger" : "";
        yield return $"KV cache     {Bytes(pool),12}  {KvCache.PageCount} pages of {Bytes(KvCache.PageBytes)}, {KvCache.Type}{bound}";
        foreach (KvGroup g in KvCache.Groups)
        {
            string kind = g.Window == 0 ? "global" : $"sliding, window {g.Window}";
            yield return $"  group      {g.Layers.Count,3} layers ({kind}): {g.TokensPerPage} tokens a page, {Bytes(g.BytesPerToken)} a token";
        }
        long one = KvCache.PagesForSequence(MaxModelLength, MaxBatchTokens) * KvCache.PageBytes;
        yield return $"model length {MaxModelLength} tokens; a sequence of that length takes {Bytes(one)}; at most {MaxSequences} sequences";
        yield return $"available    {Bytes(Budget.AvailableBytes),12}  {Budget.Origin}".TrimEnd();
    }

    /// <summary>What the user says, within what the device has; where nobody says, the device's share of what is left.</summary>
    private static long PoolBytes(RunnerOptions options, DeviceBudget budget, long free)
    {
        long pool = options.KvCacheMemory ?? (long)(free * budget.KvShare);
        return budget.HoldsWeights ? Math.Min(Math.Min(pool, free), budget.LargestBuffer) : pool;
    }

    private static string DoesNotFit(long weights, long activations, DeviceBudget budget) =>
        $"Weights ({Bytes(weights)}) and buffers ({Bytes(activations)}) leave no room for a KV cache in {Bytes(budget.AvailableBytes)} ({budget.Origin}). " +
        "Raise --gpu-memory-utilization, lower --max-num-batched-tokens, choose a checkpoint in a smaller type, or --device cpu.";

    private static int LongestThatFits(KvCachePlan shape, int wanted, int chunk, long pages)
    {
        int low = 0, high = wanted;
        while (low < high)
        {
            int middle = low + (high - low + 1) / 2;
            if (shape.PagesForSequence(middle, chunk) <= pages) low = middle;
            else high = middle - 1;
        }
        return low;
    }

    private static long ActivationEstimate(ModelConfig c, int rows, DeviceBudget budget)
    {
        long widths = (3L + budget.ScratchWidths) * c.HiddenSize + c.LayerCount * c.PerLayerInputSize;
        widths += c.Layers.Select(l => c.HeadCount * l.HeadDim + 2 * l.KvHeadCount * l.HeadDim).Distinct().Sum();
        widths += c.Layers.Select(l => l.FeedForwardWidth).Distinct().Sum() + c.Layers.Max(l => l.HeadDim) * c.HeadCount;
        widths += (long)c.ExpertsUsed * (c.ExpertWidth + c.HiddenSize);
        return widths * rows * sizeof(float) + (long)budget.LogitRows * c.VocabularySize * sizeof(float) + budget.ScratchBytes;
    }

    internal static string Bytes(long bytes) => bytes switch
    {
        >= 1L << 30 => string.Create(CultureInfo.InvariantCulture, $"{bytes / (double)(1L << 30):0.00} GiB"),
        >= 1L << 20 => string.Create(CultureInfo.InvariantCulture, $"{bytes / (double)(1L << 20):0.0} MiB"),
        >= 1L << 10 => string.Create(CultureInfo.InvariantCulture, $"{bytes / (double)(1L << 10):0.0} KiB"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{bytes} B"),
    };
}

/// <summary>The model cannot run within the memory it is given; the message says what would help.</summary>
public sealed class MemoryPlanException(string message) : Exception(message);
