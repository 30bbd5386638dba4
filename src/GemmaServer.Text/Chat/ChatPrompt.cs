namespace GemmaServer.Text;

/// <summary>Which of the two canonical templates; they differ only in the generation prompt without thinking.</summary>
public enum TemplateFlavour
{
    /// <summary>E2B and E4B.</summary>
    Small,

    /// <summary>12B, 26B-A4B and 31B: an empty thought channel is put before the answer when thinking is off.</summary>
    Large,
}

/// <summary>Where the model's output begins.</summary>
public enum PromptState
{
    /// <summary>In visible text.</summary>
    Content,

    /// <summary>Inside a thought channel that the prompt opened.</summary>
    ThoughtOpen,
}

/// <summary>Everything a prompt is rendered from.</summary>
public sealed class ChatPrompt
{
    /// <summary>The conversation.</summary>
    public required IReadOnlyList<ChatMessage> Messages { get; init; }

    /// <summary>Tool declarations, <c>{type: "function", function: {name, description, parameters}}</c> each.</summary>
    public IReadOnlyList<ChatValue> Tools { get; init; } = [];

    /// <summary>The template to follow.</summary>
    public TemplateFlavour Flavour { get; init; } = TemplateFlavour.Small;

    /// <summary>Whether the model's turn is opened at the end; default true.</summary>
    public bool AddGenerationPrompt { get; init; } = true;

    /// <summary>Whether the model may think; null counts as off.</summary>
    public bool? EnableThinking { get; init; }

    /// <summary>Whether the thinking of earlier turns with tool calls stays in the prompt; null counts as off.</summary>
    public bool? PreserveThinking { get; init; }

    /// <summary>Leaves the last message open so that the model goes on with it; takes the place of the generation prompt.</summary>
    public bool ContinueFinalMessage { get; init; }

    /// <summary>
    /// Opens a new model turn after an assistant turn with text, calls and results, where the canonical template opens none
    /// (gemma4-chat.md, D1). Default true; false gives the template's own bytes.
    /// </summary>
    public bool TemplateFixes { get; init; } = true;
}
