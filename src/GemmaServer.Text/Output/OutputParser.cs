using System.Text;

namespace GemmaServer.Text;

/// <summary>
/// Separates a model's output into thinking, visible text and tool calls while it is generated. One per answer. Works on
/// tokens: a marker is the control token, never text that looks like it. Takes anything without throwing, in time linear in
/// the output.
/// </summary>
/// <remarks>Source: spec/gemma4-chat.md, section 6.</remarks>
public sealed partial class OutputParser
{
    private readonly Decoder _utf8 = Encoding.UTF8.GetDecoder();
    private readonly TextRun _reasoning = new(OutputEventKind.Reasoning, alwaysTrim: true);
    private readonly TextRun _content = new(OutputEventKind.Content, alwaysTrim: false);
    private readonly ToolCallParser _call = new();
    private State _state;
    private Label _label;
    private int _labelMatched;
    private int _labelTokens;
    private bool _isLength;

    private enum State { Content, Reasoning, Call, Ended }

    /// <summary>Whether the channel's name may follow: after its token, or at the start of an answer that lost the token.</summary>
    private enum Label { None, Channel, Implicit }

    /// <summary>The same machine fed with pieces instead of ids, as the stored cases are.</summary>
    public OutputParser(PromptState start, bool enableThinking)
    {
        _state = start == PromptState.ThoughtOpen ? State.Reasoning : State.Content;
        _label = enableThinking && start == PromptState.Content ? Label.Implicit : Label.None;
    }

    /// <summary>Tokens spent on thinking so far, with the channel's own tokens.</summary>
    public int ReasoningTokens { get; private set; }

    /// <summary>Whether the answer is over; further tokens are ignored.</summary>
    public bool IsEnded => _state == State.Ended;

    /// <summary>Why the answer ended; final after <see cref="Finish"/>.</summary>
    public OutputFinish FinishReason => _isLength ? OutputFinish.Length : _call.CompletedCalls > 0 ? OutputFinish.ToolCalls : OutputFinish.Stop;

    /// <summary>Takes one token by its bytes; a control token by its literal text.</summary>
    public void Push(ReadOnlySpan<byte> piece, bool isSpecial, List<OutputEvent> events) =>
        Push(piece, isSpecial ? KindOf(piece) : OutputToken.Text, events);

    /// <summary>The answer is over; settles what is still open.</summary>
    /// <param name="lengthStop">Whether the token limit ended it: a call that is not closed then stays incomplete.</param>
    /// <param name="events">Receives the rest.</param>
    public void Finish(bool lengthStop, List<OutputEvent> events)
    {
        if (_state == State.Ended) return;
        _isLength = lengthStop;
        End(events);
    }

    private void Push(ReadOnlySpan<byte> piece, OutputToken token, List<OutputEvent> events)
    {
        if (_state == State.Ended) return;
        bool wasReasoning = _state == State.Reasoning;
        if (_label == Label.Implicit) _labelTokens++;

        if (token == OutputToken.Text) Decode(piece, flush: false, events);
        else Control(token, events);

        bool isReasoning = _state == State.Reasoning || (wasReasoning && token is OutputToken.ChannelEnd);
        if (isReasoning) ReasoningTokens++;
    }

    private void Control(OutputToken token, List<OutputEvent> events)
    {
        Decode([], flush: true, events);
        if (token == OutputToken.Quote)
        {
            if (_state == State.Call) _call.Delimiter(events);
            else Text("\"", events);
            return;
        }
        if (token == OutputToken.End)
        {
            End(events);
            return;
        }
        if (token == OutputToken.Other)
        {
            _content.Marker();
            return;
        }
        // The rest of the table: two openers that leave any state, two closers that mean something in one.
        EndLabel(events);
        _content.Marker();
        if (token is OutputToken.ChannelStart or OutputToken.ToolCallStart || (token == OutputToken.ToolCallEnd && _state == State.Call))
        {
            if (_state == State.Call) _call.Close(events);
            if (token == OutputToken.ToolCallEnd) _state = State.Content;
        }
        if (token == OutputToken.ChannelStart) (_state, _label) = (State.Reasoning, Label.Channel);
        else if (token == OutputToken.ChannelEnd && _state == State.Reasoning) _state = State.Content;
        else if (token == OutputToken.ToolCallStart)
        {
            _state = State.Call;
            _call.Open();
        }
    }

    private void End(List<OutputEvent> events)
    {
        Decode([], flush: true, events);
        EndLabel(events);
        if (_state == State.Call && !_isLength) _call.Close(events);
        _reasoning.End(events);
        _content.End(events);
        _state = State.Ended;
    }

    /// <summary>Bytes to characters: an incomplete character waits for the next piece, or becomes U+FFFD when none can come.</summary>
    private void Decode(ReadOnlySpan<byte> bytes, bool flush, List<OutputEvent> events)
    {
        Span<char> chars = stackalloc char[256];
        bool isDone = false;
        while (!isDone)
        {
            _utf8.Convert(bytes, chars, flush, out int used, out int written, out isDone);
            bytes = bytes[used..];
            if (written > 0) Text(chars[..written], events);
        }
    }

    private void Text(ReadOnlySpan<char> text, List<OutputEvent> events)
    {
        if (_label != Label.None) text = MatchLabel(text, events);
        if (text.IsEmpty) return;
        if (_state == State.Call) _call.Push(text, events);
        else (_state == State.Reasoning ? _reasoning : _content).Append(text, events);
    }

    /// <summary>Takes the channel's name off; gives back the text behind it, or all of it when it is no name.</summary>
    private ReadOnlySpan<char> MatchLabel(ReadOnlySpan<char> text, List<OutputEvent> events)
    {
        int common = text.CommonPrefixLength(ControlTokens.ThoughtLabel.AsSpan(_labelMatched));
        if (_labelMatched + common == ControlTokens.ThoughtLabel.Length)
        {
            if (_label == Label.Implicit) (_state, ReasoningTokens) = (State.Reasoning, _labelTokens - 1);   // this token is counted by Push
            (_label, _labelMatched) = (Label.None, 0);
            return text[common..];
        }
        if (common == text.Length)
        {
            _labelMatched += common;
            return [];
        }
        FlushLabel(events);
        return text;
    }

    /// <summary>No more of the name can come; a block that is just the name without its newline is empty.</summary>
    private void EndLabel(List<OutputEvent> events)
    {
        if (_label == Label.Channel && _labelMatched == ControlTokens.ThoughtLabel.Length - 1) _labelMatched = 0;
        if (_label != Label.None) FlushLabel(events);
    }

    private void FlushLabel(List<OutputEvent> events)
    {
        int matched = _labelMatched;
        (_label, _labelMatched) = (Label.None, 0);
        if (matched > 0) Text(ControlTokens.ThoughtLabel.AsSpan(0, matched), events);
    }

    private static OutputToken KindOf(ReadOnlySpan<byte> token)
    {
        if (token.SequenceEqual("<|channel>"u8)) return OutputToken.ChannelStart;
        if (token.SequenceEqual("<channel|>"u8)) return OutputToken.ChannelEnd;
        if (token.SequenceEqual("<|tool_call>"u8)) return OutputToken.ToolCallStart;
        if (token.SequenceEqual("<tool_call|>"u8)) return OutputToken.ToolCallEnd;
        if (token.SequenceEqual("<|\"|>"u8)) return OutputToken.Quote;
        bool isEnd = token.SequenceEqual("<turn|>"u8) || token.SequenceEqual("<eos>"u8)
            || token.SequenceEqual("<|tool_response>"u8) || token.SequenceEqual("<|turn>"u8);
        return isEnd ? OutputToken.End : OutputToken.Other;
    }
}
