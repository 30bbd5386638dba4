using System.Globalization;
using System.Numerics;
using static GemmaServer.Text.GrammarParts;

namespace GemmaServer.Text;

/// <summary>
/// Numbers k · unit · 10^-places with k between bounds, not negative: a walk over their digits that remembers the remainder.
/// A unit of 1 gives plain integers.
/// </summary>
/// <param name="unit">What they are multiples of, greater than zero.</param>
/// <param name="places">Digits behind the point, all of them written; none and no point when zero.</param>
/// <param name="zeros">Zeros written behind every number but 0.</param>
/// <param name="budget">Pays for the states; may be null when the unit is 1.</param>
/// <param name="path">For messages.</param>
internal sealed class MultiplesGrammar(BigInteger unit, int places, int zeros, SchemaBudget? budget, string path)
{
    private const int FewValues = 64;

    private static readonly BigInteger s_maxUnit = 1_000_000;

    private readonly Dictionary<(int Left, BigInteger Remainder), GrammarNode> _free = [];

    /// <param name="first">The smallest k.</param>
    /// <param name="last">The greatest k.</param>
    public GrammarNode Write(BigInteger first, BigInteger last)
    {
        if (first > last) return Nothing;
        if (last - first < (unit.IsOne ? 1 : FewValues)) return Few(first, last);
        if (unit > s_maxUnit) throw new GrammarException("'multipleOf' is not supported for a step with so many digits between bounds so wide.", path);

        GrammarNode zero = Nothing;
        if (first.IsZero && places == 0) (zero, first) = (GrammarNode.Literal("0"), 1);
        GrammarNode tail = GrammarNode.Literal(new string('0', zeros));
        List<GrammarNode> byLength = [];
        BigInteger from = first * unit, to = last * unit;
        int shortest = Digits(from).Length, longest = Digits(to).Length;
        for (int length = shortest; length <= longest; length++)
        {
            // With digits behind the point, 5 is written 005; beyond that no number begins with zero.
            BigInteger low = BigInteger.Max(from, length == places + 1 ? 0 : BigInteger.Pow(10, length - 1));
            BigInteger high = BigInteger.Min(to, BigInteger.Pow(10, length) - 1);
            if (unit.IsOne && places == 0 && IsFull(low, high, length))
            {
                int end = length;
                while (end < longest && IsFull(BigInteger.Pow(10, end), BigInteger.Min(to, BigInteger.Pow(10, end + 1) - 1), end + 1)) end++;
                byLength.Add(Seq(Range('1', '9'), Times(Digit, length - 1, end - 1)));
                length = end;
            }
            else
            {
                byLength.Add(Within(Digits(low).PadLeft(length, '0'), Digits(high).PadLeft(length, '0'), 0));
            }
        }
        return Alt(zero, Seq(Alt([.. byLength]), tail));
    }

    private static bool IsFull(BigInteger low, BigInteger high, int length) =>
        low == BigInteger.Pow(10, length - 1) && high == BigInteger.Pow(10, length) - 1;

    private string Digits(BigInteger number) => number.ToString(CultureInfo.InvariantCulture).PadLeft(places + 1, '0');

    private GrammarNode Few(BigInteger first, BigInteger last)
    {
        List<string> words = [];
        for (BigInteger k = first; k <= last; k++)
        {
            string digits = Digits(k * unit);
            if (places > 0) digits = digits.Insert(digits.Length - places, ".");
            words.Add(k.IsZero ? digits : digits + new string('0', zeros));
        }
        return Words(words);
    }

    /// <summary>Numbers with as many digits as the bounds, behind digits that leave a remainder.</summary>
    private GrammarNode Within(ReadOnlySpan<char> low, ReadOnlySpan<char> high, BigInteger remainder)
    {
        int left = low.Length;
        if (left == 0) return remainder.IsZero ? GrammarNode.Empty : Nothing;
        if (low.IndexOfAnyExcept('0') < 0 && high.IndexOfAnyExcept('9') < 0) return Free(left, remainder);
        budget?.Spend(1, path);
        if (low[0] == high[0]) return Point(left, Seq(Range(low[0], low[0]), Within(low[1..], high[1..], Next(remainder, low[0]))));
        string nines = new('9', left - 1), noughts = new('0', left - 1);
        return Point(left, Alt(
            Seq(Range(low[0], low[0]), Within(low[1..], nines, Next(remainder, low[0]))),
            Between(low[0] + 1, high[0] - 1, left, remainder),
            Seq(Range(high[0], high[0]), Within(noughts, high[1..], Next(remainder, high[0])))));
    }

    /// <summary>Any digits, so many of them.</summary>
    private GrammarNode Free(int left, BigInteger remainder)
    {
        if (left == 0) return remainder.IsZero ? GrammarNode.Empty : Nothing;
        if (unit.IsOne && places == 0) return Times(Digit, left, left);
        (int, BigInteger) key = (left, remainder * BigInteger.Pow(10, left) % unit);
        if (_free.TryGetValue(key, out GrammarNode? node)) return node;
        budget?.Spend(10, path);
        GrammarNode body = Point(left, Between('0', '9', left, remainder));
        return _free[key] = IsNothing(body) ? body : new GrammarRule("digits") { Body = body };
    }

    /// <summary>A first digit in a range and free ones behind it; digits that lead to the same state stand together.</summary>
    private GrammarNode Between(int first, int last, int left, BigInteger remainder)
    {
        List<GrammarNode> options = [];
        foreach (IGrouping<BigInteger, int> digits in Enumerable.Range(first, Math.Max(0, last - first + 1))
            .GroupBy(d => Next(remainder, d) * BigInteger.Pow(10, left - 1) % unit))
        {
            GrammarNode chars = GrammarNode.Chars([.. digits.Select(d => new CodePointRange(d, d))]);
            options.Add(Seq(chars, Free(left - 1, Next(remainder, digits.First()))));
        }
        return Alt([.. options]);
    }

    private GrammarNode Point(int left, GrammarNode node) => places > 0 && left == places ? Seq(GrammarNode.Literal("."), node) : node;

    private BigInteger Next(BigInteger remainder, int digit) => (remainder * 10 + (digit - '0')) % unit;
}
