using System.Globalization;
using System.Numerics;

namespace GemmaServer.Text;

/// <summary>An exact decimal number, <c>Digits · 10^Exponent</c>, without trailing zeros in its digits.</summary>
internal readonly record struct DecimalNumber : IComparable<DecimalNumber>
{
    private const int MaxExponent = 400;

    public DecimalNumber(BigInteger digits, int exponent)
    {
        if (digits.IsZero) exponent = 0;
        while (!digits.IsZero && digits % 10 == 0) (digits, exponent) = (digits / 10, exponent + 1);
        (Digits, Exponent) = (digits, exponent);
    }

    public BigInteger Digits { get; }

    public int Exponent { get; }

    public int Sign => Digits.Sign;

    /// <summary>Reads a JSON number; null where it has hundreds of digits or an exponent that no double has.</summary>
    public static DecimalNumber? TryParse(string json)
    {
        int e = json.AsSpan().IndexOfAny('e', 'E');
        int exponent = 0;
        if (e >= 0 && !int.TryParse(json.AsSpan(e + 1), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out exponent)) return null;
        string mantissa = e < 0 ? json : json[..e];
        int point = mantissa.IndexOf('.');
        if (point >= 0) (mantissa, exponent) = (mantissa.Remove(point, 1), exponent - (mantissa.Length - point - 1));
        if (mantissa.Length > MaxExponent || Math.Abs((long)exponent) > MaxExponent) return null;
        return new(BigInteger.Parse(mantissa, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture), exponent);
    }

    /// <summary>This number times 10^<paramref name="places"/>, rounded down.</summary>
    public BigInteger Floor(int places)
    {
        int shift = Exponent + places;
        if (shift >= 0) return Digits * BigInteger.Pow(10, shift);
        BigInteger quotient = BigInteger.DivRem(Digits, BigInteger.Pow(10, -shift), out BigInteger rest);
        return rest.Sign < 0 ? quotient - 1 : quotient;
    }

    /// <summary>This number times 10^<paramref name="places"/>, rounded up.</summary>
    public BigInteger Ceiling(int places) => -new DecimalNumber(-Digits, Exponent).Floor(places);

    public bool IsMultipleOf(DecimalNumber step)
    {
        int places = Math.Max(0, -Math.Min(Exponent, step.Exponent));
        return (Floor(places) % step.Floor(places)).IsZero;
    }

    /// <summary>The smallest positive number that is a multiple of both.</summary>
    public static DecimalNumber LeastCommonMultiple(DecimalNumber a, DecimalNumber b)
    {
        int places = Math.Max(0, -Math.Min(a.Exponent, b.Exponent));
        BigInteger x = a.Floor(places), y = b.Floor(places);
        return new(x / BigInteger.GreatestCommonDivisor(x, y) * y, -places);
    }

    public int CompareTo(DecimalNumber other)
    {
        int places = Math.Max(0, -Math.Min(Exponent, other.Exponent));
        return Floor(places).CompareTo(other.Floor(places));
    }

    public double ToDouble() => double.Parse(ToString(), CultureInfo.InvariantCulture);

    /// <summary>The one spelling of each number that serves as key.</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Digits}e{Exponent}");
}
