namespace GemmaServer;

/// <summary>A request to <c>/api/chat</c> or <c>/api/generate</c>: a chat, a raw completion, or neither, which only asks whether the model is loaded.</summary>
/// <param name="Model">As the client named it; answers repeat it.</param>
/// <param name="IsGenerate">Whether the answer's text is a <c>response</c> and not a <c>message</c>.</param>
/// <param name="Chat">Null for a raw prompt.</param>
/// <param name="Raw">Null where the prompt format is applied.</param>
internal sealed record OllamaRequest(string Model, bool IsGenerate, ChatRequest? Chat = null, CompletionRequest? Raw = null);
