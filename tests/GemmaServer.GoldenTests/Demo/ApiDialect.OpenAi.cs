using System.Text;
using System.Text.Json.Nodes;

namespace GemmaServer.GoldenTests.Demo;

/// <summary><c>/v1/chat/completions</c>.</summary>
internal sealed class ChatDialect : ApiDialect
{
    protected override string Path => "/v1/chat/completions";

    protected override JsonObject Body(Question q)
    {
        JsonObject body = new() { ["temperature"] = 0, ["max_completion_tokens"] = q.MaxTokens, ["messages"] = User(q), ["stream_options"] = new JsonObject { ["include_usage"] = true } };
        if (q.Thinks) body["reasoning_effort"] = "max";
        if (q.Budget is { } budget) body["thinking_token_budget"] = budget;
        if (q.Format is { } format) body["response_format"] = Format(format);
        if (q.Tools.Length == 0) return body;
        body["tools"] = Tools(q, static t => new JsonObject { ["type"] = "function", ["function"] = t });
        body["parallel_tool_calls"] = q.Parallel;
        body["tool_choice"] = q.Choice is "auto" or "required" or "none" ? q.Choice
            : new JsonObject { ["type"] = "function", ["function"] = new JsonObject { ["name"] = q.Choice } };
        return body;
    }

    protected override Reply Whole(JsonNode answer)
    {
        JsonNode message = answer["choices"]![0]!["message"]!;
        string calls = string.Concat((message["tool_calls"]?.AsArray() ?? []).Select(static c => Call(c!["function"]!["name"], c["function"]!["arguments"])));
        return new Reply((string?)message["reasoning_content"] ?? "", (string?)message["content"] ?? "", calls, End(answer["choices"]![0]!), Thought(answer));
    }

    protected override Reply Streamed(List<JsonNode> events)
    {
        StringBuilder thought = new(), content = new();
        List<(string Name, StringBuilder Arguments)> calls = [];
        string end = "";
        foreach (JsonNode? choice in events.Select(static e => e["choices"]!.AsArray().FirstOrDefault()).Where(static c => c is not null))
        {
            JsonNode delta = choice!["delta"]!;
            thought.Append((string?)delta["reasoning_content"]);
            content.Append((string?)delta["content"]);
            foreach (JsonNode? call in delta["tool_calls"]?.AsArray() ?? [])
            {
                if (call!["id"] is not null) calls.Add(((string)call["function"]!["name"]!, new()));
                Assert.Equal(calls.Count - 1, (int)call["index"]!);
                calls[^1].Arguments.Append((string?)call["function"]!["arguments"]);
            }
            if (choice["finish_reason"] is not null) end = End(choice);
        }
        return new Reply(thought.ToString(), content.ToString(), string.Concat(calls.Select(static c => Call(c.Name, c.Arguments.ToString()))), end, Thought(events[^1]));
    }

    private static JsonObject Format(string format) => format == "json"
        ? new JsonObject { ["type"] = "json_object" }
        : new JsonObject { ["type"] = "json_schema", ["json_schema"] = new JsonObject { ["name"] = "answer", ["strict"] = true, ["schema"] = JsonNode.Parse(format) } };

    private static string End(JsonNode choice) => (string)choice["finish_reason"]! is "tool_calls" ? "calls" : (string)choice["finish_reason"]!;

    private static int Thought(JsonNode answer) => (int)answer["usage"]!["completion_tokens_details"]!["reasoning_tokens"]!;
}

/// <summary><c>/v1/responses</c>; the budget is an extension of ours there.</summary>
internal sealed class ResponsesDialect : ApiDialect
{
    protected override string Path => "/v1/responses";

    protected override JsonObject Body(Question q)
    {
        JsonObject body = new() { ["temperature"] = 0, ["max_output_tokens"] = q.MaxTokens, ["input"] = q.Text, ["store"] = false };
        if (q.Thinks) body["reasoning"] = new JsonObject { ["effort"] = "max" };
        if (q.Budget is { } budget) body["thinking_token_budget"] = budget;
        if (q.Format is { } format)
        {
            body["text"] = new JsonObject
            {
                ["format"] = format == "json" ? new JsonObject { ["type"] = "json_object" }
                    : new JsonObject { ["type"] = "json_schema", ["name"] = "answer", ["strict"] = true, ["schema"] = JsonNode.Parse(format) },
            };
        }
        if (q.Tools.Length == 0) return body;
        body["tools"] = Tools(q, static t => { t["type"] = "function"; return t; });
        body["parallel_tool_calls"] = q.Parallel;
        body["tool_choice"] = q.Choice is "auto" or "required" or "none" ? q.Choice : new JsonObject { ["type"] = "function", ["name"] = q.Choice };
        return body;
    }

    protected override Reply Whole(JsonNode answer)
    {
        StringBuilder thought = new(), content = new(), calls = new();
        foreach (JsonNode? item in answer["output"]!.AsArray())
        {
            string type = (string)item!["type"]!;
            if (type == "function_call") calls.Append(Call(item["name"], item["arguments"]));
            else (type == "reasoning" ? thought : content).Append((string?)item["content"]!.AsArray().SingleOrDefault()?["text"]);
        }
        return new Reply(thought.ToString(), content.ToString(), calls.ToString(), End(answer, calls.Length > 0),
            (int)answer["usage"]!["output_tokens_details"]!["reasoning_tokens"]!);
    }

    protected override Reply Streamed(List<JsonNode> events)
    {
        string All(string type) => string.Concat(events.Where(e => (string?)e["type"] == "response." + type).Select(static e => (string?)e["delta"]));
        StringBuilder calls = new();
        foreach (JsonNode added in events.Where(static e => (string?)e["type"] == "response.output_item.added" && (string?)e["item"]!["type"] == "function_call"))
        {
            string id = (string)added["item"]!["id"]!;
            calls.Append(Call((string)added["item"]!["name"]!, string.Concat(events
                .Where(e => (string?)e["type"] == "response.function_call_arguments.delta" && (string?)e["item_id"] == id).Select(static e => (string?)e["delta"]))));
        }
        JsonNode last = events[^1]["response"]!;
        return new Reply(All("reasoning_text.delta"), All("output_text.delta"), calls.ToString(), End(last, calls.Length > 0),
            (int)last["usage"]!["output_tokens_details"]!["reasoning_tokens"]!);
    }

    private static string End(JsonNode answer, bool called) => (string?)answer["status"] switch
    {
        "incomplete" => "length",
        "completed" => called ? "calls" : "stop",
        var other => other ?? "",
    };
}
