namespace GemmaServer.Text;

// From segments to ids.
public sealed partial class RenderedPrompt
{
    /// <summary>The prompt's token ids; &lt;bos&gt; is the first and the only one, for the template writes it.</summary>
    /// <exception cref="TokenizerException">The vocabulary lacks a control token the prompt needs; the message names it.</exception>
    public int[] Tokenize(Tokenizer tokenizer)
    {
        List<int> ids = new((Text.Length / 3) + 16);
        foreach (PromptSegment segment in Segments)
        {
            if (!segment.IsControl) tokenizer.Encode(segment.Text, parseSpecial: false, ids);
            else ids.Add(tokenizer.TokenId(segment.Text) ?? throw new TokenizerException($"The vocabulary has no '{segment.Text}', which the chat format needs."));
        }
        return [.. ids];
    }
}
