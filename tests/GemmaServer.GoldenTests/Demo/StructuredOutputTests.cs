using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace GemmaServer.GoldenTests.Demo;

/// <summary>The demo model guessing from its own text, beside the plain one.</summary>
public sealed class GuessingDemoServer : IAsyncLifetime
{
    private WebApplication? _app;

    public HttpClient Client { get; private set; } = null!;

    public async Task InitializeAsync()
    {
        ServerOptions options = new() { Port = 0, LogLevel = LogLevel.None, MaxNumSeqs = 8, SpeculativeModel = "ngram", NumSpeculativeTokens = 7 };
        _app = GemmaServerApp.Build(options, s => s.HandleSignals = false);
        _app.Serve(ModelLoader.Load(options, RunnerMaker.Make, NullLogger.Instance));
        await _app.StartAsync();
        Client = new HttpClient { BaseAddress = new Uri(_app.Urls.First()) };
    }

    public async Task DisposeAsync()
    {
        Client.Dispose();
        await _app!.DisposeAsync();
    }
}

/// <summary>
/// Answers of a real model under a grammar: right when complete, the beginning of something right when cut, and the same whole,
/// streamed, guessed at and predicted.
/// </summary>
[Collection(DemoServerCollection.Name)]
public sealed class StructuredOutputTests(DemoServer server, GuessingDemoServer guessing) : IClassFixture<GuessingDemoServer>
{
    private const string Schema = """
        {"type":"object","properties":{
          "name":{"type":"string","minLength":2,"maxLength":12},
          "kind":{"enum":["city","river","none"]},
          "size":{"type":"integer","minimum":-5,"maximum":1200},
          "tags":{"type":"array","items":{"type":"string","maxLength":6},"maxItems":3},
          "more":{"anyOf":[{"type":"null"},{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"],"additionalProperties":false}]}},
         "required":["name","kind","size","tags","more"],"additionalProperties":false}
        """;

    private const string Tool = """{"type":"function","function":{"name":"get_weather","description":"Get the current weather in a city.","strict":true,"parameters":{"type":"object","properties":{"city":{"type":"string","maxLength":12},"unit":{"enum":["C","F"]},"days":{"type":"integer","minimum":1,"maximum":9}},"required":["city","unit","days"],"additionalProperties":false}}}""";

    public static TheoryData<int, double, bool> Draws
    {
        get
        {
            TheoryData<int, double, bool> draws = [];
            for (int seed = 0; seed < 8; seed++) draws.Add(seed, seed % 4 == 0 ? 0 : 0.5 + seed % 4 * 0.5, seed % 2 == 1);
            return draws;
        }
    }

    [Theory]
    [MemberData(nameof(Draws))]
    public async Task Json_by_a_schema_is_valid_however_it_is_made(int seed, double temperature, bool thinking)
    {
        JsonObject request = Request("Tell me about Paris.", seed, temperature, thinking, 400);
        request["response_format"] = JsonNode.Parse($$$"""{"type":"json_schema","json_schema":{"name":"place","strict":true,"schema":{{{Schema}}}}}""");
        if (thinking) request["thinking_token_budget"] = 60;
        JsonNode answer = await AskAsync(server.Client, request);
        string content = Content(answer);
        if ((string?)answer["choices"]![0]!["finish_reason"] == "stop") AssertPlace(JsonNode.Parse(content)!.AsObject());
        else Assert.True(content.Length == 0 || content.TrimStart()[0] == '{', content);
        Assert.InRange((int)answer["usage"]!["completion_tokens_details"]!["reasoning_tokens"]!, 0, 62);

        // The same tokens, several a step: guessed from the text, and known beforehand.
        Assert.Equal(content, Content(await AskAsync(guessing.Client, request)));
        JsonObject predicted = request.DeepClone().AsObject();
        predicted["prediction"] = new JsonObject { ["type"] = "content", ["content"] = content };
        JsonNode known = await AskAsync(server.Client, predicted);
        Assert.Equal(content, Content(known));
        // How many more are tried depends on what a row costs on this machine.
        JsonNode details = known["usage"]!["completion_tokens_details"]!;
        if (!thinking) Assert.True((int)details["accepted_prediction_tokens"]! + (int)details["rejected_prediction_tokens"]! > 0, $"{known["usage"]}: {content}");
        Assert.Equal(content, await StreamedAsync(request));
    }

    [Theory]
    [InlineData("[A-C]{3}-\\d{2,4}(x|yz)", 0)]
    [InlineData("(red|green|blue)(, (red|green|blue)){2}", 1)]
    [InlineData("Gr\u00FC\u00DFe [\u4E00-\u4E10]{2}\\.", 2)]
    public async Task Text_matches_its_expression_at_any_temperature(string pattern, int seed)
    {
        for (int i = 0; i < 4; i++)
        {
            JsonObject request = Request("Say something.", seed * 10 + i, i * 0.6, false, 120);
            request["structured_outputs"] = new JsonObject { ["regex"] = pattern };
            JsonNode answer = await AskAsync(i % 2 == 0 ? server.Client : guessing.Client, request);
            Assert.Equal("stop", (string?)answer["choices"]![0]!["finish_reason"]);
            Assert.Matches(new Regex($"^(?:{pattern})$"), Content(answer));
        }
    }

    [Theory]
    [MemberData(nameof(Draws))]
    public async Task A_required_call_is_a_call_by_its_schema(int seed, double temperature, bool thinking)
    {
        JsonObject request = Request("What is 7 plus 5?", seed, temperature, thinking, 300);
        request["tools"] = JsonNode.Parse($"[{Tool}]");
        request["tool_choice"] = "required";
        request["parallel_tool_calls"] = false;
        if (thinking) request["thinking_token_budget"] = 40;
        JsonNode choice = (await AskAsync(server.Client, request))["choices"]![0]!;
        Assert.Equal("tool_calls", (string?)choice["finish_reason"]);
        Assert.Null(choice["message"]!["content"]);
        AssertCall(Assert.Single(choice["message"]!["tool_calls"]!.AsArray())!);
        JsonNode guessed = (await AskAsync(guessing.Client, request))["choices"]![0]!;
        Assert.Equal((string?)choice["message"]!["tool_calls"]![0]!["function"]!["arguments"], (string?)guessed["message"]!["tool_calls"]![0]!["function"]!["arguments"]);
    }

    [Fact]
    public async Task A_strict_tool_is_called_by_itself_where_the_question_wants_it()
    {
        JsonObject request = Request("What is the weather in Oslo?", 1, 0, false, 200);
        request["tools"] = JsonNode.Parse($"[{Tool}]");
        JsonNode choice = (await AskAsync(server.Client, request))["choices"]![0]!;
        Assert.Equal("tool_calls", (string?)choice["finish_reason"]);
        AssertCall(choice["message"]!["tool_calls"]![0]!);
        request["messages"] = JsonNode.Parse("""[{"role":"user","content":"Hi, who are you?"}]""");
        Assert.NotEmpty(Content(await AskAsync(server.Client, request)));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(5)]
    public async Task Thoughts_keep_to_their_budget_with_guesses_as_without(int budget)
    {
        for (int seed = 0; seed < 4; seed++)
        {
            JsonObject request = Request("What is 12 plus 30?", seed, seed * 0.5, true, 120);
            request["thinking_token_budget"] = budget;
            JsonNode answer = await AskAsync(server.Client, request);
            Assert.InRange((int)answer["usage"]!["completion_tokens_details"]!["reasoning_tokens"]!, 0, budget == 0 ? 0 : budget + 2);
            Assert.Equal(answer["choices"]![0]!["message"]!.ToJsonString(), (await AskAsync(guessing.Client, request))["choices"]![0]!["message"]!.ToJsonString());
        }
    }

    private static JsonObject Request(string user, int seed, double temperature, bool thinking, int maxTokens) => new()
    {
        ["messages"] = new JsonArray(new JsonObject { ["role"] = "user", ["content"] = user }),
        ["seed"] = seed,
        ["temperature"] = temperature,
        ["max_tokens"] = maxTokens,
        ["enable_thinking"] = thinking,
    };

    private static async Task<JsonNode> AskAsync(HttpClient client, JsonObject request)
    {
        using HttpResponseMessage response = await client.PostAsync("/v1/chat/completions", new StringContent(request.ToJsonString(), Encoding.UTF8, "application/json"));
        string body = await response.Content.ReadAsStringAsync();
        Assert.True(response.IsSuccessStatusCode, body);
        return JsonNode.Parse(body)!;
    }

    private async Task<string> StreamedAsync(JsonObject request)
    {
        JsonObject streamed = request.DeepClone().AsObject();
        streamed["stream"] = true;
        using HttpResponseMessage response = await server.Client.PostAsync("/v1/chat/completions", new StringContent(streamed.ToJsonString(), Encoding.UTF8, "application/json"));
        StringBuilder content = new();
        foreach (string line in (await response.Content.ReadAsStringAsync()).Split('\n'))
        {
            if (!line.StartsWith("data: {", StringComparison.Ordinal)) continue;
            content.Append((string?)JsonNode.Parse(line[6..])!["choices"]![0]!["delta"]!["content"]);
        }
        return content.ToString();
    }

    private static string Content(JsonNode answer) => (string?)answer["choices"]![0]!["message"]!["content"] ?? "";

    private static void AssertPlace(JsonObject place)
    {
        Assert.Equal(["name", "kind", "size", "tags", "more"], place.Select(static m => m.Key));
        Assert.InRange(((string)place["name"]!).EnumerateRunes().Count(), 2, 12);
        Assert.Contains((string?)place["kind"], (string[])["city", "river", "none"]);
        Assert.InRange((int)place["size"]!, -5, 1200);
        Assert.InRange(place["tags"]!.AsArray().Count, 0, 3);
        Assert.All(place["tags"]!.AsArray(), static t => Assert.InRange(((string)t!).EnumerateRunes().Count(), 0, 6));
        if (place["more"] is { } more) Assert.Equal((1, true), (more.AsObject().Count, more["ok"]!.GetValueKind() is JsonValueKind.True or JsonValueKind.False));
    }

    private static void AssertCall(JsonNode call)
    {
        Assert.Equal("get_weather", (string?)call["function"]!["name"]);
        JsonObject arguments = JsonNode.Parse((string)call["function"]!["arguments"]!)!.AsObject();
        Assert.Equal(["city", "unit", "days"], arguments.Select(static m => m.Key));
        Assert.InRange(((string)arguments["city"]!).EnumerateRunes().Count(), 0, 12);
        Assert.Contains((string?)arguments["unit"], (string[])["C", "F"]);
        Assert.InRange((int)arguments["days"]!, 1, 9);
    }
}
