using System.Numerics;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>The n best tokens of a row of logits without sorting it; ties go to the lower id.</summary>
internal sealed class CandidateHeap
{
    // Binary min-heap on (logit, −id): the root is the worst candidate kept.
    private (float Logit, int Token)[] _items = new (float, int)[64];
    private int _count;

    private float[] _logits = [];    // what may be among the best after capping
    private int[] _tokens = [];
    private int _collected;

    /// <summary>Best first after a selection.</summary>
    public ReadOnlySpan<(float Logit, int Token)> Items => _items.AsSpan(0, _count);

    /// <summary>Finds the <paramref name="n"/> best finite logits, best first.</summary>
    public void Select(ReadOnlySpan<float> logits, int n)
    {
        n = Begin(Math.Min(n, logits.Length));
        Scan(logits, 0, n);
        Sort();
    }

    /// <summary>As <see cref="Select(ReadOnlySpan{float}, int)"/>, knowing the greatest logit of each of the row's <see cref="LogitBlocks"/>.</summary>
    /// <param name="logits">A row.</param>
    /// <param name="maxima">By block.</param>
    /// <param name="cap">What the row is still to be soft-capped with; 0 for nothing. The best come out capped.</param>
    /// <param name="n">How many are wanted.</param>
    public void Select(ReadOnlySpan<float> logits, ReadOnlySpan<float> maxima, float cap, int n)
    {
        n = Begin(Math.Min(n, logits.Length));
        float floor = NthBest(maxima, n);
        if (cap != 0)
        {
            Collect(logits, maxima, floor == float.NegativeInfinity ? float.MinValue : LateSoftCap.Floor(floor, cap));
            FastMath.SoftCap(_logits.AsSpan(0, _collected), cap, _logits.AsSpan(0, _collected));
            OfferCollected(n);
        }
        else
        {
            for (int b = 0; b < maxima.Length; b++)
                if (maxima[b] >= floor && maxima[b] > Least(n)) Scan(LogitBlocks.Block(logits, b), b * LogitBlocks.Size, n);
        }
        Sort();
    }

    /// <summary>A bound that at least n logits reach, because n blocks' maxima do; −∞ where there are not so many.</summary>
    private float NthBest(ReadOnlySpan<float> maxima, int n)
    {
        if (n > maxima.Length) return float.NegativeInfinity;
        Scan(maxima, 0, n);
        float least = Least(n);
        _count = 0;
        return least;
    }

    private void Collect(ReadOnlySpan<float> logits, ReadOnlySpan<float> maxima, float floor)
    {
        _collected = 0;
        Vector512<float> floors = Vector512.Create(floor);
        for (int b = 0; b < maxima.Length; b++)
        {
            if (!(maxima[b] >= floor)) continue;
            ReadOnlySpan<float> block = LogitBlocks.Block(logits, b);
            if (_logits.Length < _collected + block.Length) Grow();
            int i = 0;
            for (; i + 16 <= block.Length; i += 16)
            {
                Vector512<float> logits16 = Vector512.Create(block.Slice(i, 16));
                ulong above = Vector512.GreaterThanOrEqual(logits16, floors).ExtractMostSignificantBits();
                if (above == 0xFFFF)
                {
                    logits16.CopyTo(_logits.AsSpan(_collected));
                    (Vector512.Create(b * LogitBlocks.Size + i) + Vector512<int>.Indices).CopyTo(_tokens.AsSpan(_collected));
                    _collected += 16;
                    continue;
                }
                for (; above != 0; above &= above - 1) Collect(block, b, i + BitOperations.TrailingZeroCount(above));
            }
            for (; i < block.Length; i++)
                if (block[i] >= floor) Collect(block, b, i);
        }
    }

    private void Collect(ReadOnlySpan<float> block, int number, int at)
    {
        (_logits[_collected], _tokens[_collected]) = (block[at], number * LogitBlocks.Size + at);
        _collected++;
    }

    private void OfferCollected(int n)
    {
        ReadOnlySpan<float> logits = _logits.AsSpan(0, _collected);
        for (int i = 0; i < logits.Length;)
        {
            if (i + 16 <= logits.Length && !Vector512.GreaterThanAny(Vector512.Create(logits.Slice(i, 16)), Vector512.Create(Least(n))))
            {
                i += 16;
                continue;
            }
            for (int end = Math.Min(i + 16, logits.Length); i < end; i++) Offer(logits[i], _tokens[i], n);
        }
    }

    private void Grow()
    {
        Array.Resize(ref _logits, Math.Max(16 * LogitBlocks.Size, _logits.Length * 2));
        Array.Resize(ref _tokens, _logits.Length);
    }

    private int Begin(int n)
    {
        if (_items.Length < n) _items = new (float, int)[Math.Max(n, _items.Length * 2)];
        _count = 0;
        return n;
    }

    private void Sort() =>
        _items.AsSpan(0, _count).Sort(static (a, b) => a.Logit == b.Logit ? a.Token.CompareTo(b.Token) : b.Logit.CompareTo(a.Logit));

    private static bool Worse((float Logit, int Token) a, (float Logit, int Token) b) =>
        a.Logit < b.Logit || (a.Logit == b.Logit && a.Token > b.Token);

    private void Scan(ReadOnlySpan<float> logits, int from, int n)
    {
        if (n == 0) return;
        // Nearly every vector of 16 holds nothing better than the worst candidate, or nothing but −∞ under a mask.
        int i = 0;
        for (; i + 16 <= logits.Length; i += 16)
        {
            if (!Vector512.GreaterThanAny(Vector512.Create(logits.Slice(i, 16)), Vector512.Create(Least(n)))) continue;
            for (int t = i; t < i + 16; t++) Offer(logits[t], from + t, n);
        }
        for (; i < logits.Length; i++) Offer(logits[i], from + i, n);
    }

    /// <summary>What a candidate has to be above.</summary>
    private float Least(int n) => _count < n ? float.NegativeInfinity : _items[0].Logit;

    private void Offer(float logit, int token, int n)
    {
        if (!(logit > Least(n))) return;
        if (_count < n) Push((logit, token));
        else ReplaceRoot((logit, token));
    }

    private void Push((float, int) item)
    {
        int at = _count++;
        _items[at] = item;
        for (int parent; at > 0 && Worse(_items[at], _items[parent = (at - 1) / 2]); at = parent)
            (_items[at], _items[parent]) = (_items[parent], _items[at]);
    }

    private void ReplaceRoot((float, int) item)
    {
        int at = 0;
        _items[0] = item;
        while (true)
        {
            int worst = at, left = 2 * at + 1, right = left + 1;
            if (left < _count && Worse(_items[left], _items[worst])) worst = left;
            if (right < _count && Worse(_items[right], _items[worst])) worst = right;
            if (worst == at) return;
            (_items[at], _items[worst]) = (_items[worst], _items[at]);
            at = worst;
        }
    }
}
