using System.Text.Json;
using GemmaServer.Tests.Text;

namespace GemmaServer.Tests.Http;

/// <summary>What is wrong with a Messages request is told in Anthropic's shape, by the names that it has there.</summary>
public sealed class AnthropicBadInputTests(ScriptedHost fixture) : IClassFixture<ScriptedHost>
{
    private const string Hi = """{"role":"user","content":"hi"}""";

    [Theory]
    [InlineData("""{"max_tokens":5,"messages":[{"role":"user","content":"hi"}]}""", "model")]
    [InlineData("""{"model":"scripted","messages":[{"role":"user","content":"hi"}]}""", "max_tokens")]
    [InlineData("""{"model":"scripted","max_tokens":0,"messages":[{"role":"user","content":"hi"}]}""", "max_tokens")]
    [InlineData("""{"model":"scripted","max_tokens":"5","messages":[{"role":"user","content":"hi"}]}""", "max_tokens")]
    [InlineData("""{"model":"scripted","max_tokens":5}""", "messages")]
    [InlineData("""{"model":"scripted","max_tokens":5,"messages":[]}""", "messages")]
    [InlineData("""{"model":"scripted","max_tokens":5,"messages":{}}""", "messages")]
    [InlineData("""{"model":"scripted","max_tokens":5,"messages":["hi"]}""", "messages[0]")]
    public async Task A_body_that_lacks_something(string body, string field) => await CheckAsync(body, field);

    [Theory]
    [InlineData("\"temperature\":1.5", "temperature")]
    [InlineData("\"temperature\":\"hot\"", "temperature")]
    [InlineData("\"top_p\":2", "top_p")]
    [InlineData("\"top_k\":-3", "top_k")]
    [InlineData("\"top_k\":1.5", "top_k")]
    [InlineData("\"stream\":1", "stream")]
    [InlineData("\"stop_sequences\":\"x\"", "stop_sequences")]
    [InlineData("\"stop_sequences\":[1]", "stop_sequences[0]")]
    [InlineData("\"stop_sequences\":[\"a\",\"\"]", "stop_sequences[1]")]
    [InlineData("\"system\":5", "system")]
    [InlineData("\"system\":[\"x\"]", "system[0]")]
    [InlineData("\"system\":[{\"type\":\"image\"}]", "system[0].type")]
    [InlineData("\"system\":[{\"type\":\"text\"}]", "system[0].text")]
    [InlineData("\"tools\":{}", "tools")]
    [InlineData("\"tools\":[1]", "tools[0]")]
    [InlineData("\"tools\":[{\"input_schema\":{}}]", "tools[0].name")]
    [InlineData("\"tools\":[{\"name\":\"f\"}]", "tools[0].input_schema")]
    [InlineData("\"tools\":[{\"name\":\"f\",\"input_schema\":[]}]", "tools[0].input_schema")]
    [InlineData("\"tools\":[{\"name\":\"f\",\"input_schema\":{\"required\":5}}]", "tools[0].input_schema")]
    [InlineData("\"tools\":[{\"name\":\"no name\",\"input_schema\":{}}]", "tools[0].name")]
    [InlineData("\"tools\":[{\"name\":\"f\",\"input_schema\":{}},{\"type\":\"web_search_20250305\",\"name\":\"web_search\"}]", "tools[1].type")]
    [InlineData("\"tool_choice\":\"auto\"", "tool_choice")]
    [InlineData("\"tool_choice\":{}", "tool_choice.type")]
    [InlineData("\"tool_choice\":{\"type\":\"maybe\"}", "tool_choice.type")]
    [InlineData("\"tool_choice\":{\"type\":\"tool\"}", "tool_choice.name")]
    [InlineData("\"tool_choice\":{\"type\":\"tool\",\"name\":\"nobody\"}", "tool_choice.name")]
    [InlineData("\"tool_choice\":{\"type\":\"auto\",\"disable_parallel_tool_use\":1}", "tool_choice.disable_parallel_tool_use")]
    [InlineData("\"thinking\":true", "thinking")]
    [InlineData("\"thinking\":{}", "thinking.type")]
    [InlineData("\"thinking\":{\"type\":\"sometimes\"}", "thinking.type")]
    [InlineData("\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":0}", "thinking.budget_tokens")]
    [InlineData("\"output_config\":{\"effort\":\"huge\"}", "output_config.effort")]
    [InlineData("\"output_config\":{\"effort\":1}", "output_config.effort")]
    [InlineData("\"output_config\":{\"format\":\"json\"}", "output_config.format")]
    [InlineData("\"output_config\":{\"format\":{\"type\":\"xml\"}}", "output_config.format.type")]
    [InlineData("\"output_config\":{\"format\":{\"type\":\"json_schema\"}}", "output_config.format.schema")]
    [InlineData("\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":\"{}\"}}", "output_config.format.schema")]
    [InlineData("\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"thing\"}}}", "output_config.format.schema")]
    [InlineData("\"output_format\":{\"type\":\"json_schema\"}", "output_format.schema")]
    [InlineData("\"metadata\":{\"user_id\":5}", "metadata.user_id")]
    [InlineData("\"service_tier\":\"gold\"", "service_tier")]
    [InlineData("\"container\":\"c\"", "container")]
    [InlineData("\"mcp_servers\":[{}]", "mcp_servers")]
    public async Task A_field_that_is_wrong(string member, string field) =>
        await CheckAsync($"{{\"model\":\"scripted\",\"max_tokens\":5,\"messages\":[{Hi}],{member}}}", field);

    [Theory]
    [InlineData("""{"content":"x"}""", "messages[1].role")]
    [InlineData("""{"role":"tool","content":"x"}""", "messages[1].role")]
    [InlineData("""{"role":"user"}""", "messages[1].content")]
    [InlineData("""{"role":"user","content":null}""", "messages[1].content")]
    [InlineData("""{"role":"user","content":{"type":"text"}}""", "messages[1].content")]
    [InlineData("""{"role":"user","content":["x"]}""", "messages[1].content[0]")]
    [InlineData("""{"role":"user","content":[{"text":"x"}]}""", "messages[1].content[0].type")]
    [InlineData("""{"role":"user","content":[{"type":"text","text":1}]}""", "messages[1].content[0].text")]
    [InlineData("""{"role":"user","content":[{"type":"text","text":"x"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":""}}]}""", "messages[1].content[1].type")]
    [InlineData("""{"role":"user","content":[{"type":"container_upload","file_id":"f"}]}""", "messages[1].content[0].type")]
    [InlineData("""{"role":"user","content":[{"type":"document"}]}""", "messages[1].content[0].source")]
    [InlineData("""{"role":"user","content":[{"type":"document","source":{"type":"base64","data":""}}]}""", "messages[1].content[0].source.type")]
    [InlineData("""{"role":"user","content":[{"type":"tool_result","content":"x"}]}""", "messages[1].content[0].tool_use_id")]
    [InlineData("""{"role":"user","content":[{"type":"tool_result","tool_use_id":"nobody"}]}""", "messages[1].content[0].tool_use_id")]
    [InlineData("""{"role":"assistant","content":[{"type":"tool_use","name":"f","input":{}}]}""", "messages[1].content[0].id")]
    [InlineData("""{"role":"assistant","content":[{"type":"tool_use","id":"a","input":{}}]}""", "messages[1].content[0].name")]
    [InlineData("""{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f"}]}""", "messages[1].content[0].input")]
    [InlineData("""{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":"{}"}]}""", "messages[1].content[0].input")]
    [InlineData("""{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{}}]}""" + "," + Hi, "messages[1].content[0]")]
    [InlineData("""{"role":"assistant","content":[{"type":"text","text":"x"},{"type":"tool_use","id":"a","name":"f","input":{}}]}""", "messages[1].content[1]")]
    [InlineData("""{"role":"assistant","content":[{"type":"thinking","signature":"s"}]}""", "messages[1].content[0].thinking")]
    [InlineData("""{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"image"}]}]}""", "messages[2].content[0].content[0].type")]
    [InlineData("""{"role":"assistant","content":[{"type":"tool_use","id":"a","name":"f","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"a","is_error":"yes"}]}""", "messages[2].content[0].is_error")]
    public async Task A_conversation_that_is_wrong(string messages, string field) =>
        await CheckAsync($"{{\"model\":\"scripted\",\"max_tokens\":5,\"messages\":[{Hi},{messages}]}}", field);

    [Fact]
    public async Task A_prompt_that_is_too_long_says_so_in_the_words_that_agents_look_for()
    {
        string words = string.Concat(Enumerable.Repeat("Grüße 👍 ", 3000));
        using HttpResponseMessage response = await fixture.Host.PostAsync("/v1/messages", $"{{\"model\":\"scripted\",\"max_tokens\":5,\"messages\":[{{\"role\":\"user\",\"content\":\"{words}\"}}]}}");
        Assert.Equal(400, (int)response.StatusCode);
        JsonElement error = TestHost.Json(await response.Content.ReadAsStringAsync()).GetProperty("error");
        Assert.Equal("invalid_request_error", error.Str("type"));
        Assert.StartsWith("prompt is too long: ", error.Str("message"));
    }

    [Fact]
    public async Task A_model_that_is_not_there()
    {
        foreach (string path in (string[])["/v1/messages", "/v1/messages/count_tokens"])
        {
            using HttpResponseMessage response = await fixture.Host.PostAsync(path, $"{{\"model\":\"claude\",\"max_tokens\":5,\"messages\":[{Hi}]}}");
            Assert.Equal(404, (int)response.StatusCode);
            Assert.Equal("not_found_error", TestHost.Json(await response.Content.ReadAsStringAsync()).GetProperty("error").Str("type"));
        }
    }

    [Fact]
    public async Task Unknown_fields_are_refused_where_the_server_is_strict()
    {
        await using TestHost host = await TestHost.StartAsync(new ServerOptions { Port = 0, LogLevel = Microsoft.Extensions.Logging.LogLevel.None, ServedModelName = ["scripted"], StrictFields = true });
        using HttpResponseMessage refused = await host.PostAsync("/v1/messages", $"{{\"model\":\"scripted\",\"max_tokens\":5,\"messages\":[{Hi}],\"foo\":1}}");
        Assert.Equal(400, (int)refused.StatusCode);
        Assert.Contains("foo", await refused.Content.ReadAsStringAsync());
        using HttpResponseMessage taken = await host.PostAsync("/v1/messages", $"{{\"model\":\"scripted\",\"max_tokens\":5,\"messages\":[{Hi}],\"thinking\":{{\"type\":\"adaptive\"}}}}");
        Assert.Equal(200, (int)taken.StatusCode);
    }

    private async Task CheckAsync(string body, string field)
    {
        using HttpResponseMessage response = await fixture.Host.PostAsync("/v1/messages", body);
        string text = await response.Content.ReadAsStringAsync();
        Assert.True((int)response.StatusCode == 400, $"{(int)response.StatusCode}: {text}");
        JsonElement root = TestHost.Json(text);
        Assert.Equal(["type", "error", "request_id"], root.EnumerateObject().Select(static m => m.Name));
        Assert.Equal("error", root.Str("type"));
        Assert.Equal("invalid_request_error", root.GetProperty("error").Str("type"));
        string message = root.GetProperty("error").Str("message");
        Assert.True(message.StartsWith(field + ":", StringComparison.Ordinal) || message.Contains($"'{field}'", StringComparison.Ordinal), $"{message} does not name {field}");
        Assert.Equal(response.Headers.GetValues("request-id").Single(), root.Str("request_id"));
    }
}
