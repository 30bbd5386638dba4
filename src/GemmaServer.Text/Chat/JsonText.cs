using System.Globalization;
using System.Text;
using System.Text.Json;

namespace GemmaServer.Text;

/// <summary>JSON strings, read and written with the leniency that prompts and model output need.</summary>
internal static class JsonText
{
    /// <summary>A JSON string's value; an escaped lone surrogate, which the platform refuses to read, becomes U+FFFD.</summary>
    public static string StringOf(JsonElement element)
    {
        try
        {
            return element.GetString()!;
        }
        catch (InvalidOperationException)
        {
            return Unescaped(element.GetRawText());
        }
    }

    /// <summary>A member's name, as <see cref="StringOf"/>.</summary>
    public static string NameOf(JsonProperty property)
    {
        try
        {
            return property.Name;
        }
        catch (InvalidOperationException)
        {
            string raw = property.ToString();   // "name":value as it stood in the document
            int end = 1;
            while (raw[end] != '"') end += raw[end] == '\\' ? 2 : 1;
            return Unescaped(raw[..(end + 1)]);
        }
    }

    /// <summary>
    /// Resolves the escapes between two JSON quotes. False when one is not valid JSON; the output is then undefined.
    /// Raw control characters pass, lone surrogates become U+FFFD.
    /// </summary>
    public static bool TryUnescape(ReadOnlySpan<char> text, StringBuilder output)
    {
        for (int i = 0; i < text.Length; i++)
        {
            if (text[i] != '\\')
            {
                output.Append(text[i]);
                continue;
            }
            if (++i == text.Length) return false;
            char c = text[i] switch
            {
                '"' or '\\' or '/' => text[i],
                'b' => '\b', 'f' => '\f', 'n' => '\n', 'r' => '\r', 't' => '\t',
                _ => '\0',
            };
            if (c == '\0')
            {
                if (text[i] != 'u' || !TryHex(text[(i + 1)..], out c)) return false;
                i += 4;
                if (char.IsHighSurrogate(c) && text[(i + 1)..].StartsWith("\\u") && TryHex(text[(i + 3)..], out char low) && char.IsLowSurrogate(low))
                {
                    output.Append(c).Append(low);
                    i += 6;
                    continue;
                }
                if (char.IsSurrogate(c)) c = '\uFFFD';
            }
            output.Append(c);
        }
        return true;
    }

    private static string Unescaped(string quoted)
    {
        StringBuilder output = new(quoted.Length);
        return TryUnescape(quoted.AsSpan(1, quoted.Length - 2), output) ? PythonText.ReplaceLoneSurrogates(output.ToString()) : "";
    }

    private static bool TryHex(ReadOnlySpan<char> text, out char c)
    {
        bool ok = ushort.TryParse(text.Length < 4 ? default : text[..4], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ushort unit);
        c = (char)unit;
        return ok;
    }
}
