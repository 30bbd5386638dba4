using System.Text.Json;

namespace GemmaServer;

/// <summary>Whether to think, for how long, and whether to show it: every spelling that clients of other servers use.</summary>
/// <remarks>
/// Of several spellings the more direct one counts: <c>chat_template_kwargs.enable_thinking</c>, then <c>enable_thinking</c>, then
/// <c>thinking</c> (Anthropic), then <c>reasoning</c> (OpenRouter, Responses), then <c>reasoning_effort</c> (OpenAI). A budget in tokens
/// counts before the one that an effort stands for.
/// </remarks>
internal sealed class ReasoningFields
{
    public static IReadOnlySet<string> Names { get; } = new HashSet<string>(StringComparer.Ordinal)
    {
        "chat_template_kwargs", "enable_thinking", "thinking", "reasoning", "reasoning_effort", "thinking_token_budget", "reasoning_budget_tokens",
        "thinking_budget", "include_reasoning", "separate_reasoning", "stream_reasoning",
    };

    private static readonly string[] Efforts = ["none", "minimal", "low", "medium", "high", "xhigh", "max"];

    /// <summary>Null where the request says nothing.</summary>
    public bool? Enabled { get; private set; }

    /// <summary>As the template's option.</summary>
    public bool? Preserve { get; private set; }

    /// <summary>Most tokens of thoughts, of which none is thinking off; null for any number.</summary>
    public int? Budget { get; private set; }

    /// <summary>Whether thoughts are sent to the client.</summary>
    public bool Include { get; private set; } = true;

    /// <param name="fields">The request; mistakes stay there.</param>
    /// <param name="asTemplate">Whether the template's options may have any form that a template takes.</param>
    public static ReasoningFields Read(FieldReader fields, bool asTemplate = false)
    {
        ReasoningFields r = new();
        r.ReadEffort(fields.OneOf("reasoning_effort", Efforts));
        r.ReadReasoning(fields);
        r.ReadThinking(fields);
        r.Enabled = fields.Flag("enable_thinking") ?? r.Enabled;
        if (fields.TryGetObject("chat_template_kwargs", out JsonElement kwargs))
        {
            r.Enabled = Kwarg("enable_thinking") ?? r.Enabled;
            r.Preserve = Kwarg("preserve_thinking");
        }
        r.ReadBudget(fields.Integer("thinking_budget", -1, int.MaxValue));
        r.ReadBudget(fields.Integer("reasoning_budget_tokens", -1, int.MaxValue));
        r.ReadBudget(fields.Integer("thinking_token_budget", -1, int.MaxValue));
        if (r.Budget == 0) r.Enabled = false;
        r.Include = fields.Flag("include_reasoning", r.Include);
        if (!fields.Flag("separate_reasoning", true))
            fields.Fail(ApiError.UnsupportedValue("separate_reasoning", "false", "Thoughts are never mixed into the content."));
        fields.Flag("stream_reasoning");
        return r;

        bool? Kwarg(string name) => !kwargs.TryGetProperty(name, out JsonElement value) || value.ValueKind == JsonValueKind.Null ? null
            : asTemplate ? IsTruthy(value)
            : fields.Flag($"chat_template_kwargs.{name}", value);
    }

    /// <summary>What an effort means in tokens of thought; null for as many as the model likes.</summary>
    public static int? BudgetOf(string? effort) => effort switch
    {
        "minimal" => 256,
        "low" => 1024,
        "medium" => 4096,
        "high" => 16384,
        _ => null,
    };

    private void ReadEffort(string? effort)
    {
        if (effort is null) return;
        Enabled = effort != "none";
        Budget = BudgetOf(effort);
    }

    /// <summary><c>{effort, enabled, max_tokens, exclude}</c>.</summary>
    private void ReadReasoning(FieldReader fields)
    {
        if (!fields.TryGetObject("reasoning", out JsonElement reasoning)) return;
        FieldReader inner = fields.Into("reasoning", reasoning);
        ReadEffort(inner.OneOf("effort", Efforts));
        if (inner.Integer("max_tokens", 0, int.MaxValue) is { } budget) (Enabled, Budget) = (true, (int)budget);
        Enabled = inner.Flag("enabled") ?? Enabled;
        Include = !inner.Flag("exclude", false);
        fields.Take(inner);
    }

    /// <summary><c>{type: enabled | disabled | adaptive, budget_tokens}</c>.</summary>
    private void ReadThinking(FieldReader fields)
    {
        if (!fields.TryGetObject("thinking", out JsonElement thinking)) return;
        FieldReader inner = fields.Into("thinking", thinking);
        string? type = inner.OneOf("type", "enabled", "disabled", "adaptive");
        if (type is null) inner.Fail(ApiError.Missing("thinking.type"));
        Enabled = type != "disabled";
        ReadBudget(inner.Integer("budget_tokens", 0, int.MaxValue));
        fields.Take(inner);
    }

    /// <summary>−1 is no bound, as llama.cpp has it.</summary>
    private void ReadBudget(long? budget)
    {
        if (budget is { } tokens) Budget = tokens < 0 ? null : (int)tokens;
    }

    /// <summary>As Python has it: empty and zero are false.</summary>
    private static bool IsTruthy(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.False => false,
        JsonValueKind.Number => value.GetDouble() != 0,
        JsonValueKind.String => value.GetRawText().Length > 2,
        JsonValueKind.Array => value.GetArrayLength() > 0,
        JsonValueKind.Object => value.GetPropertyCount() > 0,
        _ => true,
    };
}
