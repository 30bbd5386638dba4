using GemmaServer.Compute;

namespace GemmaServer.Engine;

/// <summary>A step on its way: the batch, and whose slice is whose. Two of them take turns, because one may be in flight while the next is filled.</summary>
internal sealed class ScheduledStep(int maxTokens, int maxSequences)
{
    private readonly Sequence[] _sequences = new Sequence[maxSequences];

    public StepBatch Batch { get; } = new(maxTokens, maxSequences);

    public StepTicket Ticket { get; set; }

    /// <summary>When it was launched: a timestamp of <see cref="System.Diagnostics.Stopwatch"/>.</summary>
    public long LaunchedAt { get; set; }

    /// <summary>Whether every sequence in it decodes.</summary>
    public bool IsDecode { get; private set; } = true;

    public int Count => Batch.SequenceCount;

    /// <summary>In the batch's order.</summary>
    public ReadOnlySpan<Sequence> Sequences => _sequences.AsSpan(0, Count);

    public void Add(Sequence sequence, in SequenceSlice slice, ReadOnlySpan<int> tokens)
    {
        _sequences[Count] = sequence;
        Batch.Add(slice, tokens);
        IsDecode &= slice.Sample && tokens.Length == 1 + slice.Drafts;
        sequence.Launched(slice, tokens.Length);
    }

    public void Clear()
    {
        Array.Clear(_sequences, 0, Count);
        Batch.Clear();
        IsDecode = true;
    }
}
