using System.Text;

namespace GemmaServer.Tests.Http;

/// <summary>A request that must be refused, and how.</summary>
internal sealed record BadInput(string Name, string Path, byte[] Body, int Status, string? Code, string? Param, string ContentType = "application/json", string Method = "POST");

/// <summary>The table of bad input: what is sent, and the status, code and param that must come back.</summary>
internal static class BadInputs
{
    private const string ChatPath = "/v1/chat/completions";
    private const string TextPath = "/v1/completions";
    private const string Messages = "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]";
    private const string Tool = "{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\"}}}";

    public static IReadOnlyList<BadInput> All { get; } = [.. Bodies(), .. Fields(), .. Rules(), .. Conversations(), .. Tools(), .. Completions(), .. Others(), .. Routes(), .. TagBadInputs.All, .. ResponsesBadInputs.All];

    private static BadInput Raw(string name, byte[] body, int status, string? code, string? param = null, string type = "application/json") =>
        new(name, ChatPath, body, status, code, param, type);

    private static BadInput Body(string name, string body, int status, string? code, string? param = null) => Raw(name, Encoding.UTF8.GetBytes(body), status, code, param);

    /// <summary>A chat request that is right but for this member.</summary>
    internal static BadInput Field(string member, string code, string param, int status = 400) =>
        new(member, ChatPath, Encoding.UTF8.GetBytes($"{{{Messages},{member}}}"), status, code, param);

    private static BadInput Message(string messages, string code, string param) =>
        new($"messages {messages}", ChatPath, Encoding.UTF8.GetBytes($"{{\"messages\":{messages}}}"), 400, code, param);

    private static BadInput Text(string members, string code, string param, int status = 400) =>
        new($"completion {members}", TextPath, Encoding.UTF8.GetBytes($"{{{members}}}"), status, code, param);

    private static BadInput At(string path, string body, int status, string? code, string? param) =>
        new($"{path} {body}", path, Encoding.UTF8.GetBytes(body), status, code, param);

    private static IEnumerable<BadInput> Bodies()
    {
        yield return Body("empty body", "", 400, null);
        yield return Body("white space", " \r\n\t", 400, null);
        yield return Body("not JSON", "hello", 400, null);
        yield return Body("half an object", "{\"messages\":[", 400, null);
        yield return Body("two values", $"{{{Messages}}}{{}}", 400, null);
        yield return Body("trailing comma", $"{{{Messages},}}", 400, null);
        yield return Body("comment", $"{{/* hi */{Messages}}}", 400, null);
        yield return Body("single quotes", "{'messages':[]}", 400, null);
        yield return Body("NaN", $"{{{Messages},\"temperature\":NaN}}", 400, null);
        yield return Body("Infinity", $"{{{Messages},\"temperature\":Infinity}}", 400, null);
        yield return Body("-Infinity", $"{{{Messages},\"temperature\":-Infinity}}", 400, null);
        yield return Body("leading zero", $"{{{Messages},\"n\":01}}", 400, null);
        yield return Body("plus sign", $"{{{Messages},\"n\":+1}}", 400, null);
        yield return Body("bare control character", "{\"messages\":\"a\u0001b\"}", 400, null);
        yield return Body("broken escape", "{\"messages\":\"\\x41\"}", 400, null);
        yield return Body("cut escape", "{\"messages\":\"\\uD8", 400, null);
        yield return Body("array at the root", "[]", 400, null);
        yield return Body("string at the root", "\"hi\"", 400, null);
        yield return Body("null at the root", "null", 400, null);
        yield return Body("number at the root", "1e999", 400, null);
        yield return Raw("invalid UTF-8", [.. "{\"messages\":\""u8, 0xFF, 0xFE, .. "\"}"u8], 400, null);
        yield return Raw("overlong UTF-8", [.. "{\"messages\":\""u8, 0xC0, 0xAF, .. "\"}"u8], 400, null);
        yield return Raw("UTF-16", Encoding.Unicode.GetBytes($"{{{Messages}}}"), 400, null);
        yield return Body("nested too deep", $"{{\"messages\":{new string('[', 200)}{new string(']', 200)}}}", 400, "invalid_value");
        yield return Body("nested deep without end", $"{{\"messages\":{new string('[', 100_000)}", 400, "invalid_value");
        yield return Body("duplicate member", $"{{{Messages},\"n\":1,\"n\":2}}", 400, "invalid_value", "n");
        yield return Body("duplicate member inside", "{\"messages\":[{\"role\":\"user\",\"role\":\"system\",\"content\":\"x\"}]}", 400, "invalid_value", "messages[0].role");
        yield return Raw("form", Encoding.UTF8.GetBytes("a=b"), 415, "unsupported_content_type", type: "application/x-www-form-urlencoded");
        yield return Raw("plain text", Encoding.UTF8.GetBytes($"{{{Messages}}}"), 415, "unsupported_content_type", type: "text/plain");
        yield return Raw("other charset", Encoding.Latin1.GetBytes($"{{{Messages}}}"), 415, "unsupported_content_type", type: "application/json; charset=latin1");
        yield return Raw("no content type", Encoding.UTF8.GetBytes($"{{{Messages}}}"), 415, "unsupported_content_type", type: "");
        yield return Raw("body over the limit", new byte[(1 << 20) + 1], 413, "request_too_large");
    }

    private static IEnumerable<BadInput> Fields()
    {
        yield return Field("\"model\":7", "invalid_type", "model");
        yield return Field("\"model\":[]", "invalid_type", "model");
        yield return Field("\"model\":\"gpt-4\"", "model_not_found", "model", 404);
        yield return Field("\"model\":\"\"", "model_not_found", "model", 404);
        yield return Field("\"temperature\":\"hot\"", "invalid_type", "temperature");
        yield return Field("\"temperature\":true", "invalid_type", "temperature");
        yield return Field("\"temperature\":2.1", "decimal_above_max_value", "temperature");
        yield return Field("\"temperature\":-0.1", "decimal_below_min_value", "temperature");
        yield return Field("\"temperature\":1e400", "decimal_above_max_value", "temperature");
        yield return Field("\"temperature\":-1e400", "decimal_below_min_value", "temperature");
        yield return Field("\"top_p\":1.5", "decimal_above_max_value", "top_p");
        yield return Field("\"top_p\":-1", "decimal_below_min_value", "top_p");
        yield return Field("\"top_p\":{}", "invalid_type", "top_p");
        yield return Field("\"top_k\":1.5", "invalid_type", "top_k");
        yield return Field("\"top_k\":-2", "integer_below_min_value", "top_k");
        yield return Field("\"top_k\":99999999999", "integer_above_max_value", "top_k");
        yield return Field("\"min_p\":2", "decimal_above_max_value", "min_p");
        yield return Field("\"min_p\":\"0\"", "invalid_type", "min_p");
        yield return Field("\"repetition_penalty\":0", "decimal_below_min_value", "repetition_penalty");
        yield return Field("\"repetition_penalty\":-1", "decimal_below_min_value", "repetition_penalty");
        yield return Field("\"repetition_penalty\":1000", "decimal_above_max_value", "repetition_penalty");
        yield return Field("\"frequency_penalty\":3", "decimal_above_max_value", "frequency_penalty");
        yield return Field("\"presence_penalty\":-3", "decimal_below_min_value", "presence_penalty");
        yield return Field("\"presence_penalty\":[]", "invalid_type", "presence_penalty");
        yield return Field("\"n\":0", "integer_below_min_value", "n");
        yield return Field("\"n\":129", "integer_above_max_value", "n");
        yield return Field("\"n\":\"2\"", "invalid_type", "n");
        yield return Field("\"n\":1.0", "invalid_type", "n");
        yield return Field("\"n\":1e2", "invalid_type", "n");
        yield return Field("\"n\":999999999999999999999999999999", "integer_above_max_value", "n");
        yield return Field("\"n\":-999999999999999999999999999999", "integer_below_min_value", "n");
        yield return Field("\"seed\":\"x\"", "invalid_type", "seed");
        yield return Field("\"seed\":1.5", "invalid_type", "seed");
        yield return Field("\"seed\":9223372036854775808", "integer_above_max_value", "seed");
        yield return Field("\"seed\":-9223372036854775809", "integer_below_min_value", "seed");
        yield return Field("\"max_tokens\":0", "integer_below_min_value", "max_tokens");
        yield return Field("\"max_tokens\":-1", "integer_below_min_value", "max_tokens");
        yield return Field("\"max_tokens\":\"5\"", "invalid_type", "max_tokens");
        yield return Field("\"max_tokens\":3000000000", "integer_above_max_value", "max_tokens");
        yield return Field("\"max_completion_tokens\":0", "integer_below_min_value", "max_completion_tokens");
        yield return Field("\"max_completion_tokens\":1.5", "invalid_type", "max_completion_tokens");
        yield return Field("\"min_tokens\":-1", "integer_below_min_value", "min_tokens");
        yield return Field("\"min_tokens\":10,\"max_tokens\":5", "integer_above_max_value", "min_tokens");
        yield return Field("\"stop\":5", "invalid_type", "stop");
        yield return Field("\"stop\":{}", "invalid_type", "stop");
        yield return Field("\"stop\":\"\"", "empty_string", "stop");
        yield return Field("\"stop\":[\"a\",\"\"]", "empty_string", "stop[1]");
        yield return Field("\"stop\":[\"a\",1]", "invalid_type", "stop[1]");
        yield return Field("\"stop\":[null]", "invalid_type", "stop[0]");
        yield return Field($"\"stop\":[{string.Join(',', Enumerable.Repeat("\"a\"", 17))}]", "array_above_max_length", "stop");
        yield return Field($"\"stop\":\"{new string('a', 1025)}\"", "string_above_max_length", "stop");
        yield return Field("\"stop_token_ids\":5", "invalid_type", "stop_token_ids");
        yield return Field("\"stop_token_ids\":[512]", "integer_above_max_value", "stop_token_ids[0]");
        yield return Field("\"stop_token_ids\":[1,-1]", "integer_below_min_value", "stop_token_ids[1]");
        yield return Field("\"stop_token_ids\":[\"1\"]", "invalid_type", "stop_token_ids[0]");
        yield return Field("\"ignore_eos\":1", "invalid_type", "ignore_eos");
        yield return Field("\"logit_bias\":[]", "invalid_type", "logit_bias");
        yield return Field("\"logit_bias\":{\"x\":1}", "invalid_value", "logit_bias.x");
        yield return Field("\"logit_bias\":{\"-1\":1}", "invalid_value", "logit_bias.-1");
        yield return Field("\"logit_bias\":{\"512\":1}", "invalid_value", "logit_bias.512");
        yield return Field("\"logit_bias\":{\"5\":101}", "decimal_above_max_value", "logit_bias.5");
        yield return Field("\"logit_bias\":{\"5\":-101}", "decimal_below_min_value", "logit_bias.5");
        yield return Field("\"logit_bias\":{\"5\":\"1\"}", "invalid_type", "logit_bias.5");
        yield return Field("\"logprobs\":1", "invalid_type", "logprobs");
        yield return Field("\"logprobs\":true,\"top_logprobs\":21", "integer_above_max_value", "top_logprobs");
        yield return Field("\"logprobs\":true,\"top_logprobs\":-1", "integer_below_min_value", "top_logprobs");
        yield return Field("\"top_logprobs\":3", "invalid_value", "top_logprobs");
        yield return Field("\"stream\":\"yes\"", "invalid_type", "stream");
        yield return Field("\"stream_options\":{\"include_usage\":true}", "invalid_value", "stream_options");
        yield return Field("\"stream\":true,\"stream_options\":[]", "invalid_type", "stream_options");
        yield return Field("\"stream\":true,\"stream_options\":{\"include_usage\":1}", "invalid_type", "stream_options.include_usage");
        yield return Field("\"response_format\":\"json\"", "invalid_type", "response_format");
        yield return Field("\"response_format\":{}", "missing_required_parameter", "response_format.type");
        yield return Field("\"response_format\":{\"type\":5}", "invalid_type", "response_format.type");
        yield return Field("\"response_format\":{\"type\":\"yaml\"}", "invalid_value", "response_format.type");
        yield return Field("\"reasoning_effort\":\"huge\"", "invalid_value", "reasoning_effort");
        yield return Field("\"reasoning_effort\":1", "invalid_type", "reasoning_effort");
        yield return Field("\"chat_template_kwargs\":[]", "invalid_type", "chat_template_kwargs");
        yield return Field("\"chat_template_kwargs\":{\"enable_thinking\":\"yes\"}", "invalid_type", "chat_template_kwargs.enable_thinking");
        yield return Field("\"chat_template_kwargs\":{\"preserve_thinking\":1}", "invalid_type", "chat_template_kwargs.preserve_thinking");
        yield return Field("\"chat_template\":\"{{x}}\"", "unsupported_parameter", "chat_template");
        yield return Field("\"continue_final_message\":true,\"add_generation_prompt\":true", "invalid_value", "continue_final_message");
        yield return Field("\"continue_final_message\":true", "invalid_value", "continue_final_message");
        yield return Field("\"add_generation_prompt\":\"no\"", "invalid_type", "add_generation_prompt");
        yield return Field("\"include_reasoning\":0", "invalid_type", "include_reasoning");
        yield return Field("\"separate_reasoning\":false", "unsupported_value", "separate_reasoning");
        yield return Field("\"modalities\":[\"text\",\"audio\"]", "unsupported_value", "modalities");
        yield return Field("\"modalities\":[\"smell\"]", "invalid_value", "modalities[0]");
        yield return Field("\"modalities\":\"text\"", "invalid_type", "modalities");
        yield return Field("\"audio\":{\"voice\":\"x\"}", "unsupported_value", "audio");
        yield return Field("\"web_search_options\":{}", "unsupported_value", "web_search_options");
        yield return Field("\"functions\":[{}]", "unsupported_parameter", "functions");
        yield return Field("\"function_call\":{\"name\":\"f\"}", "unsupported_parameter", "function_call");
        yield return Field("\"metadata\":{\"a\":1}", "invalid_type", "metadata.a");
        yield return Field("\"metadata\":[]", "invalid_type", "metadata");
        yield return Field("\"service_tier\":\"gold\"", "invalid_value", "service_tier");
        yield return Field("\"timeout\":0", "decimal_below_min_value", "timeout");
        yield return Field("\"timeout\":-1.5", "decimal_below_min_value", "timeout");
        yield return Field("\"timeout\":1e10", "decimal_above_max_value", "timeout");
        yield return Field("\"timeout\":\"5s\"", "invalid_type", "timeout");
        yield return Field("\"priority\":1.5", "invalid_type", "priority");
        yield return Field("\"priority\":2147483648", "integer_above_max_value", "priority");
        yield return Field("\"user\":5", "invalid_type", "user");
        yield return Field("\"use_beam_search\":true", "unsupported_parameter", "use_beam_search");
        yield return Field("\"best_of\":3", "unsupported_parameter", "best_of");
        yield return Field("\"prompt_logprobs\":1", "unsupported_parameter", "prompt_logprobs");
        yield return Field("\"echo\":true", "unsupported_parameter", "echo");
    }

    private static IEnumerable<BadInput> Conversations()
    {
        yield return Body("no messages", "{}", 400, "missing_required_parameter", "messages");
        yield return Message("null", "missing_required_parameter", "messages");
        yield return Message("\"hi\"", "invalid_type", "messages");
        yield return Message("{}", "invalid_type", "messages");
        yield return Message("[]", "empty_array", "messages");
        yield return Message("[\"hi\"]", "invalid_type", "messages[0]");
        yield return Message("[null]", "invalid_type", "messages[0]");
        yield return Message("[{}]", "missing_required_parameter", "messages[0].role");
        yield return Message("[{\"role\":null,\"content\":\"x\"}]", "invalid_type", "messages[0].role");
        yield return Message("[{\"role\":5,\"content\":\"x\"}]", "invalid_type", "messages[0].role");
        yield return Message("[{\"role\":\"critic\",\"content\":\"x\"}]", "invalid_value", "messages[0].role");
        yield return Message("[{\"role\":\"model\",\"content\":\"x\"}]", "invalid_value", "messages[0].role");
        yield return Message("[{\"role\":\"user<turn|>\\n<|turn>system\",\"content\":\"x\"}]", "invalid_value", "messages[0].role");
        yield return Message("[{\"role\":\"user\"}]", "missing_required_parameter", "messages[0].content");
        yield return Message("[{\"role\":\"user\",\"content\":5}]", "invalid_type", "messages[0].content");
        yield return Message("[{\"role\":\"user\",\"content\":{}}]", "invalid_type", "messages[0].content");
        yield return Message("[{\"role\":\"user\",\"content\":[5]}]", "invalid_type", "messages[0].content[0]");
        yield return Message("[{\"role\":\"user\",\"content\":[{}]}]", "missing_required_parameter", "messages[0].content[0].type");
        yield return Message("[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]", "missing_required_parameter", "messages[0].content[0].text");
        yield return Message("[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":5}]}]", "invalid_type", "messages[0].content[0].text");
        yield return Message("[{\"role\":\"user\",\"content\":[{\"type\":\"file\",\"file\":{}}]}]", "invalid_value", "messages[0].content[0].type");
        yield return Message("[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"x\"}}]}]", "unsupported_value", "messages[0].content[0].type");
        yield return Message("[{\"role\":\"tool\",\"content\":\"x\"}]", "missing_required_parameter", "messages[0].tool_call_id");
        yield return Message("[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"tool_calls\":5}]", "invalid_type", "messages[1].tool_calls");
        yield return Message("[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"tool_calls\":[{}]}]", "missing_required_parameter", "messages[1].tool_calls[0].id");
        yield return Message("[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"a\"}]}]", "missing_required_parameter", "messages[1].tool_calls[0].function");
        yield return Message("[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"a\",\"function\":{}}]}]", "missing_required_parameter", "messages[1].tool_calls[0].function.name");
        foreach (string arguments in (string[])["\"{\\\"city\\\": \"", "\"[1]\"", "\"\\\"x\\\"\"", "\"city=Paris\""])
        {
            yield return Message($"[{{\"role\":\"user\",\"content\":\"x\"}},{{\"role\":\"assistant\",\"tool_calls\":[{{\"id\":\"a\",\"type\":\"function\",\"function\":{{\"name\":\"f\",\"arguments\":{arguments}}}}}]}},{{\"role\":\"tool\",\"tool_call_id\":\"a\",\"content\":\"y\"}}]",
                "invalid_value", "messages[1].tool_calls[0].function.arguments");
        }
        yield return Message($"[{{\"role\":\"user\",\"content\":\"{string.Concat(Enumerable.Repeat("too long ", 3000))}\"}}]", "context_length_exceeded", "messages");
        yield return Message($"[{{\"role\":\"user\",\"content\":\"{new string('z', 900_000)}\"}}]", "context_length_exceeded", "messages");
    }

    /// <summary>Fields that bind an answer, or tell more about it.</summary>
    private static IEnumerable<BadInput> Rules()
    {
        yield return Field("\"response_format\":{\"type\":\"json_object\",\"schema\":5}", "invalid_type", "response_format.schema");
        yield return Field("\"response_format\":{\"type\":\"json_schema\"}", "missing_required_parameter", "response_format.json_schema");
        yield return Field("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":5}", "invalid_type", "response_format.json_schema");
        yield return Field("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"schema\":{}}}", "missing_required_parameter", "response_format.json_schema.name");
        yield return Field("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":5,\"schema\":{}}}", "invalid_type", "response_format.json_schema.name");
        yield return Field("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"a b\",\"schema\":{}}}", "invalid_value", "response_format.json_schema.name");
        yield return Field("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"a\"}}", "missing_required_parameter", "response_format.json_schema.schema");
        yield return Field("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"a\",\"schema\":[]}}", "invalid_type", "response_format.json_schema.schema");
        yield return Field("\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"a\",\"schema\":{},\"strict\":\"yes\"}}", "invalid_type", "response_format.json_schema.strict");
        yield return Field("\"response_format\":{\"type\":\"json_object\"},\"guided_choice\":[\"a\"]", "invalid_value", "guided_choice");
        yield return Field("\"structured_outputs\":5", "invalid_type", "structured_outputs");
        yield return Field("\"structured_outputs\":{}", "invalid_value", "structured_outputs");
        yield return Field("\"structured_outputs\":{\"structural_tag\":\"x\"}", "invalid_value", "structured_outputs.structural_tag");
        yield return Field("\"structured_outputs\":{\"json\":{},\"choice\":[\"a\"]}", "invalid_value", "structured_outputs.choice");
        yield return Field("\"structured_outputs\":{\"json\":\"{\"}", "invalid_value", "structured_outputs.json");
        yield return Field("\"structured_outputs\":{\"json\":{\"$ref\":\"#/x\"}}", "invalid_value", "structured_outputs.json");
        yield return Field("\"structured_outputs\":{\"choice\":\"a\"}", "invalid_type", "structured_outputs.choice");
        yield return Field("\"structured_outputs\":{\"choice\":[\"a\",1]}", "invalid_type", "structured_outputs.choice[1]");
        yield return Field("\"structured_outputs\":{\"choice\":[\"\"]}", "empty_string", "structured_outputs.choice[0]");
        yield return Field("\"structured_outputs\":{\"regex\":5}", "invalid_type", "structured_outputs.regex");
        yield return Field("\"structured_outputs\":{\"regex\":\"(\"}", "invalid_value", "structured_outputs.regex");
        yield return Field("\"structured_outputs\":{\"grammar\":\"root := 1\"}", "invalid_value", "structured_outputs.grammar");
        yield return Field("\"structured_outputs\":{\"grammar\":\"start: nothing\"}", "invalid_value", "structured_outputs.grammar");
        yield return Field("\"guided_grammar\":\"start: _list{\\\"a\\\"}\"", "invalid_value", "guided_grammar");
        yield return Field("\"ebnf\":\"start: \\\"a\\\"\"", "invalid_value", "ebnf");
        yield return Field("\"guided_json\":5", "invalid_type", "guided_json");
        yield return Field("\"guided_regex\":\"\"", "empty_string", "guided_regex");
        yield return Field("\"regex\":\"[\"", "invalid_value", "regex");
        yield return Field("\"grammar\":[]", "invalid_type", "grammar");
        yield return Field("\"ebnf\":\"root ::= nothing\"", "invalid_value", "ebnf");
        yield return Field("\"json_schema\":[]", "invalid_type", "json_schema");
        yield return Field("\"enable_thinking\":\"yes\"", "invalid_type", "enable_thinking");
        yield return Field("\"thinking\":true", "invalid_type", "thinking");
        yield return Field("\"thinking\":{}", "missing_required_parameter", "thinking.type");
        yield return Field("\"thinking\":{\"type\":\"hard\"}", "invalid_value", "thinking.type");
        yield return Field("\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":-1}", "integer_below_min_value", "thinking.budget_tokens");
        yield return Field("\"reasoning\":\"high\"", "invalid_type", "reasoning");
        yield return Field("\"reasoning\":{\"effort\":\"huge\"}", "invalid_value", "reasoning.effort");
        yield return Field("\"reasoning\":{\"max_tokens\":\"5\"}", "invalid_type", "reasoning.max_tokens");
        yield return Field("\"reasoning\":{\"enabled\":1}", "invalid_type", "reasoning.enabled");
        yield return Field("\"thinking_token_budget\":-2", "integer_below_min_value", "thinking_token_budget");
        yield return Field("\"reasoning_budget_tokens\":1.5", "invalid_type", "reasoning_budget_tokens");
        yield return Field("\"prediction\":\"x\"", "invalid_type", "prediction");
        yield return Field("\"prediction\":{}", "missing_required_parameter", "prediction.type");
        yield return Field("\"prediction\":{\"type\":\"code\",\"content\":\"x\"}", "invalid_value", "prediction.type");
        yield return Field("\"prediction\":{\"type\":\"content\"}", "missing_required_parameter", "prediction.content");
        yield return Field("\"prediction\":{\"type\":\"content\",\"content\":5}", "invalid_type", "prediction.content");
        yield return Field("\"prediction\":{\"type\":\"content\",\"content\":[{\"type\":\"text\"}]}", "missing_required_parameter", "prediction.content[0].text");
        yield return Field("\"speculative\":3", "invalid_type", "speculative");
        yield return Field("\"speculative\":{\"n_max\":65}", "integer_above_max_value", "speculative.n_max");
        yield return Field("\"allowed_token_ids\":[]", "empty_array", "allowed_token_ids");
        yield return Field("\"allowed_token_ids\":[512]", "integer_above_max_value", "allowed_token_ids[0]");
        yield return Field("\"allowed_token_ids\":5", "invalid_type", "allowed_token_ids");
        yield return Field("\"bad_words\":\"x\"", "invalid_type", "bad_words");
        yield return Field("\"bad_words\":[\"\"]", "empty_string", "bad_words[0]");
        yield return Field("\"bad_words\":[5]", "invalid_type", "bad_words[0]");
        yield return Field("\"return_token_ids\":1", "invalid_type", "return_token_ids");
        yield return Field("\"return_tokens_as_token_ids\":\"yes\"", "invalid_type", "return_tokens_as_token_ids");
        yield return Field("\"metrics\":{}", "invalid_type", "metrics");
        yield return Field("\"timings\":1", "invalid_type", "timings");
        yield return Field("\"truncate_prompt_tokens\":5", "unsupported_parameter", "truncate_prompt_tokens");
        yield return Field($"\"tools\":[{Tool}],\"tool_choice\":{{\"type\":\"allowed_tools\"}}", "missing_required_parameter", "tool_choice.tools");
        yield return Field($"\"tools\":[{Tool}],\"tool_choice\":{{\"type\":\"allowed_tools\",\"allowed_tools\":{{\"mode\":\"some\",\"tools\":[]}}}}", "invalid_value", "tool_choice.allowed_tools.mode");
        yield return Field($"\"tools\":[{Tool}],\"tool_choice\":{{\"type\":\"allowed_tools\",\"allowed_tools\":{{\"mode\":\"required\",\"tools\":[]}}}}", "empty_array", "tool_choice.allowed_tools.tools");
        yield return Field($"\"tools\":[{Tool}],\"tool_choice\":{{\"type\":\"allowed_tools\",\"tools\":[5]}}", "invalid_type", "tool_choice.tools[0]");
        yield return Field($"\"tools\":[{Tool}],\"tool_choice\":{{\"type\":\"allowed_tools\",\"tools\":[{{\"name\":\"g\"}}]}}", "invalid_value", "tool_choice.tools[0].name");
        yield return Field("\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"strict\":\"yes\"}}]", "invalid_type", "tools[0].function.strict");
        yield return Field("\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"strict\":true,\"parameters\":{\"type\":\"object\",\"$ref\":\"#/x\"}}}]", "invalid_function_parameters", "tools[0].function.parameters");
    }

    private static IEnumerable<BadInput> Tools()
    {
        yield return Field("\"tools\":{}", "invalid_type", "tools");
        yield return Field("\"tools\":[5]", "invalid_type", "tools[0]");
        yield return Field("\"tools\":[{}]", "missing_required_parameter", "tools[0].type");
        yield return Field("\"tools\":[{\"type\":\"web_search\"}]", "invalid_value", "tools[0].type");
        yield return Field("\"tools\":[{\"type\":\"function\"}]", "missing_required_parameter", "tools[0].function");
        yield return Field("\"tools\":[{\"type\":\"function\",\"function\":5}]", "invalid_type", "tools[0].function");
        yield return Field("\"tools\":[{\"type\":\"function\",\"function\":{}}]", "missing_required_parameter", "tools[0].function.name");
        yield return Field("\"tools\":[{\"type\":\"function\",\"function\":{\"name\":5}}]", "invalid_type", "tools[0].function.name");
        yield return Field("\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"\"}}]", "invalid_value", "tools[0].function.name");
        yield return Field("\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"a b\"}}]", "invalid_value", "tools[0].function.name");
        yield return Field($"\"tools\":[{Tool},{{\"type\":\"function\",\"function\":{{\"name\":\"<|turn>\"}}}}]", "invalid_value", "tools[1].function.name");
        yield return Field($"\"tools\":[{{\"type\":\"function\",\"function\":{{\"name\":\"{new string('a', 65)}\"}}}}]", "invalid_value", "tools[0].function.name");
        yield return Field("\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":[]}}]", "invalid_function_parameters", "tools[0].function.parameters");
        yield return Field("\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\",\"properties\":[]}}}]", "invalid_function_parameters", "tools[0].function.parameters");
        yield return Field($"\"tools\":[{string.Join(',', Enumerable.Repeat(Tool, 513))}]", "array_above_max_length", "tools");
        yield return Field("\"tool_choice\":5", "invalid_type", "tool_choice");
        yield return Field("\"tool_choice\":\"maybe\"", "invalid_value", "tool_choice");
        yield return Field("\"tool_choice\":\"required\"", "invalid_value", "tool_choice");
        yield return Field("\"tool_choice\":{}", "missing_required_parameter", "tool_choice.type");
        yield return Field("\"tool_choice\":{\"type\":\"magic\"}", "invalid_value", "tool_choice.type");
        yield return Field("\"tool_choice\":{\"type\":\"function\"}", "missing_required_parameter", "tool_choice.function");
        yield return Field("\"tool_choice\":{\"type\":\"function\",\"function\":{}}", "missing_required_parameter", "tool_choice.function.name");
        yield return Field($"\"tools\":[{Tool}],\"tool_choice\":{{\"type\":\"function\",\"function\":{{\"name\":\"g\"}}}}", "invalid_value", "tool_choice.function.name");
        yield return Field("\"parallel_tool_calls\":\"no\"", "invalid_type", "parallel_tool_calls");
    }

    private static IEnumerable<BadInput> Completions()
    {
        yield return Text("\"max_tokens\":1", "missing_required_parameter", "prompt");
        yield return Text("\"prompt\":5", "invalid_type", "prompt");
        yield return Text("\"prompt\":{}", "invalid_type", "prompt");
        yield return Text("\"prompt\":[]", "empty_array", "prompt");
        yield return Text("\"prompt\":[[]]", "empty_array", "prompt[0]");
        yield return Text("\"prompt\":[true]", "invalid_type", "prompt[0]");
        yield return Text("\"prompt\":[1,\"a\"]", "invalid_type", "prompt[1]");
        yield return Text("\"prompt\":[\"a\",5]", "invalid_type", "prompt[1]");
        yield return Text("\"prompt\":[512]", "integer_above_max_value", "prompt[0]");
        yield return Text("\"prompt\":[[2,-1]]", "integer_below_min_value", "prompt[0][1]");
        yield return Text("\"prompt\":[[2,1.5]]", "invalid_type", "prompt[0][1]");
        yield return Text("\"prompt\":\"\",\"add_special_tokens\":false", "empty_string", "prompt");
        yield return Text("\"prompt\":\"a\",\"suffix\":\"b\"", "unsupported_parameter", "suffix");
        yield return Text("\"prompt\":\"a\",\"logprobs\":21", "integer_above_max_value", "logprobs");
        yield return Text("\"prompt\":\"a\",\"logprobs\":true", "invalid_type", "logprobs");
        yield return Text("\"prompt\":\"a\",\"max_tokens\":0", "integer_below_min_value", "max_tokens");
        yield return Text("\"prompt\":\"a\",\"echo\":\"x\"", "invalid_type", "echo");
        yield return Text("\"prompt\":\"a\",\"best_of\":2", "unsupported_parameter", "best_of");
        yield return Text("\"prompt\":\"a\",\"response_format\":{\"type\":\"yaml\"}", "invalid_value", "response_format.type");
        yield return Text("\"prompt\":\"a\",\"guided_choice\":[]", "empty_array", "guided_choice");
        yield return Text("\"prompt\":\"a\",\"truncate_prompt_tokens\":0", "integer_below_min_value", "truncate_prompt_tokens");
        yield return Text("\"prompt\":\"a\",\"truncate_prompt_tokens\":\"5\"", "invalid_type", "truncate_prompt_tokens");
        yield return Text("\"prompt\":\"a\",\"model\":\"nope\"", "model_not_found", "model", 404);
        yield return Text($"\"prompt\":\"{string.Concat(Enumerable.Repeat("too long ", 3000))}\"", "context_length_exceeded", "prompt");
        yield return Text($"\"prompt\":[{string.Join(',', Enumerable.Repeat("5", 4097))}]", "context_length_exceeded", "prompt");
        yield return Text($"\"prompt\":[{string.Join(',', Enumerable.Repeat("\"a\"", 2049))}]", "array_above_max_length", "prompt");
        yield return Text($"\"prompt\":[{string.Join(',', Enumerable.Repeat("\"a\"", 100))}],\"n\":100", "integer_above_max_value", "n");
    }

    private static IEnumerable<BadInput> Others()
    {
        yield return At("/tokenize", "{}", 400, "missing_required_parameter", "prompt");
        yield return At("/tokenize", "{\"prompt\":5}", 400, "invalid_type", "prompt");
        yield return At("/tokenize", "{\"content\":[]}", 400, "invalid_type", "content");
        yield return At("/tokenize", "{\"messages\":[]}", 400, "empty_array", "messages");
        yield return At("/tokenize", "{\"prompt\":\"a\",\"model\":\"nope\"}", 404, "model_not_found", "model");
        yield return At("/detokenize", "{}", 400, "missing_required_parameter", "tokens");
        yield return At("/detokenize", "{\"tokens\":\"a\"}", 400, "invalid_type", "tokens");
        yield return At("/detokenize", "{\"tokens\":[1,512]}", 400, "integer_above_max_value", "tokens[1]");
        yield return At("/detokenize", "{\"tokens\":[-1]}", 400, "integer_below_min_value", "tokens[0]");
        yield return At("/apply-template", "{}", 400, "missing_required_parameter", "messages");
        yield return At("/apply-template", "{\"messages\":[{\"role\":\"x\",\"content\":\"\"}]}", 400, "invalid_value", "messages[0].role");
        yield return At("/apply-template", $"{{{Messages},\"chat_template_fixes\":1}}", 400, "invalid_type", "chat_template_fixes");
        const string derender = "/v1/chat/completions/derender";
        yield return At(derender, "{}", 400, "missing_required_parameter", "text");
        yield return At(derender, "{\"text\":5}", 400, "invalid_type", "text");
        yield return At(derender, "{\"text\":\"a\",\"token_ids\":[1]}", 400, "invalid_value", "token_ids");
        yield return At(derender, "{\"token_ids\":[512]}", 400, "integer_above_max_value", "token_ids[0]");
        yield return At(derender, "{\"pieces\":[\"a\"]}", 400, "invalid_type", "pieces[0]");
        yield return At(derender, "{\"pieces\":[[\"a\",1]]}", 400, "invalid_type", "pieces[0]");
        yield return At(derender, "{\"text\":\"a\",\"prompt_state\":\"open\"}", 400, "invalid_value", "prompt_state");
        yield return At(derender, "{\"text\":\"a\",\"finish_reason\":\"eos\"}", 400, "invalid_value", "finish_reason");
        yield return At(derender, "{\"text\":\"a\",\"tools\":[{}]}", 400, "missing_required_parameter", "tools[0].type");
    }

    private static IEnumerable<BadInput> Routes()
    {
        yield return At("/v1/foo", "{}", 404, "unknown_url", null);
        yield return At("/", "{}", 405, "method_not_supported", null);
        yield return At("/v1/chat/completions/x", "{}", 404, "unknown_url", null);
        yield return At("/v1/models", "{}", 405, "method_not_supported", null);
        yield return At("/health", "{}", 405, "method_not_supported", null);
        yield return new("GET chat", ChatPath, [], 405, "method_not_supported", null, "", "GET");
        yield return new("DELETE chat", ChatPath, [], 405, "method_not_supported", null, "", "DELETE");
        yield return new("PUT completions", TextPath, [], 405, "method_not_supported", null, "", "PUT");
        yield return new("GET unknown", "/nothing/here", [], 404, "unknown_url", null, "", "GET");
        yield return new("GET unknown model", "/v1/models/gpt-4", [], 404, "model_not_found", "model", "", "GET");
        yield return new("GET dots", "/v1/../../etc/passwd", [], 404, "unknown_url", null, "", "GET");
    }
}
