using System.Globalization;
using System.Numerics;
using static GemmaServer.Text.GrammarParts;

namespace GemmaServer.Text;

/// <summary>Numbers between two bounds with a limited number of digits after the point, which need not all be written.</summary>
internal static class FractionGrammar
{
    /// <summary>A bound; open where the number itself is outside.</summary>
    /// <param name="Value">The number.</param>
    /// <param name="IsOpen">Whether it is outside.</param>
    /// <param name="Places">How many digits after the point numbers near it may have.</param>
    internal readonly record struct Bound(DecimalNumber Value, bool IsOpen, int Places);

    public static GrammarNode Write(Bound low, Bound high)
    {
        int places = Math.Min(low.Places, high.Places);
        (low, high) = (Inward(low, places, up: true), Inward(high, places, up: false));
        GrammarNode negative = Nothing, positive = Nothing;
        Bound zero = new(new(0, 0), false, places);
        if (low.Value.Sign < 0)
        {
            Bound to = high.Value.Sign < 0 ? high : zero with { IsOpen = true };   // -0 is left to 0
            negative = Seq(GrammarNode.Literal("-"), Positive(Negated(to), Negated(low), places));
        }
        if (high.Value.Sign >= 0) positive = Positive(low.Value.Sign < 0 ? zero : low, high, places);
        return Alt(positive, negative);
    }

    private static Bound Negated(Bound bound) => bound with { Value = new(-bound.Value.Digits, bound.Value.Exponent) };

    /// <summary>A bound with more digits than may be written moves to the next number inside that has no more.</summary>
    private static Bound Inward(Bound bound, int places, bool up)
    {
        DecimalNumber rounded = new(up ? bound.Value.Ceiling(places) : bound.Value.Floor(places), -places);
        return rounded == bound.Value ? bound : new(rounded, false, places);
    }

    private static GrammarNode Positive(Bound low, Bound high, int places)
    {
        int order = low.Value.CompareTo(high.Value);
        if (order > 0 || (order == 0 && (low.IsOpen || high.IsOpen))) return Nothing;
        (BigInteger from, string lowDigits) = Split(low.Value, places);
        (BigInteger to, string highDigits) = Split(high.Value, places);
        if (from == to) return Seq(Whole(from, from), Fraction(Between(lowDigits, low.IsOpen, highDigits, high.IsOpen, 0, places)));
        return Alt(
            Seq(Whole(from, from), Fraction(AtLeast(lowDigits, low.IsOpen, 0, places))),
            Seq(Whole(from + 1, to - 1), Fraction((true, Times(Digit, 0, places)))),
            Seq(Whole(to, to), Fraction(AtMost(highDigits, high.IsOpen, 0, places))));
    }

    private static GrammarNode Whole(BigInteger from, BigInteger to) => new MultiplesGrammar(1, 0, 0, null, "").Write(from, to);

    private static (BigInteger Whole, string Fraction) Split(DecimalNumber value, int places)
    {
        BigInteger whole = value.Floor(0);
        DecimalNumber scaled = new(value.Floor(places) - whole * BigInteger.Pow(10, places), 0);
        string digits = scaled.Floor(0).ToString(CultureInfo.InvariantCulture).PadLeft(places, '0');
        return (whole, digits.TrimEnd('0'));
    }

    /// <summary>The point and what comes behind it, or neither where no digits are right too.</summary>
    private static GrammarNode Fraction((bool OrNone, GrammarNode Digits) part)
    {
        GrammarNode some = IsNothing(part.Digits) ? Nothing : Seq(GrammarNode.Literal("."), AtLeastOne(part.Digits));
        return part.OrNone ? Maybe(some) : some;
    }

    /// <summary>The digits without the empty text, which cannot stand behind a point.</summary>
    private static GrammarNode AtLeastOne(GrammarNode digits) => digits switch
    {
        GrammarRepeat { Min: 0, Max: var max } repeat => Times(repeat.Body, 1, max),
        GrammarSequence { Parts.Count: 0 } => Nothing,
        GrammarChoice choice => Alt([.. choice.Options.Select(AtLeastOne)]),
        _ => digits,
    };

    // In all of these: OrNone says whether the empty text is right at this place; the digits may match it or not.
    // "0.5" is given as "5"; a bound's digits end in no zero, so that behind its end the rest of it is zero.

    private static (bool OrNone, GrammarNode Digits) AtLeast(string bound, bool isOpen, int at, int left)
    {
        if (at == bound.Length) return isOpen ? (false, NotZero(left)) : (true, Times(Digit, 0, left));
        if (left == 0) return (false, Nothing);
        int digit = bound[at];
        GrammarNode above = digit < '9' ? Seq(Range(digit + 1, '9'), Times(Digit, 0, left - 1)) : Nothing;
        return (false, Alt(above, Then(digit, AtLeast(bound, isOpen, at + 1, left - 1))));
    }

    private static (bool OrNone, GrammarNode Digits) AtMost(string bound, bool isOpen, int at, int left)
    {
        if (at == bound.Length) return isOpen ? (false, Nothing) : (true, Times(Range('0', '0'), 0, left));
        if (left == 0) return (true, GrammarNode.Empty);
        int digit = bound[at];
        GrammarNode below = digit > '0' ? Seq(Range('0', digit - 1), Times(Digit, 0, left - 1)) : Nothing;
        return (true, Alt(below, Then(digit, AtMost(bound, isOpen, at + 1, left - 1))));
    }

    private static (bool OrNone, GrammarNode Digits) Between(string low, bool isLowOpen, string high, bool isHighOpen, int at, int left)
    {
        if (at >= low.Length && !isLowOpen) return AtMost(high, isHighOpen, at, left);
        if (left == 0 || at >= high.Length) return (false, Nothing);
        int from = at < low.Length ? low[at] : '0', to = high[at];
        if (from == to) return (false, Then(from, Between(low, isLowOpen, high, isHighOpen, at + 1, left - 1)));
        GrammarNode inside = from + 1 < to ? Seq(Range(from + 1, to - 1), Times(Digit, 0, left - 1)) : Nothing;
        return (false, Alt(
            Then(from, at < low.Length ? AtLeast(low, isLowOpen, at + 1, left - 1) : (false, NotZero(left - 1))),
            inside, Then(to, AtMost(high, isHighOpen, at + 1, left - 1))));
    }

    private static GrammarNode Then(int digit, (bool OrNone, GrammarNode Digits) rest)
    {
        GrammarNode one = Range(digit, digit);
        return Alt(rest.OrNone ? one : Nothing, Seq(one, rest.Digits));
    }

    /// <summary>Digits of which one at least is not zero.</summary>
    private static GrammarNode NotZero(int left) => Alt([.. Enumerable.Range(0, left).Select(
        zeros => Seq(Times(Range('0', '0'), zeros, zeros), Range('1', '9'), Times(Digit, 0, left - zeros - 1)))]);
}
