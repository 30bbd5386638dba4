using System.Text;
using GemmaServer.Engine;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>
/// Turns what the model put out into items, in the order in which they appear. Whole answers and streams both come from here, so
/// they cannot differ.
/// </summary>
/// <param name="events">Tells a client of each step; null for a whole answer.</param>
internal sealed class ResponseOutput(ResponseEvents? events)
{
    private readonly List<OutputItem> _items = [];
    private readonly StringBuilder _joined = new();
    private OutputItem? _open;
    private int _otherEvents;   // as ChatChoice counts them

    public IReadOnlyList<OutputItem> Items => _items;

    /// <summary>Takes everything that settled since the last time.</summary>
    public void Take(ChatChoice choice)
    {
        List<OutputEvent> settled = choice.Events;
        for (int i = 0; i < settled.Count; i++)
        {
            switch (settled[i].Kind)
            {
                case OutputEventKind.Reasoning:
                    Append(OutputItemKind.Reasoning, Joined(settled, ref i), []);
                    break;
                case OutputEventKind.Content:
                    Append(OutputItemKind.Message, Joined(settled, ref i), TakeLogprobs(choice));
                    break;
                case OutputEventKind.ToolCallStart:
                    _otherEvents++;
                    Open(new OutputItem(OutputItemKind.Call, settled[i].Text));
                    break;
                case OutputEventKind.ToolCallArguments:
                    Append(OutputItemKind.Call, Joined(settled, ref i), []);
                    break;
                default:
                    _otherEvents++;
                    Close(OutputItemStatus.Completed);
                    break;
            }
        }
        settled.Clear();
    }

    /// <summary>The answer is over: what is open is complete, unless the token limit cut it.</summary>
    public void Finish(ChatChoice choice)
    {
        bool isCut = choice.FinishReason == "length";
        if (_open is { Kind: OutputItemKind.Message } message) message.Logprobs.AddRange(TakeLogprobs(choice));
        Close(isCut ? OutputItemStatus.Incomplete : OutputItemStatus.Completed);
        // An answer without a word is an empty message, not none.
        if (isCut || _items.Exists(static item => item.Kind != OutputItemKind.Reasoning)) return;
        Open(new OutputItem(OutputItemKind.Message));
        Close(OutputItemStatus.Completed);
    }

    private void Append(OutputItemKind kind, string text, List<TokenEvent> logprobs)
    {
        if (_open?.Kind != kind) Open(new OutputItem(kind));
        _open!.Text.Append(text);
        _open.Logprobs.AddRange(logprobs);
        events?.Delta(_open, _items.Count - 1, text, logprobs);
    }

    private void Open(OutputItem item)
    {
        Close(OutputItemStatus.Completed);
        _items.Add(_open = item);
        events?.Added(item, _items.Count - 1);
    }

    private void Close(OutputItemStatus status)
    {
        if (_open is null) return;
        _open.Status = status;
        events?.Done(_open, _items.Count - 1);
        _open = null;
    }

    /// <summary>The logprobs that belong to the text at this place; those of text that never settled are dropped.</summary>
    private List<TokenEvent> TakeLogprobs(ChatChoice choice)
    {
        int count = 0, dropped = 0;
        for (; count < choice.LogprobPlaces.Count && choice.LogprobPlaces[count] <= _otherEvents; count++)
        {
            if (choice.LogprobPlaces[count] < _otherEvents) dropped++;
        }
        if (count == 0) return [];
        List<TokenEvent> taken = choice.Logprobs.GetRange(dropped, count - dropped);
        choice.Logprobs.RemoveRange(0, count);
        choice.LogprobPlaces.RemoveRange(0, count);
        return taken;
    }

    /// <summary>Neighbours of one kind travel together: what came in one step, or while the client was slow.</summary>
    private string Joined(List<OutputEvent> settled, ref int i)
    {
        OutputEvent first = settled[i];
        int end = i + 1;
        while (end < settled.Count && settled[end].Kind == first.Kind && settled[end].ToolIndex == first.ToolIndex) end++;
        if (first.Kind != OutputEventKind.Content) _otherEvents += end - i;
        if (end == i + 1) return first.Text;
        _joined.Clear();
        for (; i < end; i++) _joined.Append(settled[i].Text);
        i = end - 1;
        return _joined.ToString();
    }
}
