namespace GemmaServer.Text;

/// <summary>Says when a stop string has appeared in an answer's visible text; fed with token ids where they are committed.</summary>
public sealed class StopMatcher
{
    /// <summary>Takes a token; true when a stop string is now complete.</summary>
    public bool Push(int token) => false;
}
