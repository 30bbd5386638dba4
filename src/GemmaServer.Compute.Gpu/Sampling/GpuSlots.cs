using System.Runtime.InteropServices;

namespace GemmaServer.Compute;

/// <summary>
/// What the sampler keeps of the sequences on the device, by slot: how many tokens were generated, the lists of its parameters,
/// and counts of tokens where penalties need them. Numbers of the parameters go with each step's rows (<see cref="GpuOutputs"/>).
/// Kernels: <c>head.cl</c>.
/// </summary>
/// <remarks>
/// A slot may be opened while steps run: what it writes is queued behind them. The staging memory is a slot's own, and its old
/// contents may still wait to be copied only where nobody will ask for what comes of it: the sequence before is gone.
/// </remarks>
internal sealed unsafe class GpuSlots : IDisposable
{
    private const int FirstSlotInts = 128, FirstPlaces = 4;

    private readonly GpuContext _gpu;
    private readonly GpuKernel _writeCounts, _copyCounts;
    private readonly int _slots, _vocabulary;
    private readonly SlotFacts[] _facts;
    private readonly Dictionary<int, int> _seen = [];
    private readonly List<(int Token, float Bias)> _biases = [];
    private PinnedBuffer _staging;
    private GpuBuffer _pairs;
    private bool[] _isTaken = [];

    public GpuSlots(GpuContext gpu, KernelSource source, int slots, int vocabularySize)
    {
        (_gpu, _slots, _vocabulary) = (gpu, slots, vocabularySize);
        (_writeCounts, _copyCounts) = (gpu.Kernel(source, "write_counts"), gpu.Kernel(source, "copy_counts"));
        _facts = new SlotFacts[slots];
        for (int i = 0; i < slots; i++) _facts[i] = new SlotFacts();
        SlotInts = FirstSlotInts;
        _staging = gpu.AllocatePinned(Bytes);
        _staging.Span<int>().Clear();
        State = gpu.Allocate(Bytes, "sampling state");
        gpu.Clear(State, Bytes);
    }

    /// <summary><c>[slots][SlotInts]</c>: tokens generated, (token, bias) pairs, banned tokens, end tokens.</summary>
    public GpuBuffer State { get; private set; }

    /// <summary>Grows when a slot's lists are longer.</summary>
    public int SlotInts { get; private set; }

    /// <summary><c>[places][vocabulary]</c> of ushort: 0 for a token not seen, else one more than its occurrences in the output. None before a slot has penalties.</summary>
    public GpuBuffer Counts { get; private set; }

    private long Bytes => (long)_slots * SlotInts * sizeof(int);

    public SlotFacts this[int slot] => _facts[slot];

    public void Open(int slot, SamplingParams sampling, ReadOnlySpan<int> prompt, ReadOnlySpan<int> output)
    {
        Close(slot);
        SumBiases(sampling);
        SlotFacts facts = _facts[slot];
        (facts.Sampling, facts.Biases) = (sampling, _biases.Count);
        int ints = 1 + 2 * _biases.Count + sampling.BannedTokens.Count + sampling.EndTokens.Count;
        if (ints > SlotInts) Widen(ints);

        Span<int> about = _staging.Span<int>().Slice(slot * SlotInts, SlotInts);
        int at = 0;
        about[at++] = output.Length;
        foreach ((int token, float bias) in _biases) (about[at++], about[at++]) = (token, BitConverter.SingleToInt32Bits(bias));
        for (int i = 0; i < sampling.BannedTokens.Count; i++) about[at++] = sampling.BannedTokens[i];
        for (int i = 0; i < sampling.EndTokens.Count; i++) about[at++] = sampling.EndTokens[i];
        long offset = (long)slot * SlotInts * sizeof(int);
        _gpu.Write(State, offset, _staging, offset, (long)at * sizeof(int));
        if (sampling.HasPenalties) Count(facts, prompt, output);
    }

    public void Close(int slot)
    {
        SlotFacts facts = _facts[slot];
        if (facts.Place >= 0) _isTaken[facts.Place] = false;
        facts.Place = -1;
    }

    public void Dispose()
    {
        _staging.Dispose();
        foreach (GpuBuffer buffer in (GpuBuffer[])[State, Counts, _pairs])
            if (!buffer.IsNone) _gpu.Free(buffer);
    }

    /// <summary>One entry a token: lanes add them at the same time.</summary>
    private void SumBiases(SamplingParams sampling)
    {
        _biases.Clear();
        for (int i = 0; i < sampling.LogitBias.Count; i++)
        {
            (int token, float bias) = sampling.LogitBias[i];
            int known = _biases.FindIndex(b => b.Token == token);
            if (known < 0) _biases.Add((token, bias));
            else _biases[known] = (token, _biases[known].Bias + bias);
        }
    }

    private void Widen(int ints)
    {
        int before = SlotInts, after = Math.Max(ints, 2 * SlotInts);
        int[] state = new int[_slots * before];
        fixed (int* p = state) _gpu.Download(p, State, 0, Bytes);
        _gpu.Finish();
        _staging.Dispose();
        _gpu.Free(State);
        SlotInts = after;
        _staging = _gpu.AllocatePinned(Bytes);
        State = _gpu.Allocate(Bytes, "sampling state");
        Span<int> staged = _staging.Span<int>();
        staged.Clear();
        for (int s = 0; s < _slots; s++) state.AsSpan(s * before, before).CopyTo(staged[(s * after)..]);
        _gpu.Upload(State, 0, _staging.Pointer, Bytes);
    }

    private void Count(SlotFacts facts, ReadOnlySpan<int> prompt, ReadOnlySpan<int> output)
    {
        facts.Place = Take();
        _copyCounts.Begin().Add(Counts).Add(Counts).Add(_vocabulary).Add(facts.Place).Add(0).Run(64, 64);
        _seen.Clear();
        foreach (int token in prompt) _seen.TryAdd(token, 1);
        foreach (int token in output)
        {
            ref int count = ref CollectionsMarshal.GetValueRefOrAddDefault(_seen, token, out bool isKnown);
            count = isKnown ? Math.Min(count + 1, ushort.MaxValue) : 2;
        }
        if (_seen.Count == 0) return;
        int[] pairs = new int[2 * _seen.Count];
        int at = 0;
        foreach ((int token, int count) in _seen) (pairs[at++], pairs[at++]) = (token, count);
        long bytes = (long)pairs.Length * sizeof(int);
        if (_pairs.Bytes < bytes)
        {
            _gpu.Finish();
            if (!_pairs.IsNone) _gpu.Free(_pairs);
            _pairs = _gpu.Allocate(Math.Max(bytes, 2 * _pairs.Bytes), "sampling state");
        }
        fixed (int* p = pairs) _gpu.Upload(_pairs, 0, p, bytes);
        _writeCounts.Begin().Add(_pairs).Add(Counts).Add(_seen.Count).Add(facts.Place).Add(_vocabulary).Run(64, (_seen.Count + 63) / 64);
    }

    /// <summary>A place for counts; more are made when all are taken.</summary>
    private int Take()
    {
        int place = Array.IndexOf(_isTaken, false);
        if (place < 0)
        {
            place = _isTaken.Length;
            int places = Math.Min(_slots, Math.Max(FirstPlaces, 2 * place));
            GpuBuffer larger = _gpu.Allocate((long)places * _vocabulary * sizeof(ushort), "token counts for penalties");
            for (int p = 0; p < place; p++) _copyCounts.Begin().Add(Counts).Add(larger).Add(_vocabulary).Add(p).Add(1).Run(64, 64);
            _gpu.Finish();
            if (!Counts.IsNone) _gpu.Free(Counts);
            Counts = larger;
            Array.Resize(ref _isTaken, places);
        }
        _isTaken[place] = true;
        return place;
    }
}

/// <summary>What the host knows of a slot.</summary>
internal sealed class SlotFacts
{
    public SamplingParams Sampling { get; set; } = new();

    /// <summary>Tokens with a bias.</summary>
    public int Biases { get; set; }

    /// <summary>Where its tokens are counted; −1 without penalties.</summary>
    public int Place { get; set; } = -1;

    public bool IsEnd(int token)
    {
        for (int i = 0; i < Sampling.EndTokens.Count; i++)
            if (Sampling.EndTokens[i] == token) return true;
        return false;
    }
}
