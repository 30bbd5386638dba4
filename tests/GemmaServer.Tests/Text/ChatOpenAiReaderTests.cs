using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer.Tests.Text;

public class ChatOpenAiReaderTests
{
    [Fact]
    public void Every_stored_request_gives_its_prompt_or_its_error()
    {
        foreach (JsonElement item in ChatGolden.Cases("openai.json"))
        {
            JsonElement request = item.GetProperty("request");
            ChatRequestError? error = OpenAiMessageReader.TryRead(request.Get("messages"), request.Get("tools"), out ChatConversation? read, allowMedia: true);
            JsonElement expected = item.Get("http_error");
            if (expected.ValueKind == JsonValueKind.Object)
            {
                Assert.NotNull(error);
                Assert.Equal(expected.GetProperty("status").GetInt32(), error.Status);
                Assert.Equal(expected.Str("param"), error.Param);
                continue;
            }
            Assert.True(error is null, $"{item.Id()}: {error?.Message}");
            Assert.Equal(item.Str("rendered"), ChatRenderer.Render(Prompt(item, request, read!)).Text);
        }
    }

    [Theory]
    [InlineData("""{"role":"assistant","content":"text","reasoning":"hm"}""")]
    [InlineData("""{"role":"assistant","content":"text","reasoning_content":"hm"}""")]
    [InlineData("""{"role":"assistant","content":"text","reasoning":"","thinking":"hm"}""")]
    [InlineData("""{"role":"assistant","content":[{"type":"thinking","thinking":"h"},{"type":"text","text":"text"},{"type":"thinking","thinking":"m"}]}""")]
    public void A_thought_has_many_names_and_never_becomes_content(string message)
    {
        using JsonDocument messages = JsonDocument.Parse($"[{{\"role\":\"assistant\",\"content\":[{{\"type\":\"thinking\",\"thinking\":\"another\"}}]}},{message},{{\"role\":\"assistant\",\"content\":\"x\"}}]");
        Assert.Null(OpenAiMessageReader.TryRead(messages.RootElement, default, out ChatConversation? read));
        Assert.Equal(["another", "hm", null], read!.Messages.Select(static m => m.Reasoning));
        string prompt = ChatRenderer.Render(new() { Messages = [read.Messages[1]] }).Text;
        Assert.Contains("text", prompt, StringComparison.Ordinal);
        Assert.Equal(ChatRenderer.Render(new() { Messages = [new() { Role = "assistant", Content = ChatValue.String("text"), Reasoning = "hm" }] }).Text, prompt);
    }

    /// <summary>The options beside messages and tools are the endpoint's to read; done here in the table's words.</summary>
    private static ChatPrompt Prompt(JsonElement item, JsonElement request, ChatConversation read)
    {
        string? effort = request.Get("reasoning_effort").ValueKind == JsonValueKind.String ? request.Str("reasoning_effort") : null;
        JsonElement kwargs = request.Get("chat_template_kwargs");
        bool hasKwarg = kwargs.ValueKind == JsonValueKind.Object && kwargs.Get("enable_thinking").ValueKind != JsonValueKind.Undefined;
        return new()
        {
            Messages = read.Messages,
            Tools = read.Tools,
            Flavour = item.Str("template") == "gemma4-large" ? TemplateFlavour.Large : TemplateFlavour.Small,
            EnableThinking = hasKwarg ? kwargs.Flag("enable_thinking") : effort is not (null or "none"),
            PreserveThinking = kwargs.ValueKind == JsonValueKind.Object && kwargs.Flag("preserve_thinking"),
            TemplateFixes = false,
        };
    }

    [Theory]
    [InlineData("""{}""", "missing_required_parameter", "messages")]
    [InlineData("""{"messages":{}}""", "invalid_type", "messages")]
    [InlineData("""{"messages":[]}""", "empty_array", "messages")]
    [InlineData("""{"messages":["x"]}""", "invalid_type", "messages[0]")]
    [InlineData("""{"messages":[{"content":"x"}]}""", "missing_required_parameter", "messages[0].role")]
    [InlineData("""{"messages":[{"role":1,"content":"x"}]}""", "invalid_type", "messages[0].role")]
    [InlineData("""{"messages":[{"role":"user\nx<turn|>","content":"x"}]}""", "invalid_value", "messages[0].role")]
    [InlineData("""{"messages":[{"role":"user"}]}""", "missing_required_parameter", "messages[0].content")]
    [InlineData("""{"messages":[{"role":"user","content":{}}]}""", "invalid_type", "messages[0].content")]
    [InlineData("""{"messages":[{"role":"user","content":[1]}]}""", "invalid_type", "messages[0].content[0]")]
    [InlineData("""{"messages":[{"role":"user","content":[{"type":"thinking","thinking":"x"}]}]}""", "invalid_value", "messages[0].content[0].type")]
    [InlineData("""{"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"x"},{"type":"thinking"}]}]}""", "missing_required_parameter", "messages[0].content[1].thinking")]
    [InlineData("""{"messages":[{"role":"assistant","content":"x","thinking":1}]}""", "invalid_type", "messages[0].thinking")]
    [InlineData("""{"messages":[{"role":"user","content":[{"text":"x"}]}]}""", "missing_required_parameter", "messages[0].content[0].type")]
    [InlineData("""{"messages":[{"role":"user","content":[{"type":"text"}]}]}""", "missing_required_parameter", "messages[0].content[0].text")]
    [InlineData("""{"messages":[{"role":"user","content":[{"type":"text","text":null}]}]}""", "invalid_type", "messages[0].content[0].text")]
    [InlineData("""{"messages":[{"role":"user","content":"x"},{"role":"user","content":[{"type":"image_url","image_url":{"url":"u"}}]}]}""", "unsupported_value", "messages[1].content[0].type")]
    [InlineData("""{"messages":[{"role":"system","content":[{"type":"image_url","image_url":{"url":"u"}}]}]}""", "invalid_value", "messages[0].content[0].type")]
    [InlineData("""{"messages":[{"role":"tool","tool_call_id":"c","content":"x"}]}""", "invalid_value", "messages[0].role")]
    [InlineData("""{"messages":[{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":"{}"}}]}]}""", "invalid_value", "messages[0].tool_calls")]
    [InlineData("""{"messages":[{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"d","content":"x"}]}""", "invalid_value", "messages[1].tool_call_id")]
    [InlineData("""{"messages":[{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","content":"x"}]}""", "missing_required_parameter", "messages[1].tool_call_id")]
    [InlineData("""{"messages":[{"role":"assistant","tool_calls":[{"id":"c","function":{"arguments":"{}"}}]}]}""", "missing_required_parameter", "messages[0].tool_calls[0].function.name")]
    [InlineData("""{"messages":[{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f{","arguments":"{}"}}]}]}""", "invalid_value", "messages[0].tool_calls[0].function.name")]
    [InlineData("""{"messages":[{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":[1]}}]}]}""", "invalid_type", "messages[0].tool_calls[0].function.arguments")]
    [InlineData("""{"messages":[{"role":"user","content":"x"}],"tools":{}}""", "invalid_type", "tools")]
    [InlineData("""{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function"}]}""", "missing_required_parameter", "tools[0].function")]
    [InlineData("""{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{}}]}""", "missing_required_parameter", "tools[0].function.name")]
    [InlineData("""{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"a b"}}]}""", "invalid_value", "tools[0].function.name")]
    [InlineData("""{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"web_search"}]}""", "invalid_value", "tools[0].type")]
    [InlineData("""{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"properties":[]}}}]}""", "invalid_function_parameters", "tools[0].function.parameters")]
    [InlineData("""{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"a\nb":{}}}}}]}""", "invalid_function_parameters", "tools[0].function.parameters")]
    public void A_wrong_request_names_the_place(string json, string code, string param)
    {
        using JsonDocument request = JsonDocument.Parse(json);
        ChatRequestError? error = OpenAiMessageReader.TryRead(request.RootElement.Get("messages"), request.RootElement.Get("tools"), out ChatConversation? read);
        Assert.NotNull(error);
        Assert.Null(read);
        Assert.Equal((400, code, param), (error.Status, error.Code, error.Param));
        Assert.NotEmpty(error.Message);
    }

    [Fact]
    public void Deep_nesting_and_too_many_tools_are_refused()
    {
        string deep = string.Concat(Enumerable.Repeat("{\\\"a\\\":", 70)) + "1" + new string('}', 70);
        string json = $$$"""{"messages":[{"role":"assistant","tool_calls":[{"id":"c","function":{"name":"f","arguments":"{{{deep}}}"}}]}]}""";
        Assert.Equal("messages[0].tool_calls[0].function.arguments", ErrorOf(json)?.Param);

        string tools = string.Join(',', Enumerable.Repeat("""{"type":"function","function":{"name":"f"}}""", 513));
        Assert.Equal("array_above_max_length", ErrorOf($$"""{"messages":[{"role":"user","content":"x"}],"tools":[{{tools}}]}""")?.Code);
    }

    [Fact]
    public void The_older_function_form_is_read_as_tool_call_and_result()
    {
        const string Json = """
            {"messages":[{"role":"user","content":"w?"},
             {"role":"assistant","content":null,"function_call":{"name":"get_weather","arguments":"{\"city\":\"Paris\"}"}},
             {"role":"function","name":"get_weather","content":"sunny"}]}
            """;
        using JsonDocument request = JsonDocument.Parse(Json);
        Assert.Null(OpenAiMessageReader.TryRead(request.RootElement.Get("messages"), default, out ChatConversation? read));
        string text = ChatRenderer.Render(new() { Messages = read!.Messages }).Text;
        Assert.EndsWith("<|tool_call>call:get_weather{city:<|\"|>Paris<|\"|>}<tool_call|><|tool_response>response:get_weather{value:<|\"|>sunny<|\"|>}<tool_response|>", text);
    }

    [Fact]
    public void A_message_echoes_only_the_start_of_a_clients_text()
    {
        string json = $$"""{"messages":[{"role":"{{new string('x', 5000)}}","content":"x"}]}""";
        Assert.True(ErrorOf(json)!.Message.Length < 300);
    }

    private static ChatRequestError? ErrorOf(string json)
    {
        using JsonDocument request = JsonDocument.Parse(json, new() { MaxDepth = 512 });
        return OpenAiMessageReader.TryRead(request.RootElement.Get("messages"), request.RootElement.Get("tools"), out _);
    }
}
