using System.Text;
using System.Text.Json;
using GemmaServer.Engine;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>What an output item is.</summary>
internal enum OutputItemKind
{
    /// <summary>What the model thought.</summary>
    Reasoning,

    /// <summary>What it said.</summary>
    Message,

    /// <summary>A function that it called.</summary>
    Call,
}

/// <summary>How far an output item has come.</summary>
internal enum OutputItemStatus
{
    /// <summary>More of it may come.</summary>
    InProgress,

    /// <summary>It is whole.</summary>
    Completed,

    /// <summary>The token limit cut it.</summary>
    Incomplete,
}

/// <summary>One item of a response's output.</summary>
/// <param name="kind">What it is.</param>
/// <param name="name">The function's name, for a call.</param>
internal sealed class OutputItem(OutputItemKind kind, string name = "")
{
    public OutputItemKind Kind => kind;

    public string Id { get; } = NewId(kind switch { OutputItemKind.Reasoning => "rs_", OutputItemKind.Message => "msg_", _ => "fc_" });

    public string CallId { get; } = kind == OutputItemKind.Call ? ChatShape.NewCallId() : "";

    public string Name => name;

    /// <summary>The thought, the text or the arguments so far.</summary>
    public StringBuilder Text { get; } = new();

    /// <summary>Logprobs of a message's tokens, where they are wanted.</summary>
    public List<TokenEvent> Logprobs { get; } = [];

    public OutputItemStatus Status { get; set; }

    /// <summary>Ids nobody guesses.</summary>
    public static string NewId(string prefix) => prefix + Guid.NewGuid().ToString("N");

    /// <summary>Writes the item as it is now; one that is in progress has no content yet.</summary>
    /// <param name="json">Where to.</param>
    /// <param name="tokenizer">For logprobs.</param>
    /// <param name="seal">Whether a thought also comes sealed.</param>
    public void Write(Utf8JsonWriter json, Tokenizer tokenizer, bool seal)
    {
        bool isOpen = Status == OutputItemStatus.InProgress;
        json.WriteStartObject();
        json.WriteString("id"u8, Id);
        json.WriteString("type"u8, kind switch { OutputItemKind.Reasoning => "reasoning"u8, OutputItemKind.Message => "message"u8, _ => "function_call"u8 });
        json.WriteString("status"u8, Status switch { OutputItemStatus.InProgress => "in_progress"u8, OutputItemStatus.Completed => "completed"u8, _ => "incomplete"u8 });
        if (kind == OutputItemKind.Call)
        {
            json.WriteString("call_id"u8, CallId);
            json.WriteString("name"u8, name);
            json.WriteString("arguments"u8, isOpen ? "" : Text.ToString());
            json.WriteEndObject();
            return;
        }
        if (kind == OutputItemKind.Message) json.WriteString("role"u8, "assistant"u8);
        else
        {
            json.WriteStartArray("summary"u8);
            json.WriteEndArray();
        }
        json.WriteStartArray("content"u8);
        if (!isOpen) WritePart(json, tokenizer);
        json.WriteEndArray();
        if (kind == OutputItemKind.Reasoning && seal && !isOpen) json.WriteString("encrypted_content"u8, SealedThought.Seal(Text.ToString()));
        json.WriteEndObject();
    }

    /// <summary>Writes the one part of a message or thought; it is empty while it is in progress.</summary>
    public void WritePart(Utf8JsonWriter json, Tokenizer tokenizer)
    {
        string text = Status == OutputItemStatus.InProgress ? "" : Text.ToString();
        if (kind == OutputItemKind.Message)
        {
            WriteText(json, text, tokenizer, Status == OutputItemStatus.InProgress ? [] : Logprobs);
            return;
        }
        json.WriteStartObject();
        json.WriteString("type"u8, "reasoning_text"u8);
        json.WriteString("text"u8, text);
        json.WriteEndObject();
    }

    /// <summary>Writes a part of visible text.</summary>
    public static void WriteText(Utf8JsonWriter json, string text, Tokenizer? tokenizer, IReadOnlyList<TokenEvent> logprobs)
    {
        json.WriteStartObject();
        json.WriteString("type"u8, "output_text"u8);
        json.WriteString("text"u8, text);
        json.WriteStartArray("annotations"u8);
        json.WriteEndArray();
        json.WritePropertyName("logprobs"u8);
        TokenLogprobWriter.WriteArray(json, tokenizer!, logprobs);
        json.WriteEndObject();
    }
}
