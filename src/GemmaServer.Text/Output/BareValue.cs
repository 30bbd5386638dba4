using System.Text;

namespace GemmaServer.Text;

/// <summary>What an unquoted argument value is: a JSON number kept verbatim, a literal, a number to tidy up, or text.</summary>
internal static class BareValue
{
    /// <summary>Writes a number or literal as JSON. False, and nothing written, when the text is only text.</summary>
    /// <param name="text">Not empty, without outer white space.</param>
    /// <param name="json">Where the JSON goes.</param>
    public static bool TryWriteScalar(ReadOnlySpan<char> text, StringBuilder json)
    {
        string? literal = text switch
        {
            "true" or "True" => "true",
            "false" or "False" => "false",
            "null" or "None" or "nil" or "NULL" => "null",
            _ => null,
        };
        if (literal is not null)
        {
            json.Append(literal);
            return true;
        }
        return TryWriteNumber(text, json);
    }

    /// <summary>JSON numbers pass digit for digit; <c>+3</c>, <c>.5</c>, <c>1.</c> and <c>007</c> lose what JSON does not allow.</summary>
    private static bool TryWriteNumber(ReadOnlySpan<char> text, StringBuilder json)
    {
        bool isNegative = text[0] == '-';
        if (text[0] is '-' or '+') text = text[1..];
        ReadOnlySpan<char> whole = Digits(text);
        ReadOnlySpan<char> rest = text[whole.Length..];
        ReadOnlySpan<char> fraction = rest is ['.', ..] ? Digits(rest[1..]) : [];
        if (rest is ['.', ..]) rest = rest[(1 + fraction.Length)..];
        if (whole.IsEmpty && fraction.IsEmpty) return false;
        if (!IsExponent(rest)) return false;

        if (isNegative) json.Append('-');
        whole = whole.TrimStart('0');
        if (whole.IsEmpty) json.Append('0');
        json.Append(whole);
        if (!fraction.IsEmpty) json.Append('.').Append(fraction);
        json.Append(rest);
        return true;
    }

    private static ReadOnlySpan<char> Digits(ReadOnlySpan<char> text)
    {
        int end = text.IndexOfAnyExceptInRange('0', '9');
        return end < 0 ? text : text[..end];
    }

    private static bool IsExponent(ReadOnlySpan<char> text)
    {
        if (text.IsEmpty) return true;
        if (text[0] is not ('e' or 'E')) return false;
        text = text[1..];
        if (text is ['+' or '-', ..]) text = text[1..];
        return !text.IsEmpty && text.IndexOfAnyExceptInRange('0', '9') < 0;
    }
}
