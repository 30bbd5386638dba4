using System.Text.Json;
using GemmaServer.Tests.Text;
using GemmaServer.Text;

namespace GemmaServer.Tests.Http;

/// <summary>/tokenize, /detokenize, /apply-template, derender, models, probes, the API description.</summary>
public sealed class ToolEndpointTests(ScriptedHost fixture) : IClassFixture<ScriptedHost>
{
    private TestHost Host => fixture.Host;

    [Fact]
    public async Task Tokenize_answers_in_the_form_it_was_asked_in()
    {
        int[] ids = TestHost.Tokenizer.Encode("Hi there", parseSpecial: false);
        int bos = TestHost.Tokenizer.Special.Bos;
        JsonElement vllm = await Host.AskAsync("/tokenize", """{"prompt":"Hi there","return_token_strs":true}""");
        Assert.Equal($$"""{"count":{{ids.Length + 1}},"max_model_len":4096,"tokens":[{{string.Join(',', ids.Prepend(bos))}}]""", vllm.GetRawText()[..vllm.GetRawText().IndexOf(",\"token_strs")]);
        Assert.Equal(ids.Prepend(bos).Select(TestHost.Tokenizer.Piece), vllm.GetProperty("token_strs").EnumerateArray().Select(static t => t.GetString()));
        JsonElement llama = await Host.AskAsync("/tokenize", """{"content":"Hi there"}""");
        Assert.Equal($$"""{"tokens":[{{string.Join(',', ids)}}]}""", llama.GetRawText());
        JsonElement pieces = await Host.AskAsync("/tokenize", """{"content":"Hi \u2603","with_pieces":true}""");
        Assert.Contains(pieces.GetProperty("tokens").EnumerateArray(), static t => t.GetProperty("piece").ValueKind == JsonValueKind.Array);
        JsonElement plain = await Host.AskAsync("/tokenize", """{"content":"<|turn>","parse_special":false}""");
        Assert.DoesNotContain(plain.GetProperty("tokens").EnumerateArray(), static t => t.GetInt32() == TestHost.Tokenizer.Special.TurnStart);
    }

    [Fact]
    public async Task Detokenize_gives_the_text_back()
    {
        int[] ids = TestHost.Tokenizer.Encode("Hi there, 👍", parseSpecial: false);
        JsonElement answer = await Host.AskAsync("/detokenize", $"{{\"tokens\":[{string.Join(',', ids)}]}}");
        Assert.Equal("Hi there, 👍", answer.GetProperty("prompt").GetString());
        Assert.Equal("Hi there, 👍", answer.GetProperty("content").GetString());
    }

    [Fact]
    public async Task Models_are_listed_under_all_names()
    {
        JsonElement list = await GetAsync("/v1/models");
        Assert.Equal(["scripted", "alias/of it"], list.GetProperty("data").EnumerateArray().Select(static m => m.GetProperty("id").GetString()));
        JsonElement one = await GetAsync("/v1/models/alias/of%20it");
        Assert.Equal("alias/of it", one.GetProperty("id").GetString());
        Assert.Equal("model", one.GetProperty("object").GetString());
        Assert.Equal(4096, one.GetProperty("max_model_len").GetInt32());
    }

    [Theory]
    [InlineData("/health")]
    [InlineData("/healthz")]
    [InlineData("/livez")]
    [InlineData("/readyz")]
    [InlineData("/ping")]
    [InlineData("/version")]
    public async Task Probes_answer_200_with_JSON(string path) => Assert.Equal(JsonValueKind.Object, (await GetAsync(path)).ValueKind);

    [Fact]
    public async Task Every_route_is_in_the_API_description_and_the_UI_shows_it()
    {
        JsonElement paths = (await GetAsync("/openapi.json")).GetProperty("paths");
        var endpoints = (Microsoft.AspNetCore.Routing.IEndpointRouteBuilder)Host.App;
        foreach (var endpoint in endpoints.DataSources.SelectMany(static s => s.Endpoints).OfType<Microsoft.AspNetCore.Routing.RouteEndpoint>())
        {
            if (endpoint.Metadata.GetMetadata<Microsoft.AspNetCore.Routing.IExcludeFromDescriptionMetadata>()?.ExcludeFromDescription == true) continue;     // the playground's files
            JsonElement operations = paths.GetProperty(endpoint.RoutePattern.RawText!.Replace("{**id}", "{id}"));
            foreach (string method in endpoint.Metadata.OfType<Microsoft.AspNetCore.Routing.HttpMethodMetadata>().Single().HttpMethods)
                Assert.True(operations.TryGetProperty(method.ToLowerInvariant(), out _), $"{method} {endpoint.RoutePattern.RawText}");
        }
        string page = await Host.Client.GetStringAsync("/swagger/index.html");
        Assert.Contains("swagger", page, StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    public async Task The_request_id_is_echoed_or_made()
    {
        using HttpRequestMessage request = new(HttpMethod.Get, "/version");
        request.Headers.Add("x-request-id", "my-id-1");
        using HttpResponseMessage echoed = await Host.Client.SendAsync(request);
        Assert.Equal("my-id-1", echoed.Headers.GetValues("x-request-id").Single());
        Assert.True(long.Parse(echoed.Headers.GetValues("openai-processing-ms").Single()) >= 0);
        using HttpRequestMessage strange = new(HttpMethod.Get, "/version");
        strange.Headers.TryAddWithoutValidation("x-request-id", "with blank and \"quotes\"");
        using HttpResponseMessage made = await Host.Client.SendAsync(strange);
        Assert.Matches("^req_[0-9a-f]{32}$", made.Headers.GetValues("x-request-id").Single());
    }

    [Fact]
    public async Task Derender_turns_the_stored_outputs_into_the_stored_messages()
    {
        List<string> wrong = [];
        int count = 0;
        foreach (JsonElement item in ChatGolden.Cases("parse"))
        {
            if (item.Str("level") != "must") continue;
            count++;
            JsonElement context = item.GetProperty("context");
            string output = item.Get("tokens").ValueKind == JsonValueKind.Array ? $"\"pieces\":{item.GetProperty("tokens").GetRawText()}" : $"\"text\":{item.GetProperty("raw").GetRawText()}";
            string request = "{" + output + $",\"prompt_state\":\"{context.Str("prompt_state")}\",\"finish_reason\":\"{(context.Str("stop") == "length" ? "length" : "stop")}\","
                + "\"chat_template_kwargs\":{\"enable_thinking\":" + (context.Flag("enable_thinking") ? "true" : "false") + "}}";
            JsonElement answer = await Host.AskAsync("/v1/chat/completions/derender", request);
            Assert.Equal(answer.GetProperty("message").GetProperty("content").GetRawText(), answer.GetProperty("choices")[0].GetProperty("message").GetProperty("content").GetRawText());
            string found = Canonical(answer.GetProperty("message"), answer.Str("finish_reason"));
            string expected = Expected(item.GetProperty("expected"));
            if (found != expected) wrong.Add($"{item.Id()}: expected {expected}, found {found}");
        }
        Assert.True(count > 0);
        Assert.True(wrong.Count == 0, $"{wrong.Count} of {count}:\n{string.Join('\n', wrong)}");
    }

    [Fact]
    public async Task Derender_takes_token_ids_and_works_the_start_out_from_the_messages()
    {
        int[] ids = TestHost.Tokenizer.Encode("secret<channel|>Open.<turn|>", parseSpecial: true);
        string conversation = """
            "messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},
            {"role":"tool","tool_call_id":"a","content":"r"}],"chat_template_kwargs":{"enable_thinking":true}
            """;
        JsonElement answer = await Host.AskAsync("/v1/chat/completions/derender", $"{{\"token_ids\":[{string.Join(',', ids)}],{conversation}}}");
        Assert.Equal("secret", answer.GetProperty("message").GetProperty("reasoning").GetString());
        Assert.Equal("Open.", answer.GetProperty("message").GetProperty("content").GetString());
    }

    [Fact]
    public async Task Apply_template_gives_the_stored_prompts_of_OpenAI_requests()
    {
        await using TestHost large = await TestHost.StartAsync(flavour: TemplateFlavour.Large);
        List<string> wrong = [];
        int count = 0;
        foreach (JsonElement item in ChatGolden.Cases("openai.json"))
        {
            count++;
            TestHost host = item.Str("template") == "gemma4-large" ? large : Host;
            Dictionary<string, JsonElement> request = item.GetProperty("request").EnumerateObject().ToDictionary(static m => m.Name, static m => m.Value);
            request.Remove("model");
            request["chat_template_fixes"] = TestHost.Json("[false]")[0];
            using HttpResponseMessage response = await host.PostAsync("/apply-template", JsonSerializer.Serialize(request));
            JsonElement answer = TestHost.Json(await response.Content.ReadAsStringAsync());
            if (item.Get("http_error") is { ValueKind: JsonValueKind.Object } expected)
            {
                if ((int)response.StatusCode != expected.GetProperty("status").GetInt32() || answer.GetProperty("error").Str("param") != expected.Str("param"))
                    wrong.Add($"{item.Id()}: {answer.GetRawText()}");
            }
            else if (!response.IsSuccessStatusCode || answer.Str("prompt") != item.Str("rendered")) wrong.Add($"{item.Id()}: {answer.GetRawText()}");
            else
            {
                int[] tokens = [.. answer.GetProperty("tokens").EnumerateArray().Select(static t => t.GetInt32())];
                if (TestHost.Tokenizer.Decode(tokens, skipSpecial: false).Replace('\u2581', ' ') != item.Str("rendered").Replace('\u2581', ' ')) wrong.Add($"{item.Id()}: tokens");
            }
        }
        Assert.True(wrong.Count == 0, $"{wrong.Count} of {count}:\n{string.Join('\n', wrong)}");
    }

    private async Task<JsonElement> GetAsync(string path) => TestHost.Json(await Host.Client.GetStringAsync(path));

    private static string Canonical(JsonElement message, string finish)
    {
        IEnumerable<string> calls = message.Get("tool_calls").ValueKind == JsonValueKind.Array
            ? message.GetProperty("tool_calls").EnumerateArray().Select(static c => $"{c.GetProperty("function").Str("name")} {Sorted(c.GetProperty("function").Str("arguments"))}")
            : [];
        string reasoning = message.Get("reasoning").ValueKind == JsonValueKind.String ? message.Str("reasoning") : "";
        return JsonSerializer.Serialize(new { reasoning, content = message.GetProperty("content").GetString() ?? "", calls, finish });
    }

    private static string Expected(JsonElement expected)
    {
        IEnumerable<string> calls = expected.GetProperty("tool_calls").EnumerateArray().Select(static c => $"{c.Str("name")} {Sorted(c.Str("arguments_json"))}");
        return JsonSerializer.Serialize(new { reasoning = expected.Str("reasoning"), content = expected.Str("content"), calls, finish = expected.Str("finish_reason") });
    }

    /// <summary>JSON with sorted members, of equal ones the last, strings decoded, numbers as they are spelled.</summary>
    private static string Sorted(string json)
    {
        using JsonDocument document = JsonDocument.Parse(json);
        return Text(document.RootElement);

        static string Text(JsonElement value) => value.ValueKind switch
        {
            JsonValueKind.Object => "{" + string.Join(',', value.EnumerateObject().GroupBy(static m => m.Name).Select(static g => g.Last()).OrderBy(static m => m.Name, StringComparer.Ordinal).Select(static m => $"{JsonSerializer.Serialize(m.Name)}:{Text(m.Value)}")) + "}",
            JsonValueKind.Array => "[" + string.Join(',', value.EnumerateArray().Select(Text)) + "]",
            JsonValueKind.String => JsonSerializer.Serialize(value.GetString()),
            _ => value.GetRawText(),
        };
    }
}
