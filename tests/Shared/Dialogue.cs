using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer.Tests;

/// <summary>How the model of a <see cref="Dialogue"/> writes and what its client sends back.</summary>
public enum DialogueStyle
{
    /// <summary>Text only.</summary>
    Text,

    /// <summary>Text with blank lines at its end, which the template trims.</summary>
    TrailingBlanks,

    /// <summary>Text behind a thought channel of its own with nothing in it, whether it was asked to think or not.</summary>
    EmptyThought,

    /// <summary>Calls, one after the other's result.</summary>
    Calls,

    /// <summary>Two calls at a time.</summary>
    ParallelCalls,

    /// <summary>Text before each call, which the template puts behind the result.</summary>
    TextBeforeCalls,

    /// <summary>Arguments in another order than the template's.</summary>
    UnsortedArguments,
}

/// <summary>
/// A conversation as it goes over the wire: each prompt is rendered from what an OpenAI client keeps of the answers before,
/// each answer is token by token what a model writes.
/// </summary>
internal sealed class Dialogue(Tokenizer tokenizer, TemplateFlavour flavour, bool thinking, DialogueStyle style, bool sendsReasoningBack)
{
    /// <summary>Prompts of a dialogue.</summary>
    public const int Requests = 6;

    /// <summary>Tokens before a kept place that may come back changed, at most: blanks, or a call's arguments in another order.</summary>
    public const int MostChanged = 64;

    // Each longer than the cache's slack, so that no kept place lies near another by chance.
    private const string Thought = "The user asks this, so I look at what I know, weigh one thing and another, leave out what does not matter, and then say it in a few words.";
    private const string Said = "It is sunny there, and will be; take a hat with you, and come back before the evening, when the wind turns and it gets cold by the sea.";

    private readonly List<ChatMessage> _messages = [];
    private PromptState _start;
    private int _asked;

    private bool HasTools => style >= DialogueStyle.Calls;

    /// <summary>Puts the first question.</summary>
    public void Begin(string question)
    {
        _messages.Add(ChatMessage.Of("system", "You are a helpful assistant."));
        _messages.Add(ChatMessage.Of("user", question));
    }

    /// <summary>The next prompt.</summary>
    public (int[] Prompt, int Boundary) Render()
    {
        RenderedPrompt prompt = ChatRenderer.Render(new ChatPrompt
        {
            Messages = _messages, Flavour = flavour, EnableThinking = thinking, Tools = HasTools ? [s_tool] : [],
        });
        _start = prompt.EndState;
        int[] tokens = prompt.Tokenize(tokenizer, out int boundary);
        return (tokens, boundary);
    }

    /// <summary>What the model writes now, stop token included. With tools: a call, another, the answer; then a question again.</summary>
    public int[] Answer()
    {
        string thought = style == DialogueStyle.EmptyThought ? "<|channel>thought\n<channel|>"
            : !thinking ? ""
            : _start == PromptState.ThoughtOpen ? $"{Thought}\n<channel|>" : $"<|channel>thought\n{Thought}\n<channel|>";
        const string call = "<|tool_call>call:get_weather{city:<|\"|>Paris<|\"|>,days:2}<tool_call|>";
        string text = (HasTools && _asked % 3 < 2, style) switch
        {
            (true, DialogueStyle.ParallelCalls) => $"{call}{call.Replace("Paris", "Rome", StringComparison.Ordinal)}<|tool_response>",
            (true, DialogueStyle.TextBeforeCalls) => $"Let me look that up for you.{call}<|tool_response>",
            (true, DialogueStyle.UnsortedArguments) => "<|tool_call>call:get_weather{days:2,city:<|\"|>Paris<|\"|>}<tool_call|><|tool_response>",
            (true, _) => $"{call}<|tool_response>",
            (false, DialogueStyle.TrailingBlanks) => $"{Said}\n\n<turn|>",
            _ => $"{Said}<turn|>",
        };
        return tokenizer.Encode(thought + text, parseSpecial: true);
    }

    /// <summary>What the client keeps of an answer, and what it says next: the results of its calls, or a question.</summary>
    public void Continue(int[] answer)
    {
        OutputParser parser = new(tokenizer, _start, thinking);
        List<OutputEvent> events = [];
        foreach (int token in answer) parser.Push(token, events);
        parser.Finish(lengthStop: false, events);
        OutputCollector collected = new();
        collected.AddRange(events);

        ChatToolCall[] calls = [.. collected.ToolCalls.Select((c, i) => new ChatToolCall($"call_{_asked}_{i}", c.Name, Json(c.ArgumentsJson)))];
        _messages.Add(new ChatMessage
        {
            Role = "assistant",
            Content = ChatValue.String(collected.Content),
            Reasoning = sendsReasoningBack && collected.Reasoning.Length > 0 ? collected.Reasoning : null,
            ToolCalls = calls,
        });
        foreach (ChatToolCall call in calls)
            _messages.Add(new ChatMessage { Role = "tool", ToolCallId = call.Id, Content = ChatValue.String("Sunny, 24 degrees, a light wind from the west.") });
        if (calls.Length == 0) _messages.Add(ChatMessage.Of("user", $"And what about the day after that, number {_asked}?"));
        _asked++;
    }

    private static readonly ChatValue s_tool = Json(
        """{"type":"function","function":{"name":"get_weather","description":"The weather of a city.","parameters":{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}}}}}""");

    private static ChatValue Json(string json)
    {
        using JsonDocument document = JsonDocument.Parse(json);
        return ChatValue.From(document.RootElement);
    }
}
