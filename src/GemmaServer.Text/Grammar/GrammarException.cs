namespace GemmaServer.Text;

/// <summary>A schema, regular expression or grammar that cannot be followed, or not within its bounds; the message is for the client.</summary>
/// <param name="message">What is wrong, in a sentence without the field's name.</param>
/// <param name="path">Where in a schema, as a JSON pointer; null where that says nothing.</param>
public sealed class GrammarException(string message, string? path = null) : Exception(message)
{
    /// <summary>Where in a schema, as a JSON pointer; null where that says nothing.</summary>
    public string? Path { get; } = path;
}
