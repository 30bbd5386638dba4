using System.Text.Json;
using System.Text.Json.Nodes;

namespace GemmaServer.Tests.Http;

/// <summary>What a request becomes as a chat body.</summary>
public sealed class ResponsesTranslationTests(ScriptedHost fixture) : IClassFixture<ScriptedHost>
{
    private const string Hi = """{"role":"user","content":"hi"}""";

    [Theory]
    [InlineData("""{"input":"hi"}""", """{"messages":[HI]}""")]
    [InlineData("""{"input":[{"role":"user","content":[{"type":"input_text","text":"a"},{"type":"input_text","text":"b"}]}],"instructions":"Rules."}""",
        """{"messages":[{"role":"system","content":"Rules."},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}""")]
    [InlineData("""{"input":"hi","temperature":0.5,"stream":true,"seed":7,"cache_salt":"s","something":{"new":1}}""",
        """{"temperature":0.5,"stream":true,"seed":7,"cache_salt":"s","something":{"new":1},"messages":[HI]}""")]
    [InlineData("""{"input":"hi","max_output_tokens":5,"reasoning":{"effort":"high","summary":"auto"},"text":{"verbosity":"low"},"top_logprobs":3}""",
        """{"messages":[HI],"verbosity":"low","reasoning_effort":"high","max_completion_tokens":5,"logprobs":true,"top_logprobs":3}""")]
    [InlineData("""{"input":"hi","include":["message.output_text.logprobs"],"store":true,"truncation":"auto","max_tool_calls":2}""",
        """{"store":true,"messages":[HI],"logprobs":true,"top_logprobs":0}""")]
    [InlineData("""{"input":"hi","text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"},"strict":true,"description":"d"}}}""",
        """{"messages":[HI],"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"},"strict":true,"description":"d"}}}""")]
    [InlineData("""{"input":"hi","text":{"format":{"type":"json_object"}}}""", """{"messages":[HI],"response_format":{"type":"json_object"}}""")]
    [InlineData("""{"input":"hi","tools":[{"type":"function","name":"f","description":null,"parameters":{"type":"object"},"strict":true}],"tool_choice":"required","parallel_tool_calls":false}""",
        """{"parallel_tool_calls":false,"messages":[HI],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"},"strict":true}}],"tool_choice":"required"}""")]
    [InlineData("""{"input":"hi","tool_choice":{"type":"function","name":"f"}}""", """{"messages":[HI],"tool_choice":{"type":"function","function":{"name":"f"}}}""")]
    [InlineData("""{"input":"hi","tool_choice":{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"f"},{"type":"function","name":"g"}]}}""",
        """{"messages":[HI],"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"g"}}]}}}""")]
    // One turn of the assistant is one message, whatever the order of its items.
    [InlineData("""{"input":[{"role":"user","content":"hi"},{"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"t"}]},{"type":"message","role":"assistant","content":[{"type":"output_text","text":"a"}]},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"role":"assistant","content":"b"},{"type":"function_call","call_id":"d","name":"g","arguments":"{}"},{"type":"function_call_output","call_id":"d","output":"2"},{"type":"function_call_output","call_id":"c","output":[{"type":"input_text","text":"1"},{"type":"input_text","text":"!"}]},{"role":"assistant","content":"done"}]}""",
        """{"messages":[HI,{"role":"assistant","content":"ab","reasoning_content":"t","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"d","type":"function","function":{"name":"g","arguments":"{}"}}]},{"role":"tool","tool_call_id":"d","content":"2"},{"role":"tool","tool_call_id":"c","content":"1!"},{"role":"assistant","content":"done"}]}""")]
    // A result belongs to its call, wherever it stands.
    [InlineData("""{"input":[{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"role":"developer","content":"x"},{"type":"function_call_output","call_id":"c","output":"r"}]}""",
        """{"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"r"},{"role":"developer","content":"x"}]}""")]
    // Ids may come again once they were answered; a call that was cut is left out.
    [InlineData("""{"input":[{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"1"},{"type":"function_call","call_id":"c","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"2"},{"type":"function_call","call_id":"d","name":"g","arguments":"{\"a","status":"incomplete"},{"role":"user","content":"hi"}]}""",
        """{"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"1"},{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"c","content":"2"},HI]}""")]
    public void A_request_becomes_this_chat_body(string request, string expected)
    {
        (string? body, ApiError? error) = ResponsesReader.Translate(TestHost.Json(request), fixture.Host.Model, TestHost.Options, new ResponseStore(10));
        Assert.Null(error);
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(expected.Replace("HI", Hi, StringComparison.Ordinal)), JsonNode.Parse(body!)), body);
        Assert.NotEqual(JsonValueKind.Undefined, TestHost.Json(body!).ValueKind);    // and no member twice
    }
}
