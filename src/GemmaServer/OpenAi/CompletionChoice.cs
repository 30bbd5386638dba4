using System.Text;
using GemmaServer.Compute;
using GemmaServer.Engine;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>One answer of a completion request: raw text, with the prompt before it where echoed.</summary>
internal sealed class CompletionChoice : IAnswerChoice
{
    private readonly CompletionRequest _request;
    private readonly CompletionPrompt _prompt;
    private readonly Generation _generation;
    private readonly Tokenizer _tokenizer;
    private readonly Detokenizer _detokenizer;
    private readonly StopTextFilter? _filter;
    private bool _echoed;
    private bool _toldPrompt;

    public CompletionChoice(int index, Generation generation, CompletionRequest request, CompletionPrompt prompt, Tokenizer tokenizer)
    {
        Index = index;
        _generation = generation;
        _request = request;
        _prompt = prompt;
        _tokenizer = tokenizer;
        _detokenizer = new Detokenizer(tokenizer, request.Sampling.SkipSpecial);
        if (request.Sampling.Stops.Count > 0) _filter = new StopTextFilter(request.Sampling.Stops, request.Sampling.IncludeStop);
    }

    public int Index { get; }

    /// <summary>Prompt tokens that did not have to be computed.</summary>
    public int CachedTokens => _generation.CachedTokens;

    /// <summary>Text that is settled and not yet written; the writer clears it.</summary>
    public StringBuilder Text { get; } = new();

    /// <summary>Tokens whose logprobs are not yet written; the writer clears it. The logprob of a prompt's first token is NaN.</summary>
    public List<TokenEvent> Logprobs { get; } = [];

    /// <summary>Where in the choice's text the next token of <see cref="Logprobs"/> starts.</summary>
    public int Offset { get; set; }

    /// <summary>Token ids that are not yet written, where the client wants them; the writer clears it.</summary>
    public List<int> TokenIds { get; } = [];

    /// <summary>What the engine knows of it.</summary>
    public Generation Generation => _generation;

    public int Tokens { get; private set; }

    /// <summary>The stop that the client named and the answer ended at.</summary>
    public StopReason StopReason { get; private set; }

    public string? FinishReason { get; private set; }

    public ApiError? Failure { get; private set; }

    public bool IsDone => FinishReason is not null || Failure is not null;

    /// <summary>Takes what has come, up to <see cref="AnswerLoop.MostAtOnce"/> tokens; false when there was nothing.</summary>
    public bool Take(RequestWatch watch)
    {
        int taken = 0;
        while (!IsDone && taken < AnswerLoop.MostAtOnce && _generation.TryRead(out TokenEvent token))
        {
            taken++;
            if (token.Finish is Engine.FinishReason.None or Engine.FinishReason.Stop or Engine.FinishReason.Length) EchoPrompt();
            if (token.Token >= 0)
            {
                Tokens++;
                if (_request.Sampling.ReturnTokenIds) TokenIds.Add(token.Token);
                watch.Token(Index);
                if (_request.Logprobs >= 0) Logprobs.Add(token);
                // The token that ended the answer belongs to it only when it is text.
                Add(_detokenizer.Push(token.Token));
            }
            if (IsDone)
            {
                StopReason = StopReason.Of(_filter, token.Token, isStop: false, []);
                break;
            }
            if (token.Finish is Engine.FinishReason.Stop or Engine.FinishReason.Length)
            {
                Add(_detokenizer.Flush());
                if (_filter is { Stopped: false }) Text.Append(_filter.Flush());
                FinishReason ??= token.Finish == Engine.FinishReason.Stop ? "stop" : "length";
                StopReason = StopReason.Of(_filter, token.Token, token.Finish == Engine.FinishReason.Stop, _request.Sampling.StopTokens);
            }
            else if (token.Finish != Engine.FinishReason.None)
            {
                Failure = ChatChoice.FailureOf(token.Finish, watch);
            }
        }
        return taken > 0;
    }

    /// <summary>The prompt's tokens, the first time.</summary>
    public int[]? TakePromptTokens()
    {
        if (_toldPrompt) return null;
        _toldPrompt = true;
        return _prompt.Tokens;
    }

    private void Add(string text)
    {
        if (text.Length == 0) return;
        if (_filter is null)
        {
            Text.Append(text);
            return;
        }
        Text.Append(_filter.Push(text));
        if (!_filter.Stopped || FinishReason is not null) return;
        _generation.Cancel();
        FinishReason = "stop";
    }

    private void EchoPrompt()
    {
        if (_echoed || !_request.Echo) return;
        _echoed = true;
        Text.Append(_prompt.Text);
        if (_request.Logprobs < 0) return;
        Logprobs.Add(new TokenEvent(_prompt.Tokens[0], float.NaN, null, Engine.FinishReason.None));
        foreach (TokenLogprob[] row in _generation.PromptLogprobs ?? [])
            Logprobs.Add(new TokenEvent(row[0].Token, row[0].Logprob, row[1..], Engine.FinishReason.None));
    }

    /// <summary>How a token is named in logprobs.</summary>
    public string NameOf(int token) => _request.Sampling.TokensAsIds ? $"token_id:{token}" : TokenLogprobWriter.TextOf(_tokenizer, token);

    /// <summary>UTF-16 units the token adds to the text.</summary>
    public int LengthOf(int token) => _request.Sampling.SkipSpecial && _tokenizer.IsSpecial(token) ? 0 : TokenLogprobWriter.TextOf(_tokenizer, token).Length;
}
