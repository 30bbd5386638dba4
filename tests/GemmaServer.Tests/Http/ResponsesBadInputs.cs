using System.Text;

namespace GemmaServer.Tests.Http;

/// <summary>Bad requests to <c>/v1/responses</c>, part of the one table.</summary>
internal static class ResponsesBadInputs
{
    private const string Path = "/v1/responses";
    private const string Call = "{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":\"{}\"}";
    private const string Result = "{\"type\":\"function_call_output\",\"call_id\":\"c\",\"output\":\"r\"}";

    public static IEnumerable<BadInput> All => [.. Fields(), .. Items(), .. Tools(), .. Routes()];

    private static BadInput At(string path, string body, int status, string? code, string? param, string method = "POST") =>
        new($"{method} {path} {body}", path, Encoding.UTF8.GetBytes(body), status, code, param, Method: method);

    /// <summary>A request that is right but for this member.</summary>
    private static BadInput Field(string member, string code, string param, int status = 400) => At(Path, $"{{\"input\":\"hi\",{member}}}", status, code, param);

    private static BadInput Item(string item, string? code, string param, int status = 400) =>
        At(Path, $"{{\"input\":[{{\"role\":\"user\",\"content\":\"hi\"}},{item}]}}", status, code, param);

    private static IEnumerable<BadInput> Fields()
    {
        yield return At(Path, "{}", 400, "missing_required_parameter", "input");
        yield return At(Path, "{\"input\":null}", 400, "missing_required_parameter", "input");
        yield return At(Path, "{\"input\":7}", 400, "invalid_type", "input");
        yield return At(Path, "{\"input\":{}}", 400, "invalid_type", "input");
        yield return At(Path, "{\"input\":[]}", 400, "empty_array", "input");
        yield return At(Path, "{\"input\":[\"hi\"]}", 400, "invalid_type", "input[0]");
        yield return At(Path, "[", 400, null, null);
        yield return Field("\"model\":\"gpt-4\"", "model_not_found", "model", 404);
        yield return Field("\"instructions\":7", "invalid_type", "instructions");
        yield return Field("\"previous_response_id\":7", "invalid_type", "previous_response_id");
        yield return Field("\"previous_response_id\":\"resp_none\"", "previous_response_not_found", "previous_response_id");
        yield return Field("\"temperature\":3", "decimal_above_max_value", "temperature");
        yield return Field("\"top_p\":-1", "decimal_below_min_value", "top_p");
        yield return Field("\"max_output_tokens\":0", "integer_below_min_value", "max_output_tokens");
        yield return Field("\"max_output_tokens\":1.5", "invalid_type", "max_output_tokens");
        yield return Field("\"max_tool_calls\":0", "integer_below_min_value", "max_tool_calls");
        yield return Field("\"top_logprobs\":21", "integer_above_max_value", "top_logprobs");
        yield return Field("\"min_tokens\":99999", "integer_above_max_value", "min_tokens");
        yield return Field("\"n\":2", "integer_above_max_value", "n");
        yield return Field("\"stream\":1", "invalid_type", "stream");
        yield return Field("\"store\":\"yes\"", "invalid_type", "store");
        yield return Field("\"stream_options\":{\"include_obfuscation\":true}", "invalid_value", "stream_options");
        yield return Field("\"include\":\"x\"", "invalid_type", "include");
        yield return Field("\"include\":[7]", "invalid_type", "include[0]");
        yield return Field("\"include\":[\"reasoning.encrypted_content\",\"x\"]", "invalid_value", "include[1]");
        yield return Field("\"truncation\":\"middle\"", "invalid_value", "truncation");
        yield return Field("\"reasoning\":\"low\"", "invalid_type", "reasoning");
        yield return Field("\"reasoning\":{\"effort\":\"extreme\"}", "invalid_value", "reasoning.effort");
        yield return Field("\"reasoning\":{\"effort\":7}", "invalid_type", "reasoning.effort");
        yield return Field("\"reasoning\":{\"summary\":\"long\"}", "invalid_value", "reasoning.summary");
        yield return Field("\"reasoning\":{\"summary\":7}", "invalid_type", "reasoning.summary");
        yield return Field("\"text\":\"json\"", "invalid_type", "text");
        yield return Field("\"text\":{\"verbosity\":\"huge\"}", "invalid_value", "text.verbosity");
        yield return Field("\"text\":{\"format\":7}", "invalid_type", "text.format");
        yield return Field("\"text\":{\"format\":{}}", "missing_required_parameter", "text.format.type");
        yield return Field("\"text\":{\"format\":{\"type\":\"xml\"}}", "invalid_value", "text.format.type");
        yield return Field("\"metadata\":{\"a\":1}", "invalid_type", "metadata.a");
        yield return Field("\"service_tier\":\"gold\"", "invalid_value", "service_tier");
        yield return Field("\"background\":true", "unsupported_value", "background");
        yield return Field("\"background\":\"yes\"", "invalid_type", "background");
        yield return Field("\"conversation\":\"conv_1\"", "unsupported_parameter", "conversation");
        yield return Field("\"prompt\":{\"id\":\"p\"}", "unsupported_parameter", "prompt");
        yield return Field("\"context_management\":[{\"type\":\"compaction\"}]", "unsupported_parameter", "context_management");
        yield return Field("\"messages\":[]", "unsupported_parameter", "messages");
        yield return Field("\"max_tokens\":5", "unsupported_parameter", "max_tokens");
        yield return Field("\"response_format\":{\"type\":\"text\"}", "unsupported_parameter", "response_format");
        yield return Field("\"reasoning_effort\":\"low\"", "unsupported_parameter", "reasoning_effort");
    }

    private static IEnumerable<BadInput> Items()
    {
        yield return Item("7", "invalid_type", "input[1]");
        yield return Item("{}", "missing_required_parameter", "input[1].type");
        yield return Item("{\"type\":7}", "invalid_type", "input[1].type");
        yield return Item("{\"type\":\"song\"}", "invalid_value", "input[1].type");
        yield return Item("{\"type\":\"web_search_call\",\"id\":\"ws_1\"}", "unsupported_value", "input[1].type");
        yield return Item("{\"type\":\"custom_tool_call\",\"call_id\":\"c\"}", "unsupported_value", "input[1].type");
        yield return Item("{\"type\":\"message\",\"content\":\"x\"}", "missing_required_parameter", "input[1].role");
        yield return Item("{\"role\":7,\"content\":\"x\"}", "invalid_type", "input[1].role");
        yield return Item("{\"role\":\"tool\",\"content\":\"x\"}", "invalid_value", "input[1].role");
        yield return Item("{\"role\":\"user\"}", "missing_required_parameter", "input[1].content");
        yield return Item("{\"role\":\"user\",\"content\":null}", "invalid_type", "input[1].content");
        yield return Item("{\"role\":\"user\",\"content\":[7]}", "invalid_type", "input[1].content[0]");
        yield return Item("{\"role\":\"user\",\"content\":[{\"text\":\"x\"}]}", "missing_required_parameter", "input[1].content[0].type");
        yield return Item("{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"x\"},{\"type\":\"picture\"}]}", "invalid_value", "input[1].content[1].type");
        yield return Item("{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"x\"},{\"type\":\"input_text\"}]}", "missing_required_parameter", "input[1].content[1].text");
        yield return Item("{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":null}]}", "invalid_type", "input[1].content[0].text");
        yield return Item("{\"role\":\"user\",\"content\":[{\"type\":\"input_image\",\"image_url\":\"data:,\"}]}", "unsupported_value", "input[1].content[0].type");
        yield return Item("{\"role\":\"user\",\"content\":[{\"type\":\"input_file\",\"file_id\":\"f\"}]}", "unsupported_value", "input[1].content[0].type");
        yield return Item("{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\"}]}", "unsupported_value", "input[1].content[0].type");
        yield return Item("{\"role\":\"user\",\"content\":[{\"type\":\"refusal\",\"refusal\":\"no\"}]}", "invalid_value", "input[1].content[0].type");
        yield return Item("{\"role\":\"assistant\",\"content\":[{\"type\":\"refusal\"}]}", "missing_required_parameter", "input[1].content[0].refusal");
        yield return Item("{\"type\":\"function_call\",\"name\":\"f\",\"arguments\":\"{}\"}", "missing_required_parameter", "input[1].call_id");
        yield return Item("{\"type\":\"function_call\",\"call_id\":\"c\",\"arguments\":\"{}\"}", "missing_required_parameter", "input[1].name");
        yield return Item("{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\"}", "missing_required_parameter", "input[1].arguments");
        yield return Item("{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":{}}", "invalid_type", "input[1].arguments");
        yield return Item(Call.Replace("{}", "[]") + "," + Result, "invalid_value", "input[1].arguments");
        yield return Item(Call.Replace("{}", "no JSON") + "," + Result, "invalid_value", "input[1].arguments");
        yield return Item(Call.Replace("\"f\"", "\"f {\"") + "," + Result, "invalid_value", "input[1].name");
        yield return Item($"{{\"role\":\"assistant\",\"content\":\"x\"}},{Call.Replace("{}", "[]")},{Result}", "invalid_value", "input[2].arguments");
        yield return Item(Call, null, "input");
        yield return Item(Result, null, "input");
        yield return Item($"{Call},{Result},{Result}", null, "input");
        yield return Item($"{Call},{Call},{Result}", "invalid_value", "input[2].call_id");
        yield return Item($"{Call},{{\"type\":\"function_call_output\",\"call_id\":\"c\"}}", "missing_required_parameter", "input[2].output");
        yield return Item($"{Call},{{\"type\":\"function_call_output\",\"call_id\":\"c\",\"output\":{{}}}}", "invalid_type", "input[2].output");
        yield return Item($"{Call},{{\"type\":\"function_call_output\",\"call_id\":\"c\",\"output\":[{{\"type\":\"input_image\"}}]}}", "unsupported_value", "input[2].output[0].type");
        yield return Item("{\"type\":\"reasoning\",\"summary\":\"x\"}", "invalid_type", "input[1].summary");
        yield return Item("{\"type\":\"reasoning\",\"summary\":[],\"content\":[{\"type\":\"output_text\",\"text\":\"x\"}]}", "invalid_value", "input[1].content[0].type");
        yield return Item("{\"type\":\"reasoning\",\"summary\":[],\"content\":[{\"type\":\"reasoning_text\"}]}", "missing_required_parameter", "input[1].content[0].text");
        yield return Item("{\"type\":\"reasoning\",\"summary\":[],\"encrypted_content\":7}", "invalid_type", "input[1].encrypted_content");
        yield return Item("{\"type\":\"reasoning\",\"summary\":[],\"encrypted_content\":\"gAAAA\"}", "invalid_encrypted_content", "input[1].encrypted_content");
        yield return Item("{\"type\":\"item_reference\"}", "missing_required_parameter", "input[1].id");
        yield return Item("{\"type\":\"item_reference\",\"id\":\"msg_none\"}", null, "input", 404);
    }

    private static IEnumerable<BadInput> Tools()
    {
        yield return Field("\"tools\":{}", "invalid_type", "tools");
        yield return Field("\"tools\":[7]", "invalid_type", "tools[0]");
        yield return Field("\"tools\":[{\"name\":\"f\"}]", "missing_required_parameter", "tools[0].type");
        yield return Field("\"tools\":[{\"type\":\"function\",\"name\":\"f\"},{\"type\":\"function\"}]", "missing_required_parameter", "tools[1].name");
        yield return Field("\"tools\":[{\"type\":\"function\",\"name\":7}]", "invalid_type", "tools[0].name");
        yield return Field("\"tools\":[{\"type\":\"function\",\"name\":\"bad name\"}]", "invalid_value", "tools[0].name");
        yield return Field("\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]", "missing_required_parameter", "tools[0].name");
        yield return Field("\"tools\":[{\"type\":\"function\",\"name\":\"f\",\"parameters\":[]}]", "invalid_function_parameters", "tools[0].parameters");
        foreach (string hosted in (string[])["web_search", "web_search_preview", "file_search", "code_interpreter", "mcp", "image_generation", "computer_use_preview", "local_shell", "custom"])
            yield return Field($"\"tools\":[{{\"type\":\"{hosted}\"}}]", "unsupported_value", "tools[0].type");
        yield return Field("\"tools\":[{\"type\":\"hammer\"}]", "invalid_value", "tools[0].type");
        yield return Field("\"tool_choice\":7", "invalid_type", "tool_choice");
        yield return Field("\"tool_choice\":\"perhaps\"", "invalid_value", "tool_choice");
        yield return Field("\"tool_choice\":{}", "missing_required_parameter", "tool_choice.type");
        yield return Field("\"tool_choice\":{\"type\":\"function\"}", "missing_required_parameter", "tool_choice.name");
        yield return Field("\"tool_choice\":{\"type\":\"file_search\"}", "unsupported_value", "tool_choice.type");
        yield return Field("\"tool_choice\":{\"type\":\"hammer\"}", "invalid_value", "tool_choice.type");
        yield return Field("\"tool_choice\":{\"type\":\"function\",\"name\":\"absent\"},\"tools\":[{\"type\":\"function\",\"name\":\"f\"}]", "invalid_value", "tool_choice.name");
        yield return Field("\"tool_choice\":{\"type\":\"allowed_tools\",\"mode\":\"auto\"},\"tools\":[{\"type\":\"function\",\"name\":\"f\"}]", "missing_required_parameter", "tool_choice.tools");
    }

    private static IEnumerable<BadInput> Routes()
    {
        yield return At($"{Path}/resp_none", "", 404, null, null, "GET");
        yield return At($"{Path}/resp_none", "", 404, null, null, "DELETE");
        yield return At($"{Path}/resp_none/input_items", "", 404, null, null, "GET");
        yield return At($"{Path}/resp_none/cancel", "{}", 404, null, null);
        yield return At(Path, "", 405, "method_not_supported", null, "GET");
        yield return At($"{Path}/compact", "{}", 405, "method_not_supported", null);
        yield return At($"{Path}/input_tokens", "{}", 400, "missing_required_parameter", "input");
        yield return At($"{Path}/input_tokens", "{\"input\":\"hi\",\"model\":\"gpt-4\"}", 404, "model_not_found", "model");
        yield return At($"{Path}/input_tokens", "{\"input\":\"hi\",\"tools\":[{\"type\":\"mcp\"}]}", 400, "unsupported_value", "tools[0].type");
    }
}
