using System.Text.Json;

namespace GemmaServer.Text;

/// <summary>Why a request's messages or tools are refused, in the words of OpenAI's error body.</summary>
/// <param name="Status">HTTP status; always 400 here.</param>
/// <param name="Code">For example <c>missing_required_parameter</c>, <c>invalid_type</c>, <c>invalid_value</c>.</param>
/// <param name="Message">One sentence for the client's developer.</param>
/// <param name="Param">JSON path, for example <c>messages[1].content[0].type</c>.</param>
public sealed record ChatRequestError(int Status, string Code, string Message, string Param)
{
    internal static ChatRequestError Missing(string param) =>
        new(400, "missing_required_parameter", $"Missing required parameter: '{param}'.", param);

    internal static ChatRequestError Type(string param, string expected, JsonValueKind got) =>
        new(400, "invalid_type", $"Invalid type for '{param}': expected {expected}, but got {Kind(got)} instead.", param);

    internal static ChatRequestError Value(string param, string message) => new(400, "invalid_value", message, param);

    internal static ChatRequestError Unsupported(string param, string value) =>
        new(400, "unsupported_value", $"Unsupported value: '{param}' does not support '{Shown(value)}' with this model.", param);

    /// <summary>Client text in a message, cut so that an error cannot echo a whole request.</summary>
    internal static string Shown(string text) => text.Length <= 100 ? text : text[..100] + "…";

    private static string Kind(JsonValueKind kind) => kind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => "an array",
        JsonValueKind.String => "a string",
        JsonValueKind.Number => "a number",
        JsonValueKind.True or JsonValueKind.False => "a boolean",
        _ => "null",
    };
}
