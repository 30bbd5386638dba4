using System.Text;

namespace GemmaServer.Text;

/// <summary>Folds output events into a whole message, for answers that are not streamed.</summary>
public sealed class OutputCollector
{
    private readonly StringBuilder _reasoning = new();
    private readonly StringBuilder _content = new();
    private readonly StringBuilder _arguments = new();
    private readonly List<CollectedToolCall> _calls = [];
    private string _name = "";

    /// <summary>All thinking; empty when there was none.</summary>
    public string Reasoning => _reasoning.ToString();

    /// <summary>All visible text; empty when there was none.</summary>
    public string Content => _content.ToString();

    /// <summary>The complete calls. One that the token limit cut is left out.</summary>
    public IReadOnlyList<CollectedToolCall> ToolCalls => _calls;

    /// <summary>Takes the next event.</summary>
    public void Add(OutputEvent output)
    {
        switch (output.Kind)
        {
            case OutputEventKind.Reasoning:
                _reasoning.Append(output.Text);
                break;
            case OutputEventKind.Content:
                _content.Append(output.Text);
                break;
            case OutputEventKind.ToolCallStart:
                _name = output.Text;
                _arguments.Clear();
                break;
            case OutputEventKind.ToolCallArguments:
                _arguments.Append(output.Text);
                break;
            default:
                _calls.Add(new(_name, _arguments.ToString()));
                break;
        }
    }

    /// <summary>Takes events in order.</summary>
    public void AddRange(IEnumerable<OutputEvent> outputs)
    {
        foreach (OutputEvent output in outputs) Add(output);
    }
}

/// <summary>A complete tool call.</summary>
/// <param name="Name">The tool's name, declared or not.</param>
/// <param name="ArgumentsJson">A JSON object in the model's own key order.</param>
public sealed record CollectedToolCall(string Name, string ArgumentsJson);
