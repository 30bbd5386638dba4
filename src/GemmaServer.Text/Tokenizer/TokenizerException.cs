namespace GemmaServer.Text;

/// <summary>A vocabulary cannot be used; the message names the field and what is wrong with it.</summary>
public sealed class TokenizerException : Exception
{
    /// <summary>Says what is wrong.</summary>
    public TokenizerException(string message) : base(message) { }

    /// <summary>Says what is wrong, and what the reader below said.</summary>
    public TokenizerException(string message, Exception inner) : base(message, inner) { }
}
