using System.Globalization;
using System.Text;

namespace GemmaServer.Text;

/// <summary>
/// The few text functions of Python that the reference template's output depends on: <c>str.strip</c>, <c>str.lower</c>,
/// <c>str.upper</c>, <c>repr</c> of numbers and strings. .NET's own differ in small ways that show up in prompts.
/// </summary>
internal static class PythonText
{
    /// <summary>What <c>str.strip()</c> removes. .NET keeps U+001C to U+001F; neither takes U+FEFF or U+200B.</summary>
    public static bool IsSpace(char c) => c switch
    {
        ' ' or (>= '\t' and <= '\r') or (>= '\u001C' and <= '\u001F') => true,
        < '\u0085' => false,
        '\u0085' or '\u00A0' or '\u1680' or (>= '\u2000' and <= '\u200A') => true,
        '\u2028' or '\u2029' or '\u202F' or '\u205F' or '\u3000' => true,
        _ => false,
    };

    public static ReadOnlySpan<char> Strip(ReadOnlySpan<char> text) => StripEnd(StripStart(text));

    public static ReadOnlySpan<char> StripStart(ReadOnlySpan<char> text)
    {
        int start = 0;
        while (start < text.Length && IsSpace(text[start])) start++;
        return text[start..];
    }

    public static ReadOnlySpan<char> StripEnd(ReadOnlySpan<char> text)
    {
        int end = text.Length;
        while (end > 0 && IsSpace(text[end - 1])) end--;
        return text[..end];
    }

    /// <summary><c>str.lower()</c>: simple case mapping plus its two special rules, dotted capital I and final sigma.</summary>
    public static string Lower(string text)
    {
        if (text.AsSpan().IndexOfAny('\u0130', '\u03A3') < 0) return text.ToLowerInvariant();
        StringBuilder result = new();
        for (int i = 0; i < text.Length; i++)
        {
            if (text[i] == '\u0130') result.Append("i\u0307");
            else if (text[i] == '\u03A3') result.Append(IsFinalSigma(text, i) ? '\u03C2' : '\u03C3');
            else if (char.IsHighSurrogate(text[i]) && i + 1 < text.Length) result.Append(text.Substring(i++, 2).ToLowerInvariant());
            else result.Append(char.ToLowerInvariant(text[i]));
        }
        return result.ToString();
    }

    /// <summary><c>str.upper()</c>. Used on schema type words only, so simple case mapping is enough (Python makes SS of ß).</summary>
    public static string Upper(string text) => text.ToUpperInvariant();

    /// <summary>Orders strings by Unicode code point, as Python does; UTF-16 order puts U+FFxx after supplementary planes.</summary>
    public static int CompareCodePoints(string a, string b)
    {
        int n = Math.Min(a.Length, b.Length);
        for (int i = 0; i < n; i++)
        {
            if (a[i] == b[i]) continue;
            // The first differing unit decides; surrogates stand for code points above every other unit.
            bool highA = char.IsSurrogate(a[i]), highB = char.IsSurrogate(b[i]);
            return highA == highB ? a[i].CompareTo(b[i]) : highA ? 1 : -1;
        }
        return a.Length.CompareTo(b.Length);
    }

    /// <summary>
    /// A JSON number as <c>str(json.loads(lexeme))</c>: integers exact at any size, floats as the shortest digits that read
    /// back (<c>1e-07</c>, <c>1e+16</c>, <c>100.0</c>, <c>inf</c>).
    /// </summary>
    public static string Number(string lexeme)
    {
        if (lexeme.AsSpan().IndexOfAny('.', 'e', 'E') >= 0)
            return FloatRepr(double.Parse(lexeme, NumberStyles.Float, CultureInfo.InvariantCulture));
        return lexeme == "-0" ? "0" : lexeme;
    }

    /// <summary><c>repr</c> of a string inside a printed list or object.</summary>
    public static void AppendRepr(StringBuilder output, string text)
    {
        char quote = text.Contains('\'') && !text.Contains('"') ? '"' : '\'';
        output.Append(quote);
        foreach (Rune rune in text.EnumerateRunes())
        {
            if (rune.Value == quote || rune.Value == '\\') output.Append('\\').Append((char)rune.Value);
            else if (rune.Value == '\n') output.Append("\\n");
            else if (rune.Value == '\r') output.Append("\\r");
            else if (rune.Value == '\t') output.Append("\\t");
            else if (IsPrintable(rune)) output.Append(rune.ToString());
            else if (rune.Value <= 0xFF) output.Append(CultureInfo.InvariantCulture, $"\\x{rune.Value:x2}");
            else if (rune.Value <= 0xFFFF) output.Append(CultureInfo.InvariantCulture, $"\\u{rune.Value:x4}");
            else output.Append(CultureInfo.InvariantCulture, $"\\U{rune.Value:x8}");
        }
        output.Append(quote);
    }

    /// <summary>Replaces every surrogate without a partner by U+FFFD; such text cannot be encoded.</summary>
    public static string ReplaceLoneSurrogates(string text)
    {
        if (text.AsSpan().IndexOfAnyInRange('\uD800', '\uDFFF') < 0) return text;
        StringBuilder result = new(text.Length);
        foreach (Rune rune in text.EnumerateRunes()) result.Append(rune.ToString());
        return result.ToString();
    }

    private static bool IsFinalSigma(string text, int at)
    {
        int i = at - 1;
        while (i >= 0 && IsCaseIgnorable(text[i])) i--;
        if (i < 0 || !IsCased(text[i])) return false;
        i = at + 1;
        while (i < text.Length && IsCaseIgnorable(text[i])) i++;
        return i == text.Length || !IsCased(text[i]);
    }

    private static bool IsCased(char c) => char.GetUnicodeCategory(c)
        is UnicodeCategory.UppercaseLetter or UnicodeCategory.LowercaseLetter or UnicodeCategory.TitlecaseLetter;

    private static bool IsCaseIgnorable(char c) => c is '\'' or '.' or ':' or '\u00B7' or '\u2019' || char.GetUnicodeCategory(c)
        is UnicodeCategory.NonSpacingMark or UnicodeCategory.EnclosingMark or UnicodeCategory.Format
        or UnicodeCategory.ModifierLetter or UnicodeCategory.ModifierSymbol;

    private static bool IsPrintable(Rune rune) => rune.Value == ' ' || Rune.GetUnicodeCategory(rune)
        is not (UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.Surrogate or UnicodeCategory.PrivateUse
            or UnicodeCategory.OtherNotAssigned or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator
            or UnicodeCategory.SpaceSeparator);

    private static string FloatRepr(double value)
    {
        if (double.IsInfinity(value)) return value > 0 ? "inf" : "-inf";
        // .NET's shortest form gives the right digits; only the layout differs. "R" is "[-]d[.ddd][E±xx]" or plain.
        string shortest = value.ToString("R", CultureInfo.InvariantCulture);
        string sign = shortest[0] == '-' ? "-" : "";
        string mantissa = shortest[sign.Length..];
        int exponent = 0;
        int e = mantissa.IndexOf('E', StringComparison.Ordinal);
        if (e >= 0)
        {
            exponent = int.Parse(mantissa.AsSpan(e + 1), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture);
            mantissa = mantissa[..e];
        }
        int point = mantissa.IndexOf('.', StringComparison.Ordinal);
        string digits = mantissa.Replace(".", "", StringComparison.Ordinal);
        int pointPlace = (point < 0 ? mantissa.Length : point) + exponent;   // digits before the decimal point
        int zeros = digits.Length - digits.TrimStart('0').Length;
        digits = digits.Trim('0');
        pointPlace -= zeros;
        if (digits.Length == 0) return sign + "0.0";
        return sign + Layout(digits, pointPlace);
    }

    /// <summary>Python writes an exponent below 1e-4 and from 1e16 on.</summary>
    private static string Layout(string digits, int pointPlace)
    {
        int exponent = pointPlace - 1;
        if (exponent is < -4 or >= 16)
        {
            string head = digits.Length == 1 ? digits : digits[..1] + "." + digits[1..];
            return string.Create(CultureInfo.InvariantCulture, $"{head}e{(exponent < 0 ? '-' : '+')}{Math.Abs(exponent):00}");
        }
        if (pointPlace <= 0) return "0." + new string('0', -pointPlace) + digits;
        if (pointPlace >= digits.Length) return digits + new string('0', pointPlace - digits.Length) + ".0";
        return digits[..pointPlace] + "." + digits[pointPlace..];
    }
}
