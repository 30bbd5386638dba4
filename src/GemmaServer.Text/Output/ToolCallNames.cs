using System.Buffers;

namespace GemmaServer.Text;

/// <summary>Which text in front of a call's brace is a tool's name (gemma4-chat.md, 6.4).</summary>
internal static class ToolCallNames
{
    private static readonly SearchValues<char> s_forbidden = SearchValues.Create("(){}[]\"'<>,");

    /// <summary>Not empty, and free of white space, control characters, brackets, quotes and commas; any letters, dots, colons, slashes.</summary>
    public static bool IsValid(ReadOnlySpan<char> name)
    {
        if (name.IsEmpty || name.ContainsAny(s_forbidden)) return false;
        foreach (char c in name)
            if (PythonText.IsSpace(c) || char.IsControl(c)) return false;
        return true;
    }
}
