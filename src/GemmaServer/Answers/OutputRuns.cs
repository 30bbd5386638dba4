using System.Text;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>Joins neighbours of one kind, which travel together: what came in one step, or while the client was slow.</summary>
internal sealed class OutputRuns
{
    private readonly StringBuilder _joined = new();

    /// <summary>The text of the run that begins at <paramref name="i"/>, which moves to its last event.</summary>
    public string Next(List<OutputEvent> events, ref int i)
    {
        OutputEvent first = events[i];
        if (!Continues(events, i)) return first.Text;
        _joined.Clear().Append(first.Text);
        while (Continues(events, i)) _joined.Append(events[++i].Text);
        return _joined.ToString();
    }

    private static bool Continues(List<OutputEvent> events, int i) =>
        i + 1 < events.Count && events[i + 1].Kind == events[i].Kind && events[i + 1].ToolIndex == events[i].ToolIndex;
}
