namespace GemmaServer.Text;

/// <summary>A run of prompt text.</summary>
/// <param name="IsControl">True: <paramref name="Text"/> is one control token. False: plain text in which nothing is a control token.</param>
/// <param name="Text">The run; never empty.</param>
public readonly record struct PromptSegment(bool IsControl, string Text);

/// <summary>
/// A prompt in segments. Only the template writes control tokens; whatever users wrote lies in text segments and is tokenized
/// with special tokens off, so nobody can close a turn or forge a tool result.
/// </summary>
public sealed partial class RenderedPrompt
{
    internal RenderedPrompt(IReadOnlyList<PromptSegment> segments, PromptState endState, int? generationStart = null)
    {
        (Segments, EndState, GenerationStart) = (segments, endState, generationStart ?? segments.Count);
        Text = string.Concat(segments.Select(static s => s.Text));
    }

    /// <summary>All segments joined: the text the reference template gives.</summary>
    public string Text { get; }

    /// <summary>Control tokens and the text between them; two text segments never touch.</summary>
    public IReadOnlyList<PromptSegment> Segments { get; }

    /// <summary>The segment with which the generation prompt begins; their number when there is none. The next turn repeats what lies before.</summary>
    public int GenerationStart { get; }

    /// <summary>Where the output parser starts.</summary>
    public PromptState EndState { get; }
}
