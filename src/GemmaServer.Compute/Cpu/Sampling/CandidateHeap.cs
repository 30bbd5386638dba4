using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>The n best tokens of a row of logits without sorting it; ties go to the lower id.</summary>
internal sealed class CandidateHeap
{
    // Binary min-heap on (logit, −id): the root is the worst candidate kept.
    private (float Logit, int Token)[] _items = new (float, int)[64];
    private int _count;

    /// <summary>Best first after <see cref="Select"/>.</summary>
    public ReadOnlySpan<(float Logit, int Token)> Items => _items.AsSpan(0, _count);

    /// <summary>Finds the <paramref name="n"/> best finite logits, best first.</summary>
    public void Select(ReadOnlySpan<float> logits, int n)
    {
        n = Math.Min(n, logits.Length);
        if (_items.Length < n) _items = new (float, int)[Math.Max(n, _items.Length * 2)];
        _count = 0;
        Scan(logits, n);
        _items.AsSpan(0, _count).Sort(static (a, b) => a.Logit == b.Logit ? a.Token.CompareTo(b.Token) : b.Logit.CompareTo(a.Logit));
    }

    private static bool Worse((float Logit, int Token) a, (float Logit, int Token) b) =>
        a.Logit < b.Logit || (a.Logit == b.Logit && a.Token > b.Token);

    private void Scan(ReadOnlySpan<float> logits, int n)
    {
        if (n == 0) return;
        // Nearly every vector of 16 holds nothing better than the worst candidate, or nothing but −∞ under a mask.
        int i = 0;
        for (; i + 16 <= logits.Length; i += 16)
        {
            if (!Vector512.GreaterThanAny(Vector512.Create(logits.Slice(i, 16)), Vector512.Create(Least(n)))) continue;
            for (int t = i; t < i + 16; t++) Offer(logits[t], t, n);
        }
        for (; i < logits.Length; i++) Offer(logits[i], i, n);
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
