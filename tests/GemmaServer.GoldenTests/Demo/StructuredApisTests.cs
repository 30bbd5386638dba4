using System.Text.Json;
using System.Text.Json.Nodes;

namespace GemmaServer.GoldenTests.Demo;

/// <summary>
/// Formats, forced calls and budgets through every API: the answer keeps to what was asked, is the same whole and streamed, and the
/// same as chat's.
/// </summary>
[Collection(DemoServerCollection.Name)]
public sealed class StructuredApisTests(DemoServer server)
{
    private const string Place = """
        {"type":"object","properties":{
          "name":{"type":"string","minLength":2,"maxLength":12},
          "kind":{"enum":["city","river","none"]},
          "size":{"type":"integer","minimum":-5,"maximum":1200},
          "more":{"anyOf":[{"type":"null"},{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"],"additionalProperties":false}]}},
         "required":["name","kind","size","more"],"additionalProperties":false}
        """;

    private const string Weather = """
        {"name":"get_weather","description":"Get the current weather in a city.","parameters":{"type":"object","properties":{
          "city":{"type":"string","maxLength":12},"unit":{"enum":["C","F"]},"days":{"type":"integer","minimum":1,"maximum":9}},
         "required":["city","unit","days"],"additionalProperties":false}}
        """;

    private const string Plain = """
        {"name":"get_weather","description":"Get the current weather in a city.",
         "parameters":{"type":"object","properties":{"city":{"type":"string","description":"Name of the city"}},"required":["city"]}}
        """;

    private const string Pick = """
        {"name":"pick","description":"Picks a colour.","parameters":{"type":"object","properties":{"colour":{"enum":["red","green"]}},"required":["colour"],"additionalProperties":false}}
        """;

    private static readonly string[] s_chatting = ["chat", "responses", "messages", "ollama chat"];
    private static readonly string[] s_choosing = ["chat", "responses", "messages"];

    public static TheoryData<string> All => [.. s_chatting, "ollama generate"];

    public static TheoryData<string> Chatting => [.. s_chatting];

    public static TheoryData<string> Choosing => [.. s_choosing];

    [Theory]
    [MemberData(nameof(All))]
    public async Task Json_by_a_schema(string api)
    {
        foreach (bool thinks in (bool[])[false, true])
        {
            Reply reply = await AskAsync(api, new Question("What is the capital of France?") { Format = Place, Thinks = thinks });
            Assert.Equal(("stop", ""), (reply.End, reply.Calls));
            AssertPlace(reply.Content);
            Assert.Equal(thinks, reply.Thought.Length > 0);
            if (thinks) Assert.Contains("France", reply.Thought, StringComparison.Ordinal);
            if (reply.ThoughtTokens >= 0) Assert.Equal(thinks, reply.ThoughtTokens > 0);
        }
    }

    [Theory]
    [MemberData(nameof(All))]
    public async Task Any_json(string api)
    {
        Reply reply = await AskAsync(api, new Question("What is the capital of France?") { Format = "json", MaxTokens = 120 });
        Assert.Equal("stop", reply.End);
        Assert.Equal(JsonValueKind.Object, JsonNode.Parse(reply.Content)!.GetValueKind());
    }

    [Theory]
    [MemberData(nameof(All))]
    public async Task An_answer_that_the_limit_cut_begins_like_the_whole_one(string api)
    {
        Question question = new("What is the capital of France?") { Format = Place };
        Reply whole = await AskAsync(api, question);
        foreach (int most in (int[])[1, 6, 11])
        {
            Reply cut = await AskAsync(api, question with { MaxTokens = most });
            Assert.Equal("length", cut.End);
            Assert.StartsWith(cut.Content, whole.Content, StringComparison.Ordinal);
            Assert.True(cut.Content.Length < whole.Content.Length);
        }
        Reply thought = await AskAsync(api, question with { MaxTokens = 6, Thinks = true });
        Assert.Equal(("length", "", ""), (thought.End, thought.Content, thought.Calls));
        Assert.NotEmpty(thought.Thought);
    }

    [Theory]
    [MemberData(nameof(Choosing))]
    public async Task Thoughts_keep_to_their_budget_and_the_format_holds_behind_them(string api)
    {
        Question question = new("What is the capital of France?") { Format = Place, Thinks = true };
        Reply free = await AskAsync(api, question);
        Assert.True(free.ThoughtTokens > 14, $"{free}");
        foreach (int budget in (int[])[3, 5, 12])
        {
            Reply reply = await AskAsync(api, question with { Budget = budget });
            Assert.InRange(reply.ThoughtTokens, 1, budget + 2);     // the channel's two marks count as thought
            Assert.StartsWith(reply.Thought, free.Thought, StringComparison.Ordinal);
            Assert.Equal("stop", reply.End);
            AssertPlace(reply.Content);

            Reply call = await AskAsync(api, question with { Text = "What is the weather in Oslo?", Budget = budget, Format = null, Tools = [Weather], Choice = "required", Parallel = false });
            Assert.InRange(call.ThoughtTokens, 1, budget + 2);
            AssertWeather(call);
        }
    }

    [Theory]
    [MemberData(nameof(Choosing))]
    public async Task A_call_that_has_to_be_is_made_by_its_schema(string api)
    {
        foreach (string text in (string[])["What is 7 plus 5?", "Hi, who are you?", "What is the weather in Oslo?"])
        {
            Question question = new(text) { Tools = [Weather], Choice = "required", Parallel = false };
            AssertWeather(await AskAsync(api, question));
            AssertWeather(await AskAsync(api, question with { Strict = true, Thinks = true, Budget = 8 }));
        }
    }

    [Theory]
    [MemberData(nameof(Choosing))]
    public async Task The_tool_that_was_named_is_the_one_called(string api)
    {
        Question question = new("What is the weather in Oslo?") { Tools = [Weather, Pick], Parallel = false };
        Reply picked = await AskAsync(api, question with { Choice = "pick" });
        Assert.Matches("^pick {\"colour\":\"(red|green)\"}\n$", picked.Calls);
        Assert.Equal(("calls", ""), (picked.End, picked.Content));
        AssertWeather(await AskAsync(api, question with { Choice = "get_weather" }));
    }

    [Theory]
    [MemberData(nameof(Choosing))]
    public async Task No_tool_is_called_where_none_may_be(string api)
    {
        Question question = new("What is the weather in Oslo?") { Tools = [Plain] };
        Assert.Equal(("calls", "get_weather {\"city\":\"Oslo\"}\n"), await EndAndCallsAsync(question));
        Reply none = await AskAsync(api, question with { Choice = "none" });
        Assert.Equal(("stop", ""), (none.End, none.Calls));
        Assert.NotEmpty(none.Content);

        async Task<(string, string)> EndAndCallsAsync(Question q) => await AskAsync(api, q) is var r ? (r.End, r.Calls) : default;
    }

    [Theory]
    [MemberData(nameof(Choosing))]
    public async Task Calls_come_one_at_a_time_where_the_client_wants_that(string api)
    {
        foreach (string choice in (string[])["auto", "required"])
        {
            Question question = new("What is the weather in Oslo and Paris?") { Tools = [Plain], Choice = choice };
            Reply both = await AskAsync(api, question);
            Assert.Equal("get_weather {\"city\":\"Oslo\"}\nget_weather {\"city\":\"Paris\"}\n", both.Calls);
            Reply one = await AskAsync(api, question with { Parallel = false });
            Assert.Equal(("calls", "get_weather {\"city\":\"Oslo\"}\n"), (one.End, one.Calls));
        }
    }

    [Theory]
    [MemberData(nameof(Chatting))]
    public async Task Tools_beside_a_format_are_called_or_the_format_holds(string api)
    {
        foreach (bool thinks in (bool[])[false, true])
        {
            Question question = new("What is the weather in Oslo?") { Tools = [Plain], Format = Place, Thinks = thinks };
            Reply called = await AskAsync(api, question);
            Assert.Equal(("calls", "get_weather {\"city\":\"Oslo\"}\n", ""), (called.End, called.Calls, called.Content));
            Assert.Equal(thinks, called.Thought.Length > 0);
            if (!s_choosing.Contains(api)) continue;

            Reply said = await AskAsync(api, question with { Choice = "none" });
            Assert.Equal(("stop", ""), (said.End, said.Calls));
            AssertPlace(said.Content);
            Assert.Equal(thinks, said.Thought.Length > 0);
        }
    }

    [Theory]
    [MemberData(nameof(Chatting))]
    public async Task A_strict_tool_is_called_by_itself(string api) =>
        AssertWeather(await AskAsync(api, new Question("What is the weather in Oslo?") { Tools = [Weather], Strict = true }));

    /// <summary>Asks whole and streamed, here and by way of chat, and compares.</summary>
    private async Task<Reply> AskAsync(string api, Question question)
    {
        ApiDialect dialect = ApiDialect.Of(api);
        Reply whole = await dialect.AskAsync(server.Client, question, streams: false);
        Assert.Equal(whole, await dialect.AskAsync(server.Client, question, streams: true));
        Reply chat = await ApiDialect.Of("chat").AskAsync(server.Client, question, streams: false);
        Assert.Equal(chat with { ThoughtTokens = whole.ThoughtTokens }, whole);
        if (whole.ThoughtTokens >= 0) Assert.Equal(chat.ThoughtTokens, whole.ThoughtTokens);
        return whole;
    }

    private static void AssertPlace(string json)
    {
        JsonObject place = JsonNode.Parse(json)!.AsObject();
        Assert.Equal(["name", "kind", "size", "more"], place.Select(static m => m.Key));
        Assert.InRange(((string)place["name"]!).EnumerateRunes().Count(), 2, 12);
        Assert.Contains((string?)place["kind"], (string[])["city", "river", "none"]);
        Assert.InRange((int)place["size"]!, -5, 1200);
        if (place["more"] is { } more) Assert.Equal((1, true), (more.AsObject().Count, more["ok"]!.GetValueKind() is JsonValueKind.True or JsonValueKind.False));
    }

    private static void AssertWeather(Reply reply)
    {
        Assert.Equal(("calls", ""), (reply.End, reply.Content));
        string[] calls = reply.Calls.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        string call = Assert.Single(calls);
        Assert.StartsWith("get_weather {", call, StringComparison.Ordinal);
        JsonObject arguments = JsonNode.Parse(call["get_weather ".Length..])!.AsObject();
        Assert.Equal(["city", "unit", "days"], arguments.Select(static m => m.Key));
        Assert.InRange(((string)arguments["city"]!).EnumerateRunes().Count(), 0, 12);
        Assert.Contains((string?)arguments["unit"], (string[])["C", "F"]);
        Assert.InRange((int)arguments["days"]!, 1, 9);
    }
}
