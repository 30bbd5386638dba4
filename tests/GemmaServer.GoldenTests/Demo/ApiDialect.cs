using System.Text;
using System.Text.Json.Nodes;

namespace GemmaServer.GoldenTests.Demo;

/// <summary>A question, in no API's words; temperature is 0.</summary>
internal sealed record Question(string Text)
{
    public int MaxTokens { get; init; } = 400;

    /// <summary>A JSON schema; <c>json</c> for any object.</summary>
    public string? Format { get; init; }

    /// <summary>Each <c>{name, description, parameters}</c>.</summary>
    public string[] Tools { get; init; } = [];

    public bool Strict { get; init; }

    /// <summary>auto, required, none, or a tool's name.</summary>
    public string Choice { get; init; } = "auto";

    public bool Parallel { get; init; } = true;

    public bool Thinks { get; init; }

    public int? Budget { get; init; }
}

/// <summary>What came, in no API's words.</summary>
/// <param name="Thought">All thoughts.</param>
/// <param name="Content">All text.</param>
/// <param name="Calls"><c>name arguments</c>, a line each.</param>
/// <param name="End">stop, length or calls.</param>
/// <param name="ThoughtTokens">As counted by the server; −1 where the API does not say.</param>
internal sealed record Reply(string Thought, string Content, string Calls, string End, int ThoughtTokens);

/// <summary>How an API asks and answers.</summary>
internal abstract class ApiDialect
{
    public static ApiDialect Of(string name) => name switch
    {
        "chat" => new ChatDialect(),
        "responses" => new ResponsesDialect(),
        "messages" => new MessagesDialect(),
        "ollama chat" => new OllamaDialect("/api/chat", "message"),
        "ollama generate" => new OllamaDialect("/api/generate", null),
        _ => throw new ArgumentException(name),
    };

    protected abstract string Path { get; }

    public async Task<Reply> AskAsync(HttpClient client, Question question, bool streams)
    {
        JsonObject body = Body(question);
        body["model"] = "gemma4-demo";
        body["stream"] = streams;
        if (!streams) body.Remove("stream_options");
        using HttpResponseMessage response = await client.PostAsync(Path, new StringContent(body.ToJsonString(), Encoding.UTF8, "application/json"));
        string text = await response.Content.ReadAsStringAsync();
        Assert.True(response.IsSuccessStatusCode, $"{body}\n{text}");
        if (!streams) return Whole(JsonNode.Parse(text)!);
        return Streamed([.. text.Split('\n').Select(static l => l.StartsWith("data: ", StringComparison.Ordinal) ? l[6..] : l)
            .Where(static l => l.StartsWith('{')).Select(static l => JsonNode.Parse(l)!)]);
    }

    protected abstract JsonObject Body(Question question);

    protected abstract Reply Whole(JsonNode answer);

    protected abstract Reply Streamed(List<JsonNode> events);

    protected static JsonArray User(Question q) => [new JsonObject { ["role"] = "user", ["content"] = q.Text }];

    /// <summary>A tool, said by <paramref name="wrap"/>.</summary>
    protected static JsonArray Tools(Question q, Func<JsonObject, JsonObject> wrap) => [.. q.Tools.Select(t =>
    {
        JsonObject tool = JsonNode.Parse(t)!.AsObject();
        if (q.Strict) tool["strict"] = true;
        return (JsonNode)wrap(tool);
    })];

    protected static string Call(JsonNode? name, JsonNode? arguments) => Call((string)name!, arguments is JsonObject ? arguments.ToJsonString() : (string)arguments!);

    /// <summary>The arguments parse, and are compared without white space.</summary>
    protected static string Call(string name, string arguments) => $"{name} {JsonNode.Parse(arguments)!.ToJsonString()}\n";
}
