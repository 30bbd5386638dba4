using ILGPU;
using ILGPU.Runtime;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>A drafter's clustered head, spec §4.4: scores and logits on the device, the choice of clusters on the host.</summary>
internal sealed class IlgpuCentroids : DeviceCentroids
{
    private readonly IlgpuRuntime _runtime;
    private readonly IlgpuMatMul _matMul;
    private readonly IlgpuMatrix _vectors;
    private readonly int[] _ordering;
    private readonly IlgpuTensor _scores;
    private readonly CpuTensor _hostScores;
    private readonly StepNumbers _picks;
    private readonly MemoryBuffer1D<float, Stride1D.Dense> _picked;
    private readonly float[] _hostPicked;
    private readonly CandidateHeap _heap = new();

    public IlgpuCentroids(IlgpuRuntime runtime, IlgpuMatMul matMul, IlgpuMatrix vectors, int[] ordering, int used) : base(vectors.Rows, used)
    {
        (_runtime, _matMul, _vectors, _ordering) = (runtime, matMul, vectors, ordering);
        _scores = new IlgpuTensor(runtime, CpuDevice.LogitRows, vectors.Rows);
        _hostScores = new CpuTensor(CpuDevice.LogitRows, vectors.Rows);
        int picks = CpuDevice.LogitRows * Picks;
        _picks = new StepNumbers(runtime, picks);
        _picked = runtime.Allocate<float>(picks);
        _hostPicked = new float[picks];
    }

    /// <summary>Tokens that get logits.</summary>
    private int Picks => Used * (_ordering.Length / Count);

    /// <summary>Logits of the best clusters' tokens, −∞ for the others.</summary>
    public void Multiply(int rows, IlgpuTensor x, IlgpuMatrix head, CpuTensor logits)
    {
        int size = _ordering.Length / Count;
        _matMul.Multiply(rows, x, _vectors, _scores);
        _scores.Download(rows, _hostScores);
        for (int row = 0; row < rows; row++)
        {
            _heap.Select(_hostScores.RowSpan(row), Used);
            // Fewer than used only where scores are no numbers; cluster 0 then comes more than once, which does no harm.
            for (int i = 0; i < Used; i++)
            {
                int cluster = i < _heap.Items.Length ? _heap.Items[i].Token : 0;
                _ordering.AsSpan(cluster * size, size).CopyTo(_picks.Host.AsSpan(row * Picks + i * size));
            }
        }
        _picks.Send(rows * Picks);
        _matMul.MultiplyPicked(rows, Picks, x, head, _picks.View, _picked.View);
        _runtime.Finish();
        _picked.View.AsContiguous().SubView(0, rows * Picks).CopyToCPU(ref _hostPicked[0], rows * Picks);
        for (int row = 0; row < rows; row++)
        {
            Span<float> y = logits.RowSpan(row);
            y.Fill(float.NegativeInfinity);
            for (int i = row * Picks; i < (row + 1) * Picks; i++) y[_picks.Host[i]] = _hostPicked[i];
        }
    }

    public override void Dispose()
    {
        foreach (IDisposable d in (IDisposable[])[_vectors, _scores, _hostScores, _picks, _picked]) d.Dispose();
    }
}
