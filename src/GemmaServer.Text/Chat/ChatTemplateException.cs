namespace GemmaServer.Text;

/// <summary>The conversation cannot be rendered; the message says what is wrong with it and may be shown to a client.</summary>
public sealed class ChatTemplateException : Exception
{
    /// <summary>Names what is wrong.</summary>
    public ChatTemplateException(string message) : base(message)
    {
    }
}
