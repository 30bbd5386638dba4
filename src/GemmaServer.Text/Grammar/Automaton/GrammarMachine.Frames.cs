using System.Runtime.InteropServices;

namespace GemmaServer.Text;

/// <summary>Frames, and which of them no token can tell apart.</summary>
internal sealed partial class GrammarMachine
{
    /// <summary>Ways to return in one frame; beyond, some are left out: fewer texts are possible then, but each is a right one.</summary>
    private const int MaxReturns = 256;

    /// <summary>Frames with more returns are like no other: which of theirs are left out in the end depends on counts.</summary>
    private const int MaxLikened = 4;

    private readonly Return[] _likened = new Return[MaxLikened];
    private bool _hasLeftOut;

    /// <summary>
    /// A state that the same tokens may follow: the counts of repetitions are as low as they can be without a token telling the
    /// difference, so that the middle of a long string has one mask.
    /// </summary>
    public GrammarState Like(GrammarState state)
    {
        if (state.Like is { } known) return known;
        if (_hasLeftOut) return state.Like = state;
        foreach (Place place in state.Places) _kept.Add(place with { Frame = place.Frame.Like! });
        GrammarState like = _store.StateOf(CollectionsMarshal.AsSpan(_kept), state.IsComplete);
        _kept.Clear();
        like.Like = like;
        return state.Like = like;
    }

    private Frame Merged(int start, int end)
    {
        _returns.Clear();
        for (int i = start; i < end; i++) _returns.AddRange(_places[i].Frame.Returns);
        return FrameOf(_returns);
    }

    private Frame FrameOf(List<Return> returns)
    {
        Span<Return> span = CollectionsMarshal.AsSpan(returns);
        if (span.Length > 1) span = Unique(span);
        if (span.Length > MaxReturns)
        {
            span = span[..MaxReturns];
            _hasLeftOut = true;
        }
        Work += span.Length;
        Frame frame = _store.FrameOf(span, out bool isNew);
        if (isNew) frame.Like = LikeOf(frame);
        return frame;
    }

    /// <summary>Takes counts that no token can bring to a bound for the lowest that is as far from all bounds.</summary>
    private Frame LikeOf(Frame frame)
    {
        ReadOnlySpan<Return> returns = frame.Returns;
        if (returns.Length > MaxLikened) return frame;
        Span<Return> like = _likened.AsSpan(0, returns.Length);
        for (int i = 0; i < returns.Length; i++)
            like[i] = returns[i] with { Count = CountLike(returns[i]), Caller = returns[i].Caller?.Like };
        if (like.SequenceEqual(returns)) return frame;
        Frame found = _store.FrameOf(like.Length > 1 ? Unique(like) : like, out _);
        return found.Like = found;
    }

    private int CountLike(Return way)
    {
        if (way.Call < 0 || !_tables.Calls[way.Call].Spec.IsCounted) return way.Count;
        CallSpec spec = _tables.Calls[way.Call].Spec;
        if (way.Count < spec.Min) return way.Count + _mostRounds < spec.Min ? 0 : way.Count;
        return way.Count < spec.Max - _mostRounds ? spec.Min : way.Count;
    }

    private static Span<Return> Unique(Span<Return> returns)
    {
        returns.Sort(static (a, b) =>
            a.Call != b.Call ? a.Call.CompareTo(b.Call)
            : a.Count != b.Count ? a.Count.CompareTo(b.Count)
            : (a.Caller?.Id ?? -1).CompareTo(b.Caller?.Id ?? -1));
        int count = 1;
        for (int i = 1; i < returns.Length; i++)
            if (returns[i] != returns[count - 1]) returns[count++] = returns[i];
        return returns[..count];
    }
}
