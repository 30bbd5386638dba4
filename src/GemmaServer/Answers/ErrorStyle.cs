using System.Text.Json;

namespace GemmaServer;

/// <summary>How an API tells its clients what went wrong; the path says which API was asked.</summary>
internal abstract class ErrorStyle
{
    private static readonly ErrorStyle s_openAi = new OpenAiStyle(), s_anthropic = new AnthropicStyle(), s_ollama = new OllamaStyle();

    /// <summary>The style of the API that this path belongs to; OpenAI's for all that are nobody's.</summary>
    public static ErrorStyle Of(PathString path) =>
        MessagesEndpoint.IsAt(path) ? s_anthropic : OllamaEndpoint.IsAt(path) ? s_ollama : s_openAi;

    /// <summary>The status to answer with.</summary>
    public virtual int StatusOf(ApiError error) => error.Status;

    /// <summary>Writes the body, or the object of a stream's event.</summary>
    public abstract void Write(Utf8JsonWriter json, ApiError error, string requestId);

    /// <summary>For bodies that have no place of their own for the field that is wrong.</summary>
    private static string WithField(ApiError error) =>
        error.Param is { } param && !error.Message.Contains(param, StringComparison.Ordinal) ? $"{param}: {error.Message}" : error.Message;

    private sealed class OpenAiStyle : ErrorStyle
    {
        public override void Write(Utf8JsonWriter json, ApiError error, string requestId) => error.Write(json);
    }

    /// <summary><c>{"type":"error","error":{type, message},"request_id"}</c>.</summary>
    private sealed class AnthropicStyle : ErrorStyle
    {
        private const int Overloaded = 529;

        public override int StatusOf(ApiError error) => error.Status == 503 ? Overloaded : error.Status;

        public override void Write(Utf8JsonWriter json, ApiError error, string requestId)
        {
            json.WriteStartObject();
            json.WriteString("type"u8, "error"u8);
            json.WriteStartObject("error"u8);
            json.WriteString("type"u8, StatusOf(error) switch
            {
                401 => "authentication_error",
                403 => "permission_error",
                404 => "not_found_error",
                413 => "request_too_large",
                429 => "rate_limit_error",
                504 => "timeout_error",
                Overloaded => "overloaded_error",
                >= 500 => "api_error",
                _ => "invalid_request_error",
            });
            // Agents shorten their conversation when they read these words.
            json.WriteString("message"u8, error.Code == "context_length_exceeded" ? $"prompt is too long: {error.Message}" : WithField(error));
            json.WriteEndObject();
            json.WriteString("request_id"u8, requestId);
            json.WriteEndObject();
        }
    }

    /// <summary><c>{"error": "…"}</c>.</summary>
    private sealed class OllamaStyle : ErrorStyle
    {
        public override void Write(Utf8JsonWriter json, ApiError error, string requestId)
        {
            json.WriteStartObject();
            json.WriteString("error"u8, WithField(error));
            json.WriteEndObject();
        }
    }
}
