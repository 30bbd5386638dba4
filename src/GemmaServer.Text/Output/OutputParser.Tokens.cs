namespace GemmaServer.Text;

// The parser's public door: token ids of a vocabulary.
public sealed partial class OutputParser
{
    private readonly Tokenizer? _tokenizer;

    /// <summary>Starts an answer.</summary>
    /// <param name="tokenizer">The model's vocabulary.</param>
    /// <param name="start">Where the prompt ended, <see cref="RenderedPrompt.EndState"/>.</param>
    /// <param name="enableThinking">Whether the prompt allowed thinking; then an answer may start with a channel whose token was lost.</param>
    public OutputParser(Tokenizer tokenizer, PromptState start, bool enableThinking) : this(start, enableThinking) => _tokenizer = tokenizer;

    /// <summary>Takes one generated token, the stop token too.</summary>
    /// <param name="token">Its id; one beyond the vocabulary adds nothing.</param>
    /// <param name="events">Receives what is now settled.</param>
    public void Push(int token, List<OutputEvent> events) => Push(_tokenizer!.TokenBytes(token), KindOf(token), events);

    private OutputToken KindOf(int token)
    {
        SpecialTokens special = _tokenizer!.Special;
        for (int i = 0; i < special.EndOfGeneration.Count; i++)
            if (special.EndOfGeneration[i] == token) return OutputToken.End;
        if (!_tokenizer.IsSpecial(token)) return OutputToken.Text;
        if (token == special.ChannelStart) return OutputToken.ChannelStart;
        if (token == special.ChannelEnd) return OutputToken.ChannelEnd;
        if (token == special.ToolCallStart) return OutputToken.ToolCallStart;
        if (token == special.ToolCallEnd) return OutputToken.ToolCallEnd;
        return token == special.Quote ? OutputToken.Quote : OutputToken.Other;
    }
}
