using GemmaServer.Compute;
using GemmaServer.Engine;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>
/// One answer of a chat request: takes token events, gives settled output events. The whole and the streamed answer both read
/// <see cref="Events"/>, so they cannot differ.
/// </summary>
internal sealed class ChatChoice : IAnswerChoice
{
    private readonly ChatRequest _request;
    private readonly Tokenizer _tokenizer;
    private readonly Generation _generation;
    private readonly OutputParser _parser;
    private readonly StopTextFilter? _filter;
    private readonly List<OutputEvent> _parsed = [];
    private readonly bool _wantsLogprobs;
    private bool _inCall;
    private int _otherEvents;

    public ChatChoice(int index, Generation generation, ChatRequest request, Tokenizer tokenizer)
    {
        Index = index;
        _generation = generation;
        _request = request;
        _tokenizer = tokenizer;
        // An opener that was lost is guessed from the text; where a format rules, the text may begin with anything.
        _parser = new OutputParser(tokenizer, request.Start, request.EnableThinking && request.Constraint?.Format is null);
        if (request.Sampling.Stops.Count > 0) _filter = new StopTextFilter(request.Sampling.Stops, request.Sampling.IncludeStop);
        _wantsLogprobs = request.Logprobs >= 0;
    }

    public int Index { get; }

    /// <summary>What is settled and not yet written; the writer clears it.</summary>
    public List<OutputEvent> Events { get; } = [];

    /// <summary>Logprobs of visible tokens that are not yet written; the writer clears it.</summary>
    public List<TokenEvent> Logprobs { get; } = [];

    /// <summary>The stop that the client named and the answer ended at.</summary>
    public StopReason StopReason { get; private set; }

    /// <summary>The moments that matter.</summary>
    public Generation Generation => _generation;

    /// <summary>For each of <see cref="Logprobs"/>, how many events that are no content came before it; for writers that part the content there.</summary>
    public List<int> LogprobPlaces { get; } = [];

    /// <summary>Token ids that are not yet written, where the client wants them; the writer clears it.</summary>
    public List<int> TokenIds { get; } = [];

    /// <summary>Tokens generated, the stop token included.</summary>
    public int Tokens { get; private set; }

    /// <summary>Prompt tokens that did not have to be computed.</summary>
    public int CachedTokens => _generation.CachedTokens;

    public int ReasoningTokens => _parser.ReasoningTokens;

    /// <summary>stop, length or tool_calls; null while it goes on, or when it failed.</summary>
    public string? FinishReason { get; private set; }

    /// <summary>Why there is no answer; null when all is well.</summary>
    public ApiError? Failure { get; private set; }

    public bool IsDone => FinishReason is not null || Failure is not null;

    /// <summary>Takes what has come, up to <see cref="AnswerLoop.MostAtOnce"/> tokens; false when there was nothing.</summary>
    public bool Take(RequestWatch watch)
    {
        int taken = 0;
        while (!IsDone && taken < AnswerLoop.MostAtOnce && _generation.TryRead(out TokenEvent token))
        {
            taken++;
            if (token.Token >= 0)
            {
                Tokens++;
                if (_request.Sampling.ReturnTokenIds) TokenIds.Add(token.Token);
                watch.Token(Index);
            }
            Push(token, watch);
        }
        return taken > 0;
    }

    private void Push(in TokenEvent token, RequestWatch watch)
    {
        if (token.Token >= 0)
        {
            int thought = _parser.ReasoningTokens;
            _parser.Push(token.Token, _parsed);
            if (_wantsLogprobs && IsVisible(token.Token, _parser.ReasoningTokens > thought))
            {
                Logprobs.Add(token);
                LogprobPlaces.Add(_otherEvents);
            }
            Forward();
        }
        if (IsDone)
        {
            StopReason = StopReason.Of(_filter, token.Token, isStop: false, []);
            return;
        }
        switch (token.Finish)
        {
            case Engine.FinishReason.None:
                break;
            case Engine.FinishReason.Stop:
            case Engine.FinishReason.Length:
                _parser.Finish(token.Finish == Engine.FinishReason.Length, _parsed);
                Forward();
                if (!IsDone) Finish(NameOf(_parser.FinishReason));
                StopReason = StopReason.Of(_filter, token.Token, token.Finish == Engine.FinishReason.Stop, _request.Sampling.StopTokens);
                break;
            default:
                Failure = FailureOf(token.Finish, watch);
                break;
        }
    }

    /// <summary>Moves parsed events on, through the stop filter; may end the answer early.</summary>
    private void Forward()
    {
        foreach (OutputEvent output in _parsed)
        {
            if (output.Kind == OutputEventKind.Reasoning && !_request.IncludeReasoning) continue;
            if (output.Kind == OutputEventKind.Content && _filter is not null)
            {
                AddContent(_filter.Push(output.Text));
                if (!_filter.Stopped) continue;
                EndEarly("stop");
                break;
            }
            if (_filter is not null) AddContent(_filter.Flush());    // nothing that was held back may come after a call
            Events.Add(output);
            if (output.Kind != OutputEventKind.Content) _otherEvents++;
            if (output.Kind == OutputEventKind.ToolCallEnd && !_request.ParallelToolCalls)
            {
                EndEarly("tool_calls");
                break;
            }
        }
        _parsed.Clear();
    }

    private void Finish(string reason)
    {
        if (_filter is { Stopped: false }) AddContent(_filter.Flush());
        FinishReason = reason;
    }

    private void EndEarly(string reason)
    {
        _generation.Cancel();   // nothing when the engine saw the end as well
        FinishReason = reason;
    }

    private void AddContent(string text)
    {
        if (text.Length > 0) Events.Add(new OutputEvent(OutputEventKind.Content, 0, text));
    }

    private bool IsVisible(int token, bool isThought)
    {
        SpecialTokens special = _tokenizer.Special;
        if (token == special.ToolCallStart) _inCall = true;
        else if (token == special.ToolCallEnd || token == special.ChannelStart) _inCall = false;
        return !isThought && !_inCall && (!_tokenizer.IsSpecial(token) || token == special.Quote);
    }

    private static string NameOf(OutputFinish finish) => finish switch
    {
        OutputFinish.Length => "length",
        OutputFinish.ToolCalls => "tool_calls",
        _ => "stop",
    };

    /// <summary>What to tell about an answer that did not come to its end.</summary>
    public static ApiError FailureOf(FinishReason reason, RequestWatch watch) => reason switch
    {
        Engine.FinishReason.QueueTimeout => ApiError.QueueTimeout,
        Engine.FinishReason.Deadline => ApiError.Deadline,
        Engine.FinishReason.Abort when watch.IsAborted => ApiError.Aborted,
        Engine.FinishReason.Abort => ApiError.Draining,
        _ => ApiError.Internal(watch.RequestId),
    };
}
