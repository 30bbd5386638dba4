using GemmaServer.Compute;

namespace GemmaServer.Model;

/// <summary>What the memory plan needs to know of a device.</summary>
/// <param name="AvailableBytes">What weights, buffers and KV pool may take together.</param>
/// <param name="Origin">Where that number comes from, for the plan's last line.</param>
public sealed record DeviceBudget(long AvailableBytes, string Origin)
{
    /// <summary>Share of what is left beside weights and buffers that the KV pool takes when nobody says how much.</summary>
    public double KvShare { get; init; } = 1;

    /// <summary>Bytes that one allocation may have: OpenCL drivers give a part of the memory at most.</summary>
    public long LargestBuffer { get; init; } = long.MaxValue;

    /// <summary>Rows of logits that the device computes at a time.</summary>
    public required int LogitRows { get; init; }

    /// <summary>Device memory for each row of a step beside the recipe's own buffers, times the model's hidden size: scratch of products and attention.</summary>
    public int ScratchWidths { get; init; }

    /// <summary>Device memory beside the recipe's buffers, whatever the step.</summary>
    public long ScratchBytes { get; init; }

    /// <summary>Whether all weights lie in the device's memory: the plan is refused where they cannot, and the KV pool is bounded by what they leave.</summary>
    public bool HoldsWeights { get; init; }

    /// <summary>The processor: weights may stay mapped, and other programs want memory too.</summary>
    /// <param name="availableBytes">What the container or machine gives the process.</param>
    public static DeviceBudget Cpu(long availableBytes) => new(availableBytes, "") { KvShare = 0.5, LogitRows = CpuDevice.LogitRows };

    /// <summary>A GPU: everything lies on it.</summary>
    /// <param name="totalBytes">Its memory.</param>
    /// <param name="freeBytes">What others and the driver leave of it.</param>
    /// <param name="utilization">The share that this process may use.</param>
    /// <param name="sharesHostMemory">Whether its memory is the machine's: a processor's driver.</param>
    public static DeviceBudget Gpu(long totalBytes, long freeBytes, double utilization, bool sharesHostMemory)
    {
        long share = (long)(totalBytes * utilization);
        string origin = $"{utilization * 100:0.#} % of {RunnerPlan.Bytes(totalBytes)} (--gpu-memory-utilization)";
        if (freeBytes < share) (share, origin) = (freeBytes, $"free of {RunnerPlan.Bytes(totalBytes)}; others use the rest");
        return new DeviceBudget(share, origin)
        {
            HoldsWeights = true, LogitRows = GpuLogitRows, ScratchWidths = GpuScratchWidths, ScratchBytes = GpuScratchBytes,
            // Other programs want the machine's memory too.
            KvShare = sharesHostMemory ? 0.5 : 1,
        };
    }

    // About what GpuHead (32 rows of logits, twice), GpuMatMul (rows in bytes) and GpuAttention (sums of chunks), token counts for
    // penalties and a piece of the weights while they are loaded take.
    private const int GpuLogitRows = 64, GpuScratchWidths = 8;
    private const long GpuScratchBytes = 192L << 20;
}
