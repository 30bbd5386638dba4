using System.Text;
using System.Text.Json.Nodes;

namespace GemmaServer.GoldenTests.Demo;

/// <summary>Anthropic's <c>/v1/messages</c>.</summary>
internal sealed class MessagesDialect : ApiDialect
{
    protected override string Path => "/v1/messages";

    protected override JsonObject Body(Question q)
    {
        JsonObject body = new() { ["temperature"] = 0, ["max_tokens"] = q.MaxTokens, ["messages"] = User(q) };
        if (q.Thinks) body["thinking"] = new JsonObject { ["type"] = "enabled", ["budget_tokens"] = q.Budget ?? 4000 };
        if (q.Format is { } format)
        {
            JsonNode schema = JsonNode.Parse(format == "json" ? """{"type":"object"}""" : format)!;
            body["output_config"] = new JsonObject { ["format"] = new JsonObject { ["type"] = "json_schema", ["schema"] = schema } };
        }
        if (q.Tools.Length == 0) return body;
        body["tools"] = Tools(q, static t =>
        {
            t["input_schema"] = t["parameters"]!.DeepClone();
            t.Remove("parameters");
            return t;
        });
        body["tool_choice"] = new JsonObject { ["type"] = q.Choice switch { "auto" or "none" => q.Choice, "required" => "any", _ => "tool" } };
        if (q.Choice is not ("auto" or "none" or "required")) body["tool_choice"]!["name"] = q.Choice;
        if (!q.Parallel) body["tool_choice"]!["disable_parallel_tool_use"] = true;
        return body;
    }

    protected override Reply Whole(JsonNode answer)
    {
        JsonArray blocks = answer["content"]!.AsArray();
        return new Reply(Text("thinking"), Text("text"), string.Concat(blocks.Where(static b => (string?)b!["type"] == "tool_use").Select(static b => Call(b!["name"], b["input"]))),
            End(answer), Thought(answer));

        string Text(string type) => string.Concat(blocks.Where(b => (string?)b!["type"] == type).Select(b => (string?)b![type]));
    }

    protected override Reply Streamed(List<JsonNode> events)
    {
        StringBuilder calls = new();
        foreach (JsonNode start in events.Where(static e => (string?)e["type"] == "content_block_start" && (string?)e["content_block"]!["type"] == "tool_use"))
        {
            calls.Append(Call((string)start["content_block"]!["name"]!, string.Concat(events
                .Where(e => (string?)e["type"] == "content_block_delta" && (int)e["index"]! == (int)start["index"]!).Select(static e => (string?)e["delta"]!["partial_json"]))));
        }
        JsonNode last = events.Single(static e => (string?)e["type"] == "message_delta");
        return new Reply(All("thinking"), All("text"), calls.ToString(), End(last["delta"]!), Thought(last));

        string All(string name) => string.Concat(events.Where(static e => (string?)e["type"] == "content_block_delta").Select(e => (string?)e["delta"]![name]));
    }

    private static string End(JsonNode answer) => (string?)answer["stop_reason"] switch
    {
        "end_turn" => "stop",
        "max_tokens" => "length",
        "tool_use" => "calls",
        var other => other ?? "",
    };

    private static int Thought(JsonNode answer) => (int)answer["usage"]!["output_tokens_details"]!["thinking_tokens"]!;
}

/// <summary>Ollama's two; they have neither a choice among tools nor a budget.</summary>
internal sealed class OllamaDialect(string path, string? message) : ApiDialect
{
    protected override string Path => path;

    protected override JsonObject Body(Question q)
    {
        JsonObject body = new() { ["options"] = new JsonObject { ["temperature"] = 0, ["num_predict"] = q.MaxTokens }, ["think"] = q.Thinks };
        if (message is null) body["prompt"] = q.Text;
        else body["messages"] = User(q);
        if (q.Format is { } format) body["format"] = format == "json" ? "json" : JsonNode.Parse(format);
        if (q.Tools.Length > 0) body["tools"] = Tools(q, static t => new JsonObject { ["type"] = "function", ["function"] = t });
        return body;
    }

    protected override Reply Whole(JsonNode answer) => Streamed([answer]);

    protected override Reply Streamed(List<JsonNode> events)
    {
        StringBuilder thought = new(), content = new(), calls = new();
        foreach (JsonNode line in events)
        {
            Assert.Equal(line == events[^1], (bool)line["done"]!);
            JsonNode piece = message is null ? line : line[message]!;
            thought.Append((string?)piece["thinking"]);
            content.Append((string?)piece[message is null ? "response" : "content"]);
            foreach (JsonNode? call in piece["tool_calls"]?.AsArray() ?? []) calls.Append(Call(call!["function"]!["name"], call["function"]!["arguments"]));
        }
        string end = (string)events[^1]["done_reason"]!;
        return new Reply(thought.ToString(), content.ToString(), calls.ToString(), end == "stop" && calls.Length > 0 ? "calls" : end, -1);
    }
}
