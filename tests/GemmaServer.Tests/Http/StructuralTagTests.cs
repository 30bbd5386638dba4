using System.Text.Json;

namespace GemmaServer.Tests.Http;

/// <summary>Structural tags and Lark grammars over HTTP: text is free, tags are bound.</summary>
public sealed class StructuralTagTests(StructuredHost fixture) : IClassFixture<StructuredHost>
{
    private const string Path = "/v1/chat/completions";
    private const string Schema = """{"type":"object","properties":{"city":{"type":"string","maxLength":12}},"required":["city"],"additionalProperties":false}""";
    private const string Structures = "{\"type\":\"structural_tag\",\"structures\":[{\"begin\":\"<function=weather>\",\"schema\":" + Schema + ",\"end\":\"</function>\"},{\"begin\":\"<function=time>\",\"schema\":{\"enum\":[12,13]},\"end\":\"</function>\"},{\"begin\":\"<function=zone>\",\"end\":\"</function>\"}],\"triggers\":[\"<function=\"]}";
    private const string Tags = "{\"type\":\"structural_tag\",\"format\":{\"type\":\"triggered_tags\",\"triggers\":[\"<function=\"],\"tags\":["
        + "{\"type\":\"tag\",\"begin\":\"<function=weather>\",\"content\":{\"type\":\"json_schema\",\"json_schema\":" + Schema + "},\"end\":\"</function>\"},"
        + "{\"begin\":\"<function=time>\",\"content\":{\"type\":\"regex\",\"pattern\":\"[0-9]{2}\"},\"end\":[\"</function>\",\"</f>\"]}]}}";

    public static TheoryData<string> Triggered =>
    [
        "\"response_format\":" + Structures,
        "\"response_format\":" + Tags,
        "\"structured_outputs\":{\"structural_tag\":" + Structures + "}",
        "\"structured_outputs\":{\"structural_tag\":" + JsonSerializer.Serialize(Structures) + "}",
        "\"structured_outputs\":{\"structural_tag\":" + JsonSerializer.Serialize(Tags) + "}",
    ];

    [Theory]
    [MemberData(nameof(Triggered))]
    public async Task Text_is_free_and_tags_follow_their_schemas(string format)
    {
        foreach (string right in (string[])["No call today: 1 < 2.", "Let me see. <function=weather>{\"city\": \"Paris\"}</function> and <function=time>12</function> done."])
        {
            Assert.Equal(right, await AskAsync(right, format));
            Assert.Equal(right, await AskAsync("<|channel>thought\n<function=nothing><channel|>" + right, format + ",\"reasoning_effort\":\"max\""));
        }
        string bound = await AskAsync("So <function=weather>{\"town\": 5}", format);
        Assert.StartsWith("So <function=weather>{", bound);
        int start = bound.IndexOf('{'), end = bound.IndexOf("</function>", StringComparison.Ordinal);
        Assert.Equal(["city"], TestHost.Json(bound[start..end]).EnumerateObject().Select(static m => m.Name));
        Assert.Matches("^So <function=(time|weather)>", await AskAsync("So <function=nothing>", format));
    }

    [Theory]
    [InlineData("{\"type\":\"const_string\",\"value\":\"fixed\"}", "something", "fixed")]
    [InlineData("{\"type\":\"sequence\",\"elements\":[{\"type\":\"tag\",\"begin\":\"<a>\",\"content\":{\"type\":\"any_text\"},\"end\":\"</a>\"},{\"type\":\"grammar\",\"grammar\":\"root ::= \\\"ok\\\"\"}]}", "<a>free</a>ok!", "<a>free</a>ok")]
    [InlineData("{\"type\":\"or\",\"elements\":[{\"type\":\"const_string\",\"value\":\"yes\"},{\"type\":\"grammar\",\"grammar\":\"start: \\\"no\\\" INT\\n%import common.INT\"}]}", "no12.", "no12")]
    [InlineData("{\"type\":\"tags_with_separator\",\"separator\":\", \",\"at_least_one\":true,\"tags\":[{\"type\":\"tag\",\"begin\":\"<\",\"content\":{\"type\":\"regex\",\"pattern\":\"[a-z]+\"},\"end\":\">\"}]}", "<ab>, <c>;", "<ab>, <c>")]
    [InlineData("{\"type\":\"sequence\",\"elements\":[{\"type\":\"optional\",\"content\":{\"type\":\"const_string\",\"value\":\"x\"}},{\"type\":\"repeat\",\"min\":2,\"max\":2,\"content\":{\"type\":\"const_string\",\"value\":\"y\"}},{\"type\":\"plus\",\"content\":{\"type\":\"const_string\",\"value\":\"z\"}},{\"type\":\"star\",\"content\":{\"type\":\"const_string\",\"value\":\"a\"}}]}", "yyzz", "yyzz")]
    public async Task Formats_are_followed_on_both_endpoints(string format, string script, string expected)
    {
        string member = $"\"response_format\":{{\"type\":\"structural_tag\",\"format\":{format}}}";
        Assert.Equal(expected, await AskAsync(script, member));
        JsonElement text = (await fixture.Host.AskAsync("/v1/completions", $$"""{"prompt":"tags","max_tokens":60,{{member}}}""")).GetProperty("choices")[0];
        Assert.Equal((expected, "stop"), (text.GetProperty("text").GetString(), text.GetProperty("finish_reason").GetString()));
    }

    [Theory]
    [InlineData("\"structured_outputs\":{\"grammar\":GRAMMAR}"), InlineData("\"guided_grammar\":GRAMMAR"), InlineData("\"grammar\":GRAMMAR")]
    public async Task Grammars_may_be_in_Lark(string member)
    {
        const string grammar = "?start: pair (\",\" pair)*\npair: CNAME \"=\" INT\n%import common (CNAME, INT, WS)\n%ignore WS";
        Assert.Equal("a = 1, b=22", await AskAsync("a = 1, b=22;", member.Replace("GRAMMAR", JsonSerializer.Serialize(grammar))));
    }

    private async Task<string> AskAsync(string script, string format)
    {
        fixture.Host.Runner.Answers["tags"] = script;
        JsonElement choice = (await fixture.Host.AskAsync(Path, TestHost.Chat("tags", format + ",\"max_tokens\":200"))).GetProperty("choices")[0];
        Assert.Equal("stop", choice.GetProperty("finish_reason").GetString());
        return choice.GetProperty("message").GetProperty("content").GetString()!;
    }
}
