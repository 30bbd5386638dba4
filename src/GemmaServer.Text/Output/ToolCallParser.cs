namespace GemmaServer.Text;

/// <summary>
/// Reads what lies between the tool-call tokens: <c>call:name{arguments}</c>, once or several times. Text that is no call
/// yields nothing.
/// </summary>
internal sealed class ToolCallParser
{
    private readonly CharBuffer _header = new();
    private readonly ArgumentParser _arguments = new();
    private Phase _phase;
    private bool _isFirst;
    private int _started;

    private enum Phase { Header, Arguments, Skip }

    /// <summary>Calls that are complete.</summary>
    public int CompletedCalls { get; private set; }

    /// <summary>Starts a block.</summary>
    public void Open()
    {
        (_phase, _isFirst) = (Phase.Header, true);
        _header.Clear();
    }

    public void Push(ReadOnlySpan<char> text, List<OutputEvent> events)
    {
        while (!text.IsEmpty && _phase != Phase.Skip)
        {
            if (_phase == Phase.Header)
            {
                int brace = text.IndexOf('{');
                _header.Append(brace < 0 ? text : text[..brace]);
                if (brace < 0) return;
                text = text[(brace + 1)..];
                BeginCall(events);
            }
            else
            {
                text = text[_arguments.Push(text)..];
                if (_arguments.IsClosed) EndCall(events);
            }
        }
        WriteArguments(events);
    }

    /// <summary>Takes the string delimiter token.</summary>
    public void Delimiter(List<OutputEvent> events)
    {
        if (_phase == Phase.Header) _header.Append('"');   // no name holds a quote
        if (_phase != Phase.Arguments) return;
        _arguments.Delimiter();
        WriteArguments(events);
    }

    /// <summary>The block is over; a call still open is finished as well as can be.</summary>
    public void Close(List<OutputEvent> events)
    {
        if (_phase != Phase.Arguments) return;
        _arguments.ForceClose();
        EndCall(events);
    }

    private void BeginCall(List<OutputEvent> events)
    {
        ReadOnlySpan<char> name = Name();
        if (!ToolCallNames.IsValid(name))
        {
            _phase = Phase.Skip;
            return;
        }
        events.Add(new(OutputEventKind.ToolCallStart, _started++, new string(name)));
        _arguments.Begin();
        _phase = Phase.Arguments;
    }

    /// <summary>The text between <c>call:</c> and the brace; empty when it is no call. The first may have lost its "call".</summary>
    private ReadOnlySpan<char> Name()
    {
        ReadOnlySpan<char> header = PythonText.StripStart(_header.Span);
        if (!_isFirst)
        {
            while (header is [',', ..]) header = PythonText.StripStart(header[1..]);
            return header.StartsWith("call:") ? PythonText.Strip(header[5..]) : [];
        }
        if (header is [':', ..]) header = header[1..].StartsWith("call:") ? header[6..] : header[1..];
        else if (header.StartsWith("call:")) header = header[5..];
        else return [];
        return PythonText.Strip(header);
    }

    private void EndCall(List<OutputEvent> events)
    {
        WriteArguments(events);
        events.Add(new(OutputEventKind.ToolCallEnd, _started - 1, ""));
        CompletedCalls++;
        (_phase, _isFirst) = (Phase.Header, false);
        _header.Clear();
    }

    private void WriteArguments(List<OutputEvent> events)
    {
        if (_phase != Phase.Arguments || _arguments.Json.Length == 0) return;
        events.Add(new(OutputEventKind.ToolCallArguments, _started - 1, _arguments.Json.ToString()));
        _arguments.Json.Clear();
    }
}
