using System.Net.Http.Json;
using System.Text.Json;
using System.Text.Json.Nodes;
using GemmaServer.Tests;
using Xunit.Abstractions;

namespace GemmaServer.GoldenTests.Demo;

/// <summary>
/// Every answer and every event of a broad set of requests validates against the schema that OpenAI publishes for it
/// (<c>tests/golden/openai-schema.json</c>, checked by ajv).
/// </summary>
[Collection(DemoServerCollection.Name)]
public class OpenAiSchemaTests(DemoServer server, ITestOutputHelper output) : StreamingTests(server)
{
    private readonly List<string> _lines = [];

    [NpmFact]
    public async Task Chat_completions_are_as_published()
    {
        foreach ((string what, JsonObject body) in ChatBodies())
        {
            await AddAsync("CreateChatCompletionResponse", what, "/v1/chat/completions", body);
            body["stream"] = true;
            await AddStreamAsync("CreateChatCompletionStreamResponse", what, "/v1/chat/completions", body, isNamed: false);
            body["stream_options"] = new JsonObject { ["include_usage"] = true };
            await AddStreamAsync("CreateChatCompletionStreamResponse", what + ", with usage", "/v1/chat/completions", body, isNamed: false);
        }
        await ValidateAsync(atLeast: 100);
    }

    [NpmFact]
    public async Task Completions_are_as_published()
    {
        foreach (JsonNode prompt in new JsonNode[] { "The capital of France is", new JsonArray("One", "Two"), new JsonArray(10, 20, 30), new JsonArray(new JsonArray(10), new JsonArray(20, 30)) })
        {
            foreach (JsonObject extra in new JsonObject[] { [], new() { ["logprobs"] = 3, ["echo"] = true }, new() { ["n"] = 2, ["logprobs"] = 0 }, new() { ["stop"] = "e" } })
            {
                JsonObject body = Merge(new JsonObject { ["model"] = "gemma4-demo", ["max_tokens"] = 8, ["prompt"] = prompt.DeepClone() }, extra);
                await AddAsync("CreateCompletionResponse", body.ToJsonString(), "/v1/completions", body);
                body["stream"] = true;
                await AddStreamAsync("CreateCompletionResponse", body.ToJsonString(), "/v1/completions", body, isNamed: false);
            }
        }
        await ValidateAsync(atLeast: 40);
    }

    [NpmFact]
    public async Task Responses_are_as_published()
    {
        JsonArray tools = (JsonArray)JsonNode.Parse("""
            [{"type":"function","name":"get_weather","description":"Get the current weather in a city.",
              "parameters":{"type":"object","properties":{"city":{"type":"string","description":"Name of the city"}},"required":["city"]}}]
            """)!;
        JsonNode afterCall = JsonNode.Parse("""
            [{"role":"user","content":[{"type":"input_text","text":"What is the weather in Oslo?"}]},
             {"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"I look it up."}]},
             {"type":"function_call","call_id":"call_1","name":"get_weather","arguments":"{\"city\":\"Oslo\"}"},
             {"type":"function_call_output","call_id":"call_1","output":"{\"temperature\": 7, \"condition\": \"rain\"}"}]
            """)!;
        foreach (JsonObject extra in new JsonObject[]
        {
            [], new() { ["reasoning"] = new JsonObject { ["effort"] = "low", ["summary"] = "auto" }, ["include"] = new JsonArray("reasoning.encrypted_content") },
            new() { ["include"] = new JsonArray("message.output_text.logprobs"), ["top_logprobs"] = 3 }, new() { ["max_output_tokens"] = 2 },
            new() { ["input"] = "What is the weather in Oslo?", ["tools"] = tools.DeepClone() }, new() { ["input"] = afterCall.DeepClone(), ["tools"] = tools.DeepClone() },
            new() { ["tools"] = tools.DeepClone(), ["tool_choice"] = "none", ["instructions"] = "Be brief.", ["metadata"] = new JsonObject { ["a"] = "b" }, ["user"] = "u", ["truncation"] = "auto" },
        })
        {
            JsonObject body = Merge(new JsonObject { ["model"] = "gemma4-demo", ["temperature"] = 0, ["max_output_tokens"] = 60, ["input"] = "What is the capital of France?" }, extra);
            string what = extra.ToJsonString();
            await AddAsync("Response", what, "/v1/responses", body);
            string id = (string)JsonNode.Parse(_lines[^1])!["instance"]!["id"]!;
            Add("ResponseItemList", what, await Server.Client.GetFromJsonAsync<JsonObject>($"/v1/responses/{id}/input_items"));
            body["stream"] = true;
            await AddStreamAsync("ResponseStreamEvent", what, "/v1/responses", body, isNamed: true);
        }
        await AddAsync("TokenCountsResource", "count", "/v1/responses/input_tokens", new() { ["input"] = "Hi" });
        await AddAsync("ErrorResponse", "missing", "/v1/responses", []);
        await ValidateAsync(atLeast: 60);
    }

    [NpmFact]
    public async Task Models_and_errors_are_as_published()
    {
        Add("ListModelsResponse", "models", await Server.Client.GetFromJsonAsync<JsonObject>("/v1/models"));
        Add("Model", "model", await Server.Client.GetFromJsonAsync<JsonObject>("/v1/models/gemma4-demo"));
        JsonObject hello = new() { ["messages"] = new JsonArray(Message("user", "Hi")) };
        await AddAsync("ErrorResponse", "range", "/v1/chat/completions", Merge(hello, new() { ["temperature"] = 3 }));
        await AddAsync("ErrorResponse", "type", "/v1/chat/completions", Merge(hello, new() { ["stream"] = "yes" }));
        await AddAsync("ErrorResponse", "model", "/v1/chat/completions", Merge(hello, new() { ["model"] = "nobody" }));
        await AddAsync("ErrorResponse", "missing", "/v1/chat/completions", []);
        await AddAsync("ErrorResponse", "stream", "/v1/completions", new() { ["stream"] = true, ["prompt"] = "x", ["suffix"] = "y" });
        await AddAsync("ErrorResponse", "url", "/v1/nothing", []);
        await AddAsync("ErrorResponse", "method", "/v1/models", []);
        await ValidateAsync(atLeast: 9);
    }

    private static IEnumerable<(string What, JsonObject Body)> ChatBodies()
    {
        JsonArray tools = (JsonArray)JsonNode.Parse("""
            [{"type":"function","function":{"name":"get_weather","description":"Get the current weather in a city.",
              "parameters":{"type":"object","properties":{"city":{"type":"string","description":"Name of the city"}},"required":["city"]}}}]
            """)!;
        JsonArray afterCall = (JsonArray)JsonNode.Parse("""
            [{"role":"user","content":"What is the weather in Oslo?"},
             {"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"get_weather","arguments":"{\"city\":\"Oslo\"}"}}]},
             {"role":"tool","tool_call_id":"call_1","content":"{\"temperature\": 7, \"condition\": \"rain\"}"}]
            """)!;
        yield return ("plain", Body([]));
        yield return ("two choices", Body(new() { ["n"] = 2, ["temperature"] = 1, ["seed"] = 3 }));
        yield return ("logprobs", Body(new() { ["logprobs"] = true, ["top_logprobs"] = 4 }));
        yield return ("length", Body(new() { ["max_tokens"] = 2, ["logprobs"] = true }));
        yield return ("stop string", Body(new() { ["stop"] = new JsonArray("is") }));
        yield return ("thinking", Body(new() { ["reasoning_effort"] = "high", ["logprobs"] = true }));
        yield return ("tools", Body(new() { ["tools"] = tools.DeepClone(), ["messages"] = new JsonArray(Message("user", "What is the weather in Oslo?")) }));
        yield return ("tools, thinking", Body(new() { ["tools"] = tools.DeepClone(), ["reasoning_effort"] = "low", ["messages"] = new JsonArray(Message("user", "What is the weather in Oslo?")) }));
        yield return ("tools, none", Body(new() { ["tools"] = tools.DeepClone(), ["tool_choice"] = "none" }));
        yield return ("after a call", Body(new() { ["tools"] = tools.DeepClone(), ["messages"] = afterCall.DeepClone() }));
        yield return ("metadata and tier", Body(new() { ["metadata"] = new JsonObject { ["a"] = "b" }, ["service_tier"] = "auto", ["store"] = false, ["user"] = "u" }));
        yield return ("parts and developer", Body(new() { ["messages"] = new JsonArray(Message("developer", "Be brief."),
            new JsonObject { ["role"] = "user", ["content"] = new JsonArray(new JsonObject { ["type"] = "text", ["text"] = "Hello" }) }) }));

        static JsonObject Body(JsonObject extra) => Merge(
            new JsonObject { ["model"] = "gemma4-demo", ["temperature"] = 0, ["max_tokens"] = 60, ["messages"] = new JsonArray(Message("user", "What is the capital of France?")) }, extra);
    }

    private static JsonObject Message(string role, string text) => new() { ["role"] = role, ["content"] = text };

    private static JsonObject Merge(JsonObject body, JsonObject extra)
    {
        JsonObject merged = (JsonObject)body.DeepClone();
        foreach ((string name, JsonNode? value) in extra) merged[name] = value?.DeepClone();
        return merged;
    }

    private async Task AddAsync(string schema, string what, string path, JsonObject body)
    {
        using HttpResponseMessage response = await Server.Client.PostAsync(path, JsonContent.Create(body));
        Assert.Equal(schema == "ErrorResponse", !response.IsSuccessStatusCode);
        Add(schema, what, await response.Content.ReadFromJsonAsync<JsonObject>());
    }

    private async Task AddStreamAsync(string schema, string what, string path, JsonObject body, bool isNamed)
    {
        using HttpRequestMessage request = new(HttpMethod.Post, path) { Content = JsonContent.Create(body) };
        using HttpResponseMessage response = await Server.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        Assert.Equal("text/event-stream", response.Content.Headers.ContentType!.MediaType);
        string text = await response.Content.ReadAsStringAsync();
        if (!isNamed) Assert.EndsWith("data: [DONE]\n\n", text);
        foreach (string line in text.Split('\n').Where(l => l.StartsWith("data: ", StringComparison.Ordinal) && l != "data: [DONE]"))
            Add(schema, what, JsonNode.Parse(line["data: ".Length..])!.AsObject());
    }

    private void Add(string schema, string what, JsonObject? instance) =>
        _lines.Add(new JsonObject { ["schema"] = schema, ["what"] = what, ["instance"] = instance }.ToJsonString(JsonSerializerOptions.Web));

    private async Task ValidateAsync(int atLeast)
    {
        string schemas = Path.Combine(AppContext.BaseDirectory, "golden", "openai-schema.json");
        string said = await Npm.RunAsync("validate-openai.mjs", string.Join('\n', _lines), schemas);
        output.WriteLine(said);
        Assert.True(_lines.Count >= atLeast, $"Only {_lines.Count} answers and events.");
        Assert.Contains($"{_lines.Count} validated, 0 invalid", said);
    }
}
