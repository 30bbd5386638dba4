using System.Net;
using System.Net.Http.Json;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using GemmaServer.Tests;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
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
        foreach (string extra in OpenAiCorpus.Chats)
        {
            JsonObject body = OpenAiCorpus.Merge("""
                "model":"gemma4-demo","temperature":0,"max_tokens":60,"messages":[{"role":"user","content":"What is the capital of France?"}]
                """, extra);
            await AddAsync("CreateChatCompletionResponse", extra, "/v1/chat/completions", body);
            body["stream"] = true;
            await AddStreamAsync("CreateChatCompletionStreamResponse", extra, "/v1/chat/completions", body, isNamed: false);
            body["stream_options"] = new JsonObject { ["include_usage"] = true, ["continuous_usage_stats"] = extra.Length % 2 == 0 };
            await AddStreamAsync("CreateChatCompletionStreamResponse", extra + ", with usage", "/v1/chat/completions", body, isNamed: false);
        }
        await ValidateAsync(atLeast: 1000);
    }

    [NpmFact]
    public async Task Completions_are_as_published()
    {
        foreach (string prompt in OpenAiCorpus.Prompts)
        {
            foreach (string extra in OpenAiCorpus.Completions)
            {
                JsonObject body = OpenAiCorpus.Merge($"\"model\":\"gemma4-demo\",\"max_tokens\":8,\"prompt\":{prompt}", extra);
                await AddAsync("CreateCompletionResponse", body.ToJsonString(), "/v1/completions", body);
                body["stream"] = true;
                await AddStreamAsync("CreateCompletionResponse", body.ToJsonString(), "/v1/completions", body, isNamed: false);
            }
        }
        await ValidateAsync(atLeast: 200);
    }

    [NpmFact]
    public async Task Responses_are_as_published()
    {
        string? previous = null;
        foreach (string extra in OpenAiCorpus.Responses)
        {
            JsonObject body = OpenAiCorpus.Merge("\"model\":\"gemma4-demo\",\"temperature\":0,\"max_output_tokens\":60,\"input\":\"What is the capital of France?\"", extra);
            await AddAsync("Response", extra, "/v1/responses", body);
            if (body["store"] is null)
            {
                string id = Last["id"]!.GetValue<string>();
                JsonObject answer = Last;
                Add("Response", extra, await Server.Client.GetFromJsonAsync<JsonObject>($"/v1/responses/{id}"));
                Assert.Equal(answer.ToJsonString(), Last.ToJsonString());
                Add("ResponseItemList", extra, await Server.Client.GetFromJsonAsync<JsonObject>($"/v1/responses/{id}/input_items?limit=2&order=asc"));
                previous = id;
            }
            body["stream"] = true;
            await AddStreamAsync("ResponseStreamEvent", extra, "/v1/responses", body, isNamed: true);
        }

        JsonObject next = OpenAiCorpus.Merge("\"temperature\":0", $"\"input\":\"And of Italy?\",\"previous_response_id\":\"{previous}\"");
        await AddAsync("Response", "next", "/v1/responses", next);
        using (HttpResponseMessage deleted = await Server.Client.DeleteAsync($"/v1/responses/{previous}"))
            Assert.True((bool)(await deleted.Content.ReadFromJsonAsync<JsonObject>())!["deleted"]!);
        using (HttpResponseMessage gone = await Server.Client.GetAsync($"/v1/responses/{previous}")) await AddErrorAsync("gone", gone, HttpStatusCode.NotFound);
        await AddAsync("ErrorResponse", "no previous", "/v1/responses", next);
        await AddAsync("TokenCountsResource", "count", "/v1/responses/input_tokens", new() { ["input"] = "Hi" });
        await ValidateAsync(atLeast: 300);
    }

    [NpmFact]
    public async Task Models_and_errors_are_as_published()
    {
        Add("ListModelsResponse", "models", await Server.Client.GetFromJsonAsync<JsonObject>("/v1/models"));
        Add("Model", "model", await Server.Client.GetFromJsonAsync<JsonObject>("/v1/models/gemma4-demo"));
        foreach ((string path, string body) in OpenAiCorpus.Refused)
        {
            JsonObject request = JsonNode.Parse(body)!.AsObject();
            await AddAsync("ErrorResponse", body, path, request);
            if (request["stream"] is not null) continue;
            request["stream"] = true;       // nothing has begun yet, so it is no event
            await AddAsync("ErrorResponse", body, path, request);
        }
        foreach (string path in (string[])["/v1/chat/completions", "/v1/completions", "/v1/responses"])
        {
            await AddAsync("ErrorResponse", "missing", path, []);
            using HttpResponseMessage method = await Server.Client.GetAsync(path);
            await AddErrorAsync("method", method, HttpStatusCode.MethodNotAllowed);
            using HttpResponseMessage broken = await Server.Client.PostAsync(path, new StringContent("{]", Encoding.UTF8, "application/json"));
            await AddErrorAsync("no JSON", broken, HttpStatusCode.BadRequest);
            using HttpResponseMessage type = await Server.Client.PostAsync(path, new StringContent("{}", Encoding.UTF8, "text/plain"));
            await AddErrorAsync("content type", type, HttpStatusCode.UnsupportedMediaType);
        }
        using (HttpResponseMessage model = await Server.Client.GetAsync("/v1/models/nobody")) await AddErrorAsync("model", model, HttpStatusCode.NotFound);
        await AddAsync("ErrorResponse", "url", "/v1/nothing", []);
        await ValidateAsync(atLeast: 80);
    }

    [NpmFact]
    public async Task Errors_of_a_locked_host_are_as_published()
    {
        ServerOptions options = new() { Port = 0, LogLevel = LogLevel.None, ApiKey = ["key"], BodyLimit = 2000 };
        await using WebApplication app = GemmaServerApp.Build(options, s => s.HandleSignals = false);
        app.Serve(ModelLoader.Load(options, RunnerMaker.Make, NullLogger.Instance));
        await app.StartAsync();
        using HttpClient client = new() { BaseAddress = new Uri(app.Urls.First()) };
        foreach (string path in (string[])["/v1/chat/completions", "/v1/completions", "/v1/responses"])
        {
            client.DefaultRequestHeaders.Authorization = null;
            using HttpResponseMessage none = await client.PostAsync(path, JsonContent.Create(new JsonObject()));
            await AddErrorAsync("no key", none, HttpStatusCode.Unauthorized);
            client.DefaultRequestHeaders.Authorization = new("Bearer", "another");
            using HttpResponseMessage wrong = await client.PostAsync(path, JsonContent.Create(new JsonObject()));
            await AddErrorAsync("wrong key", wrong, HttpStatusCode.Unauthorized);
            client.DefaultRequestHeaders.Authorization = new("Bearer", "key");
            using HttpResponseMessage big = await client.PostAsync(path, JsonContent.Create(new JsonObject { ["input"] = new string('x', 3000) }));
            await AddErrorAsync("too big", big, HttpStatusCode.RequestEntityTooLarge);
        }
        await ValidateAsync(atLeast: 9);
    }

    private JsonObject Last => JsonNode.Parse(_lines[^1])!["instance"]!.AsObject();

    private async Task AddAsync(string schema, string what, string path, JsonObject body)
    {
        using HttpResponseMessage response = await Server.Client.PostAsync(path, JsonContent.Create(body));
        string text = await response.Content.ReadAsStringAsync();
        Assert.True(schema == "ErrorResponse" != response.IsSuccessStatusCode, $"{what}: {text}");
        Add(schema, what, JsonNode.Parse(text)!.AsObject());
    }

    private async Task AddErrorAsync(string what, HttpResponseMessage response, HttpStatusCode status)
    {
        Assert.Equal(status, response.StatusCode);
        Add("ErrorResponse", what, await response.Content.ReadFromJsonAsync<JsonObject>());
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
