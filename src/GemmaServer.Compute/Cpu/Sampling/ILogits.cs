namespace GemmaServer.Compute;

/// <summary>Where the head's logits come from; a struct each, so that a step allocates nothing.</summary>
internal interface ILogits
{
    /// <summary>Puts the final norm of each row into <paramref name="hidden"/> and its logits into <paramref name="logits"/>, from their first rows on.</summary>
    void Fill(ReadOnlySpan<int> rows, CpuTensor hidden, CpuTensor logits);
}

/// <summary>The CPU's own: norm and product.</summary>
internal readonly struct CpuLogits(WorkerPool workers, CpuMatMul matMul, CpuTensor x, float[] norm, float epsilon, CpuWeights head) : ILogits
{
    public unsafe void Fill(ReadOnlySpan<int> rows, CpuTensor hidden, CpuTensor logits)
    {
        fixed (int* numbers = rows)
        {
            GatherNormJob gather = new(numbers, x, norm, epsilon, hidden);
            workers.Run(ref gather, rows.Length);
        }
        matMul.Multiply(hidden.Input(rows.Length), head, 0, head.Rows, logits.All, logits.Columns);
    }

    private readonly unsafe struct GatherNormJob(int* rows, CpuTensor x, float[] norm, float epsilon, CpuTensor hidden) : IWorkerJob
    {
        public void Execute(int item, int worker) => RmsNorm.Row(x.RowSpan(rows[item]), norm, epsilon, hidden.RowSpan(item));
    }
}

/// <summary>Where a drafter's logits come from.</summary>
internal interface IDraftLogits
{
    /// <summary>Puts the logits of some of the step's rows into the first rows of <paramref name="logits"/>.</summary>
    void Fill(int firstRow, int count, CpuTensor logits);
}

/// <summary>The CPU's own: a product with the whole table, or with the best clusters' rows.</summary>
internal readonly struct CpuDraftLogits(WorkerPool workers, CpuMatMul matMul, CpuTensor x, CpuWeights head, CpuCentroids? centroids) : IDraftLogits
{
    public void Fill(int firstRow, int count, CpuTensor logits)
    {
        InputRows rows = new(x.All[(firstRow * x.Columns)..], count, x.Columns);
        if (centroids is null) matMul.Multiply(rows, head, 0, head.Rows, logits.All, logits.Columns);
        else centroids.Multiply(workers, matMul, rows, head, logits);
    }
}
