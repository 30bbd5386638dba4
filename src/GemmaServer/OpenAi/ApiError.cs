using System.Text.Encodings.Web;
using System.Text.Json;

namespace GemmaServer;

/// <summary>
/// What a client did wrong, or what the server cannot do now: the one table of them. The body is OpenAI's
/// <c>{"error":{message,type,param,code}}</c> with all four members; SDKs choose their exception by <see cref="Status"/>.
/// </summary>
internal sealed record ApiError(int Status, string Type, string? Code, string Message, string? Param = null)
{
    /// <summary>Longest piece of a client's own input that a message repeats.</summary>
    private const int MaxEcho = 200;

    private const string Invalid = "invalid_request_error";
    private const string Server = "server_error";

    /// <summary>When to come back; null sends no header.</summary>
    public TimeSpan? RetryAfter { get; init; }

    /// <summary>Written as x-should-retry, which the SDKs obey; null leaves it to them.</summary>
    public bool? ShouldRetry { get; init; }

    // ---- the body as a whole

    public static ApiError NotJson(string why) =>
        new(400, Invalid, null, $"We could not parse the JSON body of your request. {why}");

    public static ApiError DuplicateKey(string param) =>
        new(400, Invalid, "invalid_value", $"The JSON body has the member '{Echo(param)}' more than once.", Echo(param));

    public static ApiError TooDeep(int maxDepth) =>
        new(400, Invalid, "invalid_value", $"The JSON body is nested deeper than {maxDepth} levels.");

    public static ApiError BodyTooLarge(long limit) =>
        new(413, Invalid, "request_too_large", $"The request body is larger than the limit of {limit} bytes.");

    public static ApiError ContentType(string? got) =>
        new(415, Invalid, "unsupported_content_type", $"Unsupported content type: '{Echo(got ?? "")}'. Use 'application/json'.");

    public static ApiError UnknownUrl(string method, string path) =>
        new(404, Invalid, "unknown_url", $"Invalid URL ({method} {Echo(path)})");

    public static ApiError Method(string method, string path) =>
        new(405, Invalid, "method_not_supported", $"Not allowed to {method} on {Echo(path)}.");

    public static ApiError BadRequest(string message) => new(400, Invalid, null, message);

    // ---- one field

    public static ApiError Missing(string param) =>
        new(400, Invalid, "missing_required_parameter", $"Missing required parameter: '{param}'.", param);

    public static ApiError WrongType(string param, string expected, JsonElement got) => WrongType(param, expected, Describe(got));

    public static ApiError WrongType(string param, string expected, string got) =>
        new(400, Invalid, "invalid_type", $"Invalid type for '{param}': expected {expected}, but got {got} instead.", param);

    public static ApiError Value(string param, string got, params ReadOnlySpan<string> supported) =>
        new(400, Invalid, "invalid_value", $"Invalid value: '{Echo(got)}'. Supported values are: {List(supported)}.", param);

    /// <summary>A value whose fault needs a sentence of its own.</summary>
    public static ApiError BadValue(string param, string why) =>
        new(400, Invalid, "invalid_value", $"Invalid '{param}': {why}", param);

    public static ApiError IntegerTooBig(string param, string max, string got) =>
        new(400, Invalid, "integer_above_max_value", $"Invalid '{param}': integer above maximum value. Expected a value <= {max}, but got {Echo(got)} instead.", param);

    public static ApiError IntegerTooSmall(string param, string min, string got) =>
        new(400, Invalid, "integer_below_min_value", $"Invalid '{param}': integer below minimum value. Expected a value >= {min}, but got {Echo(got)} instead.", param);

    public static ApiError NumberTooBig(string param, string max, string got) =>
        new(400, Invalid, "decimal_above_max_value", $"Invalid '{param}': decimal above maximum value. Expected a value <= {max}, but got {Echo(got)} instead.", param);

    public static ApiError NumberTooSmall(string param, string min, string got, bool exclusive = false) =>
        new(400, Invalid, "decimal_below_min_value", $"Invalid '{param}': decimal below minimum value. Expected a value {(exclusive ? ">" : ">=")} {min}, but got {Echo(got)} instead.", param);

    public static ApiError EmptyArray(string param) =>
        new(400, Invalid, "empty_array", $"Invalid '{param}': empty array. Expected an array with minimum length 1, but got an empty array instead.", param);

    public static ApiError ArrayTooLong(string param, int max, int got) =>
        new(400, Invalid, "array_above_max_length", $"Invalid '{param}': array too long. Expected an array with maximum length {max}, but got an array with length {got} instead.", param);

    public static ApiError EmptyString(string param) =>
        new(400, Invalid, "empty_string", $"Invalid '{param}': empty string. Expected a string with minimum length 1, but got an empty string instead.", param);

    public static ApiError StringTooLong(string param, int max, int got) =>
        new(400, Invalid, "string_above_max_length", $"Invalid '{param}': string too long. Expected a string with maximum length {max}, but got a string with length {got} instead.", param);

    public static ApiError UnsupportedValue(string param, string got, string? why = null) =>
        new(400, Invalid, "unsupported_value", $"Unsupported value: '{param}' does not support {Echo(got)} with this model.{(why is null ? "" : " " + why)}", param);

    public static ApiError UnsupportedParameter(string param, string? why = null) =>
        new(400, Invalid, "unsupported_parameter", $"Unsupported parameter: '{param}' is not supported with this model.{(why is null ? "" : " " + why)}", param);

    public static ApiError UnknownParameter(string param) =>
        new(400, Invalid, "unknown_parameter", $"Unknown parameter: '{Echo(param)}'.", Echo(param));

    /// <summary>A response format's schema that cannot be followed, as OpenAI says it.</summary>
    public static ApiError InvalidSchema(string param, string name, string why) =>
        new(400, Invalid, null, $"Invalid schema for response_format '{Echo(name)}': {why}", param);

    /// <summary>A tool's schema that cannot be followed.</summary>
    public static ApiError InvalidFunction(int index, string name, string why) =>
        new(400, Invalid, "invalid_function_parameters", $"Invalid schema for function '{Echo(name)}': {why}", $"tools[{index}].function.parameters");

    public static ApiError Template(string why) => new(400, Invalid, "invalid_value", $"Invalid 'messages': {why}", "messages");

    public static ApiError ContextLength(string param, int maxTokens, long gotTokens, bool atLeast = false) =>
        new(400, Invalid, "context_length_exceeded",
            $"This model's maximum context length is {maxTokens} tokens. However, your {(param == "messages" ? "messages" : "prompt")} resulted in {(atLeast ? "more than " : "")}{gotTokens} tokens. Please reduce the length of the {(param == "messages" ? "messages" : "prompt")}.", param);

    // ---- responses

    /// <summary>A chat field that this API has under another name.</summary>
    public static ApiError Moved(string param, string to) =>
        new(400, Invalid, "unsupported_parameter", $"Unsupported parameter: '{param}'. In the Responses API, this parameter has moved to '{to}'. Try again with the new parameter.", param);

    public static ApiError UnknownResponse(string id) => new(404, Invalid, null, $"Response with id '{Echo(id)}' not found.");

    public static ApiError PreviousResponseNotFound(string id) =>
        new(400, Invalid, "previous_response_not_found", $"Previous response with id '{Echo(id)}' not found.", "previous_response_id");

    public static ApiError ItemNotFound(string id) =>
        new(404, Invalid, null, $"Item with id '{Echo(id)}' not found. Items are not persisted when `store` is set to false. Try again with `store` set to true, or remove this item from your input.", "input");

    public static ApiError NoToolCall(string callId) => new(400, Invalid, null, $"No tool call found for function call output with call_id {Echo(callId)}.", "input");

    public static ApiError NoToolOutput(string callId) => new(400, Invalid, null, $"No tool output found for function call {Echo(callId)}.", "input");

    public static ApiError BadEncryptedContent(string param) =>
        new(400, Invalid, "invalid_encrypted_content", $"Invalid '{param}': the encrypted content could not be verified; it must come from this API and be unchanged.", param);

    public static ApiError CannotCancel { get; } = new(400, Invalid, null, "Cannot cancel a synchronous response.");

    // ---- who asks, for what

    public static ApiError NoKey { get; } =
        new(401, Invalid, null, "You didn't provide an API key. Provide it in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).");

    public static ApiError WrongKey(string key) =>
        new(401, Invalid, "invalid_api_key", $"Incorrect API key provided: {Mask(key)}.");

    public static ApiError AdminOnly { get; } =
        new(403, "permission_error", "insufficient_permissions", "This route needs the admin key.");

    public static ApiError UnknownModel(string model) =>
        new(404, Invalid, "model_not_found", $"The model '{Echo(model)}' does not exist", "model");

    // ---- the server's own state

    public static ApiError QueueFull(TimeSpan retryAfter) =>
        new(503, Server, "service_unavailable", "The server is overloaded; try again shortly.") { RetryAfter = retryAfter, ShouldRetry = true };

    public static ApiError ClientQueueFull(TimeSpan retryAfter) =>
        new(429, "rate_limit_error", "rate_limit_exceeded", "Too many of your requests are waiting already; try again when some were answered.") { RetryAfter = retryAfter, ShouldRetry = true };

    public static ApiError Loading { get; } =
        new(503, Server, "model_loading", "Loading model") { RetryAfter = TimeSpan.FromSeconds(5), ShouldRetry = true };

    public static ApiError Draining { get; } =
        new(503, Server, "service_unavailable", "The server is shutting down; another one may answer.") { RetryAfter = TimeSpan.FromSeconds(1), ShouldRetry = true };

    public static ApiError QueueTimeout { get; } =
        new(503, Server, "queue_timeout", "The request waited in the queue for longer than it may.") { RetryAfter = TimeSpan.FromSeconds(2), ShouldRetry = true };

    /// <summary>Not to be retried: whoever set the time does not wait for the answer any more.</summary>
    public static ApiError Deadline { get; } =
        new(504, Server, "deadline_exceeded", "The answer was not complete when the request's time was over.") { ShouldRetry = false };

    public static ApiError Internal(string requestId) =>
        new(500, Server, null, $"The server had an error while processing your request. (request id: {requestId})");

    /// <summary>Not to be retried: somebody wanted it to end.</summary>
    public static ApiError Aborted { get; } =
        new(409, Invalid, "request_aborted", "The request was aborted by another one.") { ShouldRetry = false };

    /// <summary>Something that other servers do and this one does not.</summary>
    public static ApiError NotImplemented(string message) => new(501, Invalid, "not_implemented", message) { ShouldRetry = false };

    // ---- writing

    /// <summary>Writes the object that stands under <c>error</c> in a body or in a stream's data line.</summary>
    public void Write(Utf8JsonWriter json)
    {
        json.WriteStartObject();
        json.WriteStartObject("error"u8);
        json.WriteString("message"u8, Message);
        json.WriteString("type"u8, Type);
        json.WriteString("param"u8, Param);
        json.WriteString("code"u8, Code);
        json.WriteEndObject();
        json.WriteEndObject();
    }

    /// <summary>Answers with this error, in the shape of the API that was asked. Nothing must have been sent yet.</summary>
    public async Task WriteAsync(HttpContext http)
    {
        HttpResponse response = http.Response;
        ErrorStyle style = ErrorStyle.Of(http.Request.Path);
        response.StatusCode = style.StatusOf(this);
        response.ContentType = "application/json";
        if (RetryAfter is { } wait)
        {
            response.Headers.RetryAfter = ((int)Math.Ceiling(wait.TotalSeconds)).ToString();
            response.Headers["retry-after-ms"] = ((long)wait.TotalMilliseconds).ToString();
        }
        if (ShouldRetry is { } retry) response.Headers["x-should-retry"] = retry ? "true" : "false";
        if (Status == 413) response.Headers.Connection = "close";     // the rest of the body stays unread
        if (Status == 401) response.Headers.WWWAuthenticate = "Bearer";
        if (HttpMethods.IsHead(http.Request.Method)) return;

        await using (Utf8JsonWriter json = new(response.BodyWriter, JsonStyle.Writer)) style.Write(json, this, http.TraceIdentifier);
        await response.BodyWriter.FlushAsync(http.RequestAborted);
    }

    /// <summary>Input as a message may repeat it: cut, and without control characters.</summary>
    public static string Echo(string input)
    {
        string cut = input.Length <= MaxEcho ? input : string.Concat(input.AsSpan(0, MaxEcho), "…");
        return cut.AsSpan().IndexOfAnyInRange('\0', '\x1f') < 0 ? cut : string.Concat(cut.Select(static c => c < ' ' ? ' ' : c));
    }

    /// <summary>What a JSON value is, as OpenAI's messages say it.</summary>
    public static string Describe(JsonElement value) => value.ValueKind switch
    {
        JsonValueKind.Object => "an object",
        JsonValueKind.Array => value.GetArrayLength() == 0 ? "an empty array" : "an array",
        JsonValueKind.String => "a string",
        JsonValueKind.Number => value.GetRawText().AsSpan().IndexOfAny(".eE") < 0 ? "an integer" : "a decimal number",
        JsonValueKind.True or JsonValueKind.False => "a boolean",
        _ => "null",
    };

    private static string Mask(string key) => key.Length < 10 ? "***" : Echo($"{key[..3]}***{key[^3..]}");

    private static string List(ReadOnlySpan<string> values)
    {
        System.Text.StringBuilder text = new();
        for (int i = 0; i < values.Length; i++)
        {
            if (i > 0) text.Append(i == values.Length - 1 ? (values.Length > 2 ? ", and " : " and ") : ", ");
            text.Append('\'').Append(values[i]).Append('\'');
        }
        return text.ToString();
    }
}

/// <summary>How the server writes JSON: text as it is, escaping only what JSON asks for.</summary>
internal static class JsonStyle
{
    /// <summary>Skips validation: the writers here are straight-line code, and tests parse every shape.</summary>
    public static JsonWriterOptions Writer { get; } = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true };
}
