using System.Globalization;
using System.Numerics;

namespace GemmaServer.Text;

/// <summary>
/// Numbers as text. Without bounds at most 15 digits on each side of the point, so that an answer cannot run away and a double holds
/// it; with bounds or a step, exactly the numbers within, digit by digit and without exponents.
/// </summary>
internal static class NumberGrammar
{
    /// <summary>As many decimal digits as every double keeps apart.</summary>
    private const int SafeDigits = 15;

    /// <summary>Digits without bounds when the step has a fraction: beyond, validators that divide doubles find remainders.</summary>
    private const int DivisibleDigits = 9;

    private static readonly DecimalNumber s_one = new(1, 0);

    private static readonly GrammarNode s_free = GrammarParts.Seq(
        GrammarParts.Maybe(GrammarNode.Literal("-")),
        GrammarParts.Alt(GrammarNode.Literal("0"), GrammarParts.Seq(GrammarParts.Range('1', '9'), GrammarParts.Times(GrammarParts.Digit, 0, SafeDigits - 1))),
        GrammarParts.Maybe(GrammarParts.Seq(GrammarNode.Literal("."), GrammarParts.Times(GrammarParts.Digit, 1, SafeDigits))),
        GrammarParts.Maybe(GrammarParts.Seq(GrammarParts.OneOf("eE"), GrammarParts.Maybe(GrammarParts.OneOf("+-")), GrammarParts.Times(GrammarParts.Digit, 1, 2))));

    /// <summary>Whether no number lies between the bounds.</summary>
    public static bool IsEmpty(NumberBranch number)
    {
        if (number.Low is not { } low || number.High is not { } high) return false;
        int order = low.CompareTo(high);
        if (order > 0 || (order == 0 && (number.IsLowOpen || number.IsHighOpen))) return true;
        if (number.Step is not { } step) return false;
        (BigInteger first, BigInteger last) = Multiples(low, number.IsLowOpen, high, number.IsHighOpen, step);
        return first > last;
    }

    public static bool Accepts(NumberBranch number, DecimalNumber x) =>
        (number.Low is not { } low || x.CompareTo(low) is var c && (c > 0 || (c == 0 && !number.IsLowOpen)))
        && (number.High is not { } high || x.CompareTo(high) is var d && (d < 0 || (d == 0 && !number.IsHighOpen)))
        && (number.Step is not { } step || x.IsMultipleOf(step));

    public static GrammarNode Write(NumberBranch number, SchemaBudget budget, string path)
    {
        if (number is { Low: null, High: null, Step: null }) return s_free;
        if (number.High?.Sign > 0 && IsFar(number.High, number.Low)) number = number with { High = null, IsHighOpen = false };
        if (number.Low?.Sign < 0 && IsFar(number.Low, number.High)) number = number with { Low = null, IsLowOpen = false };
        if (number.Step is null)
        {
            (DecimalNumber least, DecimalNumber most) = Limits(number, 0);
            return FractionGrammar.Write(Rounded(least, number.IsLowOpen, up: true), Rounded(most, number.IsHighOpen, up: false));
        }

        DecimalNumber step = number.Step.Value;
        int places = Math.Max(0, -step.Exponent);
        (DecimalNumber low, DecimalNumber high) = Limits(number, places);
        if (step.Digits.IsOne && places > 0)
            return FractionGrammar.Write(new(low, number.IsLowOpen && low == number.Low, places), new(high, number.IsHighOpen && high == number.High, places));

        DecimalNumber whole = DecimalNumber.LeastCommonMultiple(step, s_one);
        GrammarNode integers = Integers(number, low, high, whole, 0, budget, path);
        return places == 0 ? integers : GrammarParts.Alt(integers, Integers(number, low, high, step, places, budget, path));
    }

    /// <summary>
    /// Multiples of a step, written with so many digits after the point, all of them there.
    /// </summary>
    private static GrammarNode Integers(NumberBranch number, DecimalNumber low, DecimalNumber high, DecimalNumber step, int places,
        SchemaBudget budget, string path)
    {
        bool isLowOpen = number.IsLowOpen && low == number.Low, isHighOpen = number.IsHighOpen && high == number.High;
        (BigInteger first, BigInteger last) = Multiples(low, isLowOpen, high, isHighOpen, step);
        if (first > last) return GrammarParts.Nothing;
        // In units of 10^-places; zeros at the end of the step, as in 100, are written as they are.
        int zeros = Math.Max(0, step.Exponent);
        BigInteger unit = step.Digits * (places > 0 ? BigInteger.Pow(10, step.Exponent + places) : 1);
        MultiplesGrammar multiples = new(unit, places, zeros, budget, path);
        GrammarNode negative = first.Sign < 0
            ? GrammarParts.Seq(GrammarNode.Literal("-"), multiples.Write(BigInteger.Max(1, -last), -first)) : GrammarParts.Nothing;
        GrammarNode positive = last.Sign >= 0 ? multiples.Write(BigInteger.Max(0, first), last) : GrammarParts.Nothing;
        return GrammarParts.Alt(positive, negative);
    }

    /// <summary>The first and the last k for which k steps lie between the bounds.</summary>
    private static (BigInteger First, BigInteger Last) Multiples(DecimalNumber low, bool isLowOpen, DecimalNumber high, bool isHighOpen, DecimalNumber step)
    {
        int places = Math.Max(0, -Math.Min(step.Exponent, Math.Min(low.Exponent, high.Exponent)));
        BigInteger size = step.Floor(places), from = low.Floor(places), to = high.Floor(places);
        BigInteger first = -Divide(-from, size), last = Divide(to, size);
        if (isLowOpen && first * size == from) first++;
        if (isHighOpen && last * size == to) last--;
        return (first, last);
    }

    private static BigInteger Divide(BigInteger a, BigInteger b)
    {
        BigInteger quotient = BigInteger.DivRem(a, b, out BigInteger rest);
        return rest.Sign < 0 ? quotient - 1 : quotient;
    }

    /// <summary>A bound as far out as the largest double asks for nothing that our own limits do not.</summary>
    private static bool IsFar(DecimalNumber? bound, DecimalNumber? other) =>
        bound is { } b && WholeDigits(b) > Math.Max(SafeDigits, other is { } o ? WholeDigits(o) : 0) + 3;

    /// <summary>Where a bound is missing, as far as 15 digits reach, or one digit more than the other bound or the step has.</summary>
    private static (DecimalNumber Low, DecimalNumber High) Limits(NumberBranch number, int places)
    {
        int digits = places == 0 ? SafeDigits : Math.Max(1, DivisibleDigits - places);
        foreach (DecimalNumber? bound in (ReadOnlySpan<DecimalNumber?>)[number.Low, number.High, number.Step])
            if (bound is { } b) digits = Math.Max(digits, WholeDigits(b) + 1);
        BigInteger limit = BigInteger.Pow(10, digits) - 1;
        return (number.Low ?? new(-limit, 0), number.High ?? new(limit, 0));
    }

    /// <summary>
    /// A bound with its digits after the point so limited that reading the text as a double cannot carry it over an open bound.
    /// </summary>
    private static FractionGrammar.Bound Rounded(DecimalNumber bound, bool isOpen, bool up)
    {
        int places = isOpen ? Math.Max(1, SafeDigits - WholeDigits(bound)) : Math.Clamp(-bound.Exponent, SafeDigits, 2 * SafeDigits);
        if (-bound.Exponent <= places) return new(bound, isOpen, places);
        DecimalNumber rounded = new(up ? bound.Ceiling(places) : bound.Floor(places), -places);
        return new(rounded, isOpen && rounded.ToDouble() == bound.ToDouble(), places);
    }

    private static int WholeDigits(DecimalNumber number) => BigInteger.Abs(number.Floor(0)).ToString(CultureInfo.InvariantCulture).Length;
}
