namespace GemmaServer.Text;

// From segments to ids.
public sealed partial class RenderedPrompt
{
    /// <summary>The prompt's token ids; &lt;bos&gt; is the first and the only one, for the template writes it.</summary>
    /// <exception cref="TokenizerException">The vocabulary lacks a control token the prompt needs; the message names it.</exception>
    public int[] Tokenize(Tokenizer tokenizer) => Tokenize(tokenizer, out _);

    /// <summary>As above.</summary>
    /// <param name="tokenizer">The vocabulary.</param>
    /// <param name="generationStart">How many of the ids come before the generation prompt.</param>
    /// <exception cref="TokenizerException">The vocabulary lacks a control token the prompt needs; the message names it.</exception>
    public int[] Tokenize(Tokenizer tokenizer, out int generationStart)
    {
        generationStart = -1;
        List<int> ids = new((Text.Length / 3) + 16);
        for (int i = 0; i < Segments.Count; i++)
        {
            PromptSegment segment = Segments[i];
            if (i == GenerationStart) generationStart = ids.Count;
            if (!segment.IsControl) tokenizer.Encode(segment.Text, parseSpecial: false, ids);
            else ids.Add(tokenizer.TokenId(segment.Text) ?? throw new TokenizerException($"The vocabulary has no '{segment.Text}', which the chat format needs."));
        }
        if (generationStart < 0) generationStart = ids.Count;
        return [.. ids];
    }
}
