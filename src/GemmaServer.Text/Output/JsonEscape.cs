using System.Globalization;
using System.Text;

namespace GemmaServer.Text;

/// <summary>Writes characters inside a JSON string.</summary>
internal static class JsonEscape
{
    /// <summary>Escapes only what JSON demands: quote, backslash and control characters.</summary>
    public static void Append(StringBuilder json, char c)
    {
        switch (c)
        {
            case '"': json.Append("\\\""); break;
            case '\\': json.Append("\\\\"); break;
            case '\n': json.Append("\\n"); break;
            case '\r': json.Append("\\r"); break;
            case '\t': json.Append("\\t"); break;
            case < ' ': json.Append(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}"); break;
            default: json.Append(c); break;
        }
    }
}
