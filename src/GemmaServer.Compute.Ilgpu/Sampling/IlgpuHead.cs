using ILGPU;
using ILGPU.Runtime;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>
/// The end of a step: final norm, head and soft-cap on the device, then the logits are copied and sampled by the CPU's sampler,
/// which is exact in everything (penalties, bias, bans, masks, top-k, top-p, min-p, logprobs). Costs a copy of
/// 4 · vocabulary bytes for each sampled row and a wait at each step.
/// </summary>
internal sealed class IlgpuHead : IDisposable
{
    private readonly IlgpuRuntime _runtime;
    private readonly IlgpuStep _step;
    private readonly IlgpuMatMul _matMul;
    private readonly IlgpuRows _rows;
    private readonly WorkerPool _workers;
    private readonly CpuMatMul _unused;
    private readonly CpuHead _head;
    private readonly CpuDraftHead _draftHead;
    private SlotState[] _slots = [];
    private int[] _lastSampled = [];
    private IlgpuTensor? _hidden, _logits, _draftRows;
    private CpuTensor? _lastHidden;
    private StepNumbers? _map;

    public IlgpuHead(IlgpuRuntime runtime, IlgpuStep step, IlgpuMatMul matMul, IlgpuRows rows, int threads)
    {
        (_runtime, _step, _matMul, _rows) = (runtime, step, matMul, rows);
        _workers = new WorkerPool(threads);
        _unused = new CpuMatMul(_workers, ActivationType.F32);
        _head = new CpuHead(_workers, _unused);
        _draftHead = new CpuDraftHead(_workers, _unused);
    }

    /// <summary>By slot.</summary>
    public ReadOnlySpan<int> LastSampled => _lastSampled;

    public void Reserve(int maxBatchTokens, int maxSequences, int vocabularySize)
    {
        _logits?.Dispose();
        _map?.Dispose();
        _head.Reserve(CpuDevice.LogitRows, maxBatchTokens, vocabularySize);
        _draftHead.Reserve(maxSequences);
        _logits = new IlgpuTensor(_runtime, CpuDevice.LogitRows, vocabularySize);
        _map = new StepNumbers(_runtime, CpuDevice.LogitRows);
        _slots = new SlotState[maxSequences];
        for (int i = 0; i < maxSequences; i++) _slots[i] = new SlotState();
        _lastSampled = new int[maxSequences];
    }

    public void OpenSlot(int slot, SamplingParams sampling, ReadOnlySpan<int> prompt, ReadOnlySpan<int> output)
    {
        _slots[slot].Open(sampling, prompt, output);
        _lastSampled[slot] = output.IsEmpty ? -1 : output[^1];
    }

    public void CloseSlot(int slot) => _lastSampled[slot] = -1;

    /// <summary>See <see cref="IComputeDevice.Sample"/>.</summary>
    public void Sample(IlgpuTensor x, IlgpuVector norm, IlgpuMatrix head, float softcap, LogitsTap? tap, IlgpuTensor? hidden)
    {
        _hidden ??= new IlgpuTensor(_runtime, CpuDevice.LogitRows, x.Columns);
        if (hidden is not null) _lastHidden ??= new CpuTensor(hidden.Rows, hidden.Columns);
        _workers.BeginStep();
        _head.Run(new Logits(this, x, norm, head, softcap), _step.Host, x.Columns, softcap: 0, _slots, _lastSampled, tap, hidden is null ? null : _lastHidden);
        _workers.EndStep();
        if (hidden is null) return;
        int row = 0;
        foreach (ref readonly SequenceSlice slice in _step.Host.Slices)
        {
            if (slice.DraftsWanted <= 0) continue;
            hidden.WriteRow(row, _lastHidden!.RowSpan(row));
            row++;
        }
    }

    public void Collect(StepResult result) => _head.Deliver(_step.Host, result);

    /// <summary>See <see cref="IComputeDevice.Draft"/>.</summary>
    public bool Draft(
        IlgpuTensor x, IlgpuMatrix head, IlgpuCentroids? centroids, int depth, ReadOnlySpan<int> sequences, StepResult result, LogitsTap? tap)
    {
        _draftRows ??= new IlgpuTensor(_runtime, CpuDevice.LogitRows, x.Columns);
        _workers.BeginStep();
        bool goesOn = _draftHead.Run(new DraftLogits(this, x, head, centroids), _step.Host, depth, _slots, _head.Logits, sequences, result, tap);
        _workers.EndStep();
        // The guesses are the rows' tokens from here on.
        _step.SendTokens();
        return goesOn;
    }

    public void Dispose()
    {
        foreach (IDisposable? d in (IDisposable?[])[_hidden, _logits, _draftRows, _lastHidden, _map]) d?.Dispose();
        _head.Dispose();
        _unused.Dispose();
        _workers.Dispose();
    }

    private readonly struct Logits(IlgpuHead owner, IlgpuTensor x, IlgpuVector norm, IlgpuMatrix head, float softcap) : ILogits
    {
        public void Fill(ReadOnlySpan<int> rows, CpuTensor hidden, CpuTensor logits)
        {
            rows.CopyTo(owner._map!.Host);
            owner._map.Send(rows.Length);
            owner._rows.RmsNormOf(rows.Length, owner._map.View, x, norm, owner._hidden!);
            owner._matMul.Multiply(rows.Length, owner._hidden!, head, owner._logits!);
            if (softcap != 0) owner._rows.SoftCap(rows.Length, owner._logits!, softcap);
            owner._logits!.Download(rows.Length, logits);
            owner._hidden!.Download(rows.Length, hidden);
        }
    }

    private readonly struct DraftLogits(IlgpuHead owner, IlgpuTensor x, IlgpuMatrix head, IlgpuCentroids? centroids) : IDraftLogits
    {
        public void Fill(int firstRow, int count, CpuTensor logits)
        {
            owner._rows.Copy(count, x, firstRow, 1f, owner._draftRows!, 0);
            if (centroids is not null)
            {
                centroids.Multiply(count, owner._draftRows!, head, logits);
                return;
            }
            owner._matMul.Multiply(count, owner._draftRows!, head, owner._logits!);
            owner._logits!.Download(count, logits);
        }
    }
}
