namespace GemmaServer.Text;

/// <summary>Turns one sequence's tokens into text as they come; only its result strings are allocated.</summary>
/// <param name="tokenizer">The vocabulary.</param>
/// <param name="skipSpecial">Leave control tokens out instead of writing their literal text.</param>
public sealed class Detokenizer(Tokenizer tokenizer, bool skipSpecial)
{
    private readonly Utf8Assembler _utf8 = new();

    /// <summary>
    /// Takes a token and returns the text that is now certain, often "": up to 3 bytes of an unfinished character wait. Bytes that
    /// turn out not to be UTF-8 become one U+FFFD each. Ids beyond the vocabulary add nothing.
    /// </summary>
    public string Push(int token)
    {
        if (skipSpecial && tokenizer.IsSpecial(token)) return "";
        ReadOnlySpan<char> text = _utf8.Push(tokenizer.TokenBytes(token));
        return text.IsEmpty ? "" : new string(text);
    }

    /// <summary>The end of the sequence: one U+FFFD for each byte that still waits.</summary>
    public string Flush()
    {
        ReadOnlySpan<char> text = _utf8.Flush();
        return text.IsEmpty ? "" : new string(text);
    }
}
