using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>The fields that make a chat prompt; chat, /tokenize, /apply-template and derender share them.</summary>
internal sealed class PromptFields
{
    public static IReadOnlySet<string> Names { get; } = new HashSet<string>(ReasoningFields.Names, StringComparer.Ordinal)
    {
        "messages", "tools", "add_generation_prompt", "continue_final_message", "chat_template_fixes",
    };

    public required ChatPrompt Prompt { get; init; }

    /// <summary>Whether to think, and for how long.</summary>
    public required ReasoningFields Reasoning { get; init; }

    public bool EnableThinking => Prompt.EnableThinking == true;

    /// <summary>Names of the declared tools, in order.</summary>
    public IReadOnlyList<string> ToolNames => [.. Prompt.Tools.Select(static t => t["function"]?["name"]?.Text ?? "")];

    /// <summary>Reads the fields; null when something is wrong, which then stands in <paramref name="fields"/>.</summary>
    /// <param name="fields">The request.</param>
    /// <param name="model">The model asked for.</param>
    /// <param name="onlyShown">
    /// Whether the prompt is only looked at: media parts become placeholders, and with <c>chat_template_fixes</c> off the
    /// messages may have any form the template takes.
    /// </param>
    public static PromptFields? Read(FieldReader fields, ServedModel model, bool onlyShown)
    {
        bool fixes = fields.Flag("chat_template_fixes", true);
        bool asTemplate = onlyShown && !fixes;
        ReasoningFields reasoning = ReasoningFields.Read(fields, asTemplate);
        bool continueFinal = fields.Flag("continue_final_message", false);
        bool? addGeneration = fields.Flag("add_generation_prompt");
        if (continueFinal && addGeneration == true)
            fields.Fail(ApiError.BadValue("continue_final_message", "it cannot be combined with 'add_generation_prompt'."));
        if (fields.TryGet("chat_template", out _))
            fields.Fail(ApiError.UnsupportedParameter("chat_template", "The prompt format is built in."));
        if (fields.Error is not null) return null;

        fields.Root.TryGetProperty("messages", out JsonElement messages);
        fields.Root.TryGetProperty("tools", out JsonElement tools);
        if (messages.ValueKind == JsonValueKind.Null) messages = default;
        if (OpenAiMessageReader.TryRead(messages, tools, out ChatConversation? conversation, allowMedia: onlyShown) is { } error
            && (!asTemplate || (conversation = TemplateMessageReader.TryRead(messages, tools)) is null))
        {
            fields.Fail(new ApiError(error.Status, "invalid_request_error", error.Code, error.Message, error.Param));
            return null;
        }
        if (continueFinal && conversation!.Messages is not [.., { Role: "assistant" }])
        {
            fields.Fail(ApiError.BadValue("continue_final_message", "the last message is not an assistant message."));
            return null;
        }
        return new PromptFields
        {
            Reasoning = reasoning,
            Prompt = new ChatPrompt
            {
                Messages = conversation!.Messages,
                Tools = conversation.Tools,
                Flavour = model.Flavour,
                EnableThinking = reasoning.Enabled,
                PreserveThinking = reasoning.Preserve,
                ContinueFinalMessage = continueFinal,
                AddGenerationPrompt = addGeneration ?? !continueFinal,
                TemplateFixes = fixes,
            },
        };
    }

    /// <summary>Renders and tokenizes; null with an error in <paramref name="fields"/> when it cannot be, or is much too long.</summary>
    public RenderedPrompt? Render(FieldReader fields, ServedModel model)
    {
        RenderedPrompt rendered;
        try
        {
            rendered = ChatRenderer.Render(Prompt);
        }
        catch (ChatTemplateException e)
        {
            fields.Fail(ApiError.Template(ApiError.Echo(e.Message)));
            return null;
        }
        if (rendered.Text.Length <= (long)model.MaxModelLength * model.LongestToken) return rendered;
        fields.Fail(ApiError.ContextLength("messages", model.MaxModelLength, model.MaxModelLength, atLeast: true));
        return null;
    }
}
