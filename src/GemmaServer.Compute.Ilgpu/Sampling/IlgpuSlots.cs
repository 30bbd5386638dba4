using ILGPU;
using ILGPU.Runtime;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>
/// What the sampler keeps of the sequences, by slot: parameters and how many tokens were generated on the host, and on the device
/// counts of tokens where penalties need them.
/// </summary>
internal sealed class IlgpuSlots : IDisposable
{
    private const int FirstPlaces = 4;

    private readonly IlgpuRuntime _runtime;
    private readonly Action<KernelConfig, int, int, ArrayView<int>, ArrayView<ushort>> _count;
    private readonly int _vocabulary;
    private readonly IlgpuSlot[] _slots;
    private readonly StepNumbers _entries;
    private readonly int[] _lastSampled;
    private MemoryBuffer1D<ushort, Stride1D.Dense> _counts;
    private bool[] _isTaken = [];
    private int _waiting;

    public IlgpuSlots(IlgpuRuntime runtime, int slots, int vocabulary)
    {
        (_runtime, _vocabulary, _lastSampled) = (runtime, vocabulary, new int[slots]);
        _count = runtime.Load("counts of tokens", static a => a.LoadStreamKernel<int, int, ArrayView<int>, ArrayView<ushort>>(SamplingKernels.Count));
        _slots = new IlgpuSlot[slots];
        for (int i = 0; i < slots; i++) _slots[i] = new IlgpuSlot();
        _entries = new StepNumbers(runtime, 3 * Math.Max(256, slots));
        _counts = runtime.Allocate<ushort>(1);
    }

    public IlgpuSlot this[int slot] => _slots[slot];

    public ReadOnlySpan<int> LastSampled => _lastSampled;

    /// <summary>See <see cref="SamplingKernels.Penalise"/>.</summary>
    public ArrayView<ushort> Counts => _counts.View;

    public void Open(int slot, SamplingParams sampling, ReadOnlySpan<int> prompt, ReadOnlySpan<int> output)
    {
        Close(slot);
        IlgpuSlot facts = _slots[slot];
        facts.State.Open(sampling, prompt, output);
        facts.SumBiases();
        _lastSampled[slot] = output.IsEmpty ? -1 : output[^1];
        if (!sampling.HasPenalties) return;
        // What waits may be of a sequence that had the place before.
        SendCounts();
        facts.Place = Take();
        _counts.View.SubView((long)facts.Place * _vocabulary, _vocabulary).MemSetToZero();
        _entries.Ensure(3 * facts.State.Counts.Count);
        foreach ((int token, int count) in facts.State.Counts) Add(facts.Place, token, count);
        SendCounts();
    }

    public void Close(int slot)
    {
        IlgpuSlot facts = _slots[slot];
        if (facts.Place >= 0) _isTaken[facts.Place] = false;
        facts.Place = -1;
        _lastSampled[slot] = -1;
    }

    /// <summary>A token was sampled.</summary>
    public void Commit(int slot, int token)
    {
        IlgpuSlot facts = _slots[slot];
        facts.State.Commit(token);
        _lastSampled[slot] = token;
        if (facts.Place < 0) return;
        int count = facts.State.Counts[token];
        // Lanes write at the same time, so a token that came twice in a step has one entry.
        for (int i = 0; i < _waiting; i++)
        {
            if (_entries.Host[3 * i] != facts.Place || _entries.Host[3 * i + 1] != token) continue;
            _entries.Host[3 * i + 2] = Stored(count);
            return;
        }
        if (3 * (_waiting + 1) > _entries.Host.Length) SendCounts();
        Add(facts.Place, token, count);
    }

    /// <summary>Brings the counts up to date.</summary>
    public void SendCounts()
    {
        if (_waiting == 0) return;
        _entries.Send(3 * _waiting);
        _count(_runtime.Flat(_waiting), _waiting, _vocabulary, _entries.View, _counts.View);
        _waiting = 0;
    }

    public void Dispose()
    {
        _entries.Dispose();
        _counts.Dispose();
    }

    private static int Stored(int count) => Math.Min(count + 1, ushort.MaxValue);

    private void Add(int place, int token, int count)
    {
        int at = 3 * _waiting++;
        (_entries.Host[at], _entries.Host[at + 1], _entries.Host[at + 2]) = (place, token, Stored(count));
    }

    /// <summary>A place for counts; more are made when all are taken.</summary>
    private int Take()
    {
        int place = Array.IndexOf(_isTaken, false);
        if (place < 0)
        {
            place = _isTaken.Length;
            int places = Math.Min(_slots.Length, Math.Max(FirstPlaces, 2 * place));
            MemoryBuffer1D<ushort, Stride1D.Dense> larger = _runtime.Allocate<ushort>((long)places * _vocabulary);
            if (place > 0) _counts.View.SubView(0, (long)place * _vocabulary).CopyTo(larger.View.SubView(0, (long)place * _vocabulary));
            _runtime.Finish();
            _counts.Dispose();
            _counts = larger;
            Array.Resize(ref _isTaken, places);
        }
        _isTaken[place] = true;
        return place;
    }
}

/// <summary>A sequence's part of the sampler.</summary>
internal sealed class IlgpuSlot
{
    public SlotState State { get; } = new();

    public SamplingParams Sampling => State.Sampling;

    /// <summary>Added to logits; each token once.</summary>
    public List<(int Token, float Bias)> Biases { get; } = [];

    /// <summary>Where its tokens are counted; −1 without penalties.</summary>
    public int Place { get; set; } = -1;

    public void SumBiases()
    {
        Biases.Clear();
        for (int i = 0; i < Sampling.LogitBias.Count; i++)
        {
            (int token, float bias) = Sampling.LogitBias[i];
            int known = Biases.FindIndex(b => b.Token == token);
            if (known < 0) Biases.Add((token, bias));
            else Biases[known] = (token, Biases[known].Bias + bias);
        }
    }

    public bool IsEnd(int token)
    {
        for (int i = 0; i < Sampling.EndTokens.Count; i++)
            if (Sampling.EndTokens[i] == token) return true;
        return false;
    }
}
