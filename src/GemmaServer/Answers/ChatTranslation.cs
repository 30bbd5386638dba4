using System.Buffers;
using System.Text.Json;

namespace GemmaServer;

/// <summary>
/// A request of another API, said as a chat request: whatever the chat reader knows, the other API has too. What the chat
/// reader finds wrong is told by the names of the request that came.
/// </summary>
/// <remarks>
/// Write the members of the chat body to <see cref="Json"/>, the places of what came from elsewhere to <see cref="Map"/>, then
/// call <see cref="Read(ServedModel, ServerOptions, out ChatRequest?)"/> or <see cref="Count"/> once.
/// </remarks>
internal sealed class ChatTranslation : IDisposable
{
    private readonly ArrayBufferWriter<byte> _buffer = new(4096);
    private readonly Dictionary<string, string> _names = new(StringComparer.Ordinal);

    public ChatTranslation()
    {
        Json = new Utf8JsonWriter(_buffer, JsonStyle.Writer);
        Json.WriteStartObject();
    }

    /// <summary>The chat body, in which the root object is open.</summary>
    public Utf8JsonWriter Json { get; }

    /// <summary>What the chat body has at <paramref name="chatPath"/>, as <c>messages[2].content</c>, came from <paramref name="path"/>.</summary>
    public void Map(string chatPath, string path) => _names[chatPath] = path;

    /// <summary>Closes the body and reads it.</summary>
    public ApiError? Read(ServedModel model, ServerOptions options, out ChatRequest? request)
    {
        ApiError? error = Read(ChatRequestReader.Read, model, options, out request);
        request?.Constraint?.Rename = Rename;
        return error;
    }

    /// <summary>Closes the body and reads it as another kind of request.</summary>
    public ApiError? Read<T>(RequestReader<T> reader, ServedModel model, ServerOptions options, out T? request) where T : class
    {
        using JsonDocument body = Close();
        return reader(body.RootElement, model, options, out request) is { } error ? Rename(error) : null;
    }

    /// <summary>Closes the body.</summary>
    internal JsonDocument Close()
    {
        Json.WriteEndObject();
        Json.Flush();
        return JsonDocument.Parse(_buffer.WrittenMemory, new JsonDocumentOptions { MaxDepth = 2 * RequestBody.MaxDepth });
    }

    /// <summary>Closes the body and counts the tokens of its prompt, however long that is.</summary>
    public ApiError? Count(ServedModel model, out int tokens)
    {
        using JsonDocument body = Close();
        FieldReader fields = new(body.RootElement);
        if (fields.Text("model") is { } name && !model.Serves(name)) fields.Fail(ApiError.UnknownModel(name));
        tokens = PromptFields.Read(fields, model, onlyShown: false)?.Render(fields, model)?.Tokenize(model.Tokenizer).Length ?? 0;
        return fields.Error is { } error ? Rename(error) : null;
    }

    /// <summary>The error with the name that the client knows: the longest mapped path that the error's begins with.</summary>
    internal ApiError Rename(ApiError error)
    {
        if (error.Param is not { } param) return error;
        for (int end = param.Length; end > 0; end = param.LastIndexOfAny(['.', '['], end - 1))
        {
            if (!_names.TryGetValue(param[..end], out string? known)) continue;
            string renamed = known + param[end..];
            return error with { Param = renamed, Message = error.Message.Replace($"'{param}'", $"'{renamed}'", StringComparison.Ordinal) };
        }
        return error;
    }

    public void Dispose() => Json.Dispose();
}
