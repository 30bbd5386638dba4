namespace GemmaServer.Text;

/// <summary>One message of a conversation, near its JSON form. <see cref="OpenAiMessageReader"/> makes them from requests.</summary>
public sealed class ChatMessage
{
    /// <summary>system, developer, user, assistant or tool. Printed into the prompt as it is (assistant as "model"), so check it first.</summary>
    public required string Role { get; init; }

    /// <summary>A string, a list of parts (<c>{type, text}</c>, media parts by type), another scalar for tools; null when absent.</summary>
    public ChatValue? Content { get; init; }

    /// <summary>Calls an assistant made, in order.</summary>
    public IReadOnlyList<ChatToolCall> ToolCalls { get; init; } = [];

    /// <summary>Results that travel on the assistant message itself (Google's older form); empty in OpenAI's form.</summary>
    public IReadOnlyList<ChatToolResponse> ToolResponses { get; init; } = [];

    /// <summary>On a tool message: the call it answers.</summary>
    public string? ToolCallId { get; init; }

    /// <summary>On a tool message: the tool's name, used when no call has the id.</summary>
    public string? Name { get; init; }

    /// <summary>The assistant's thinking, shown while its turn lasts.</summary>
    public string? Reasoning { get; init; }

    /// <summary>A message of plain text.</summary>
    public static ChatMessage Of(string role, string text) => new() { Role = role, Content = ChatValue.String(text) };
}

/// <summary>A call in an assistant message.</summary>
/// <param name="Id">The id a tool message refers to; null equals null.</param>
/// <param name="Name">The tool's name.</param>
/// <param name="Arguments">A map, or JSON null for none; the renderer refuses anything else.</param>
public sealed record ChatToolCall(string? Id, string Name, ChatValue Arguments);

/// <summary>A result on an assistant message.</summary>
/// <param name="Name">The tool's name; null or empty prints "unknown".</param>
/// <param name="Response">A map is printed member by member, anything else as <c>value</c>.</param>
public sealed record ChatToolResponse(string? Name, ChatValue Response);
