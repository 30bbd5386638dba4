using System.Text.Json;
using System.Text.Json.Nodes;
using GemmaServer.Tests.Text;
using GemmaServer.Text;

namespace GemmaServer.Tests.Http;

/// <summary>The stored prompts through <c>/apply-template</c>, with the template's own input and no fixes.</summary>
public class TemplateInputTests
{
    /// <summary>Where a client's reading of a field wins over the template's.</summary>
    private static readonly string[] s_readAsOpenAi =
    [
        "roles/unknown_role", "injection/role_injection",                       // roles come from a fixed list
        "roles/developer_mid", "roles/system_then_developer",                   // a later developer speaks as system
        "multimodal/video_url_ignored",                                         // video_url is a video
        "multimodal/unknown_part", "tool_results/parts_unknown", "tool_results/parts_image_url_audio_video",    // part types come from a list
        "tool_calls/args_json_string_error", "tool_calls/args_json_string_empty_error",   // arguments are JSON text
        "tool_results/legacy_tool_responses_only",                              // a field that OpenAI has not
    ];

    [Fact]
    public async Task Every_stored_prompt_comes_out_byte_for_byte()
    {
        await using TestHost small = await TestHost.StartAsync(flavour: TemplateFlavour.Small);
        await using TestHost large = await TestHost.StartAsync(flavour: TemplateFlavour.Large);
        List<string> wrong = [];
        int count = 0;
        foreach (JsonElement item in ChatGolden.Cases("render"))
        {
            if (item.Str("template") is not ("gemma4-small" or "gemma4-large") || s_readAsOpenAi.Any(item.Id().StartsWith)) continue;
            count++;
            using HttpResponseMessage response = await (item.Str("template") == "gemma4-small" ? small : large).PostAsync("/apply-template", Request(item));
            string body = await response.Content.ReadAsStringAsync();
            bool isRight = item.Get("rendered").ValueKind == JsonValueKind.String
                ? response.IsSuccessStatusCode && TestHost.Json(body).Str("prompt") == item.Str("rendered")
                : (int)response.StatusCode == 400;
            if (!isRight) wrong.Add($"{item.Id()}: {(int)response.StatusCode} {body}");
        }
        Assert.True(wrong.Count == 0, $"{wrong.Count} of {count}:\n{string.Join('\n', wrong)}");
        Assert.True(count > 100, $"{count} cases");
    }

    private static string Request(JsonElement item)
    {
        JsonElement options = item.GetProperty("options");
        JsonObject kwargs = [];
        foreach (string name in new[] { "enable_thinking", "preserve_thinking" })
            if (options.TryGetProperty(name, out JsonElement value)) kwargs[name] = JsonNode.Parse(value.GetRawText());
        JsonObject request = new()
        {
            ["messages"] = JsonNode.Parse(item.GetProperty("messages").GetRawText()),
            ["tools"] = item.Get("tools").ValueKind == JsonValueKind.Array ? JsonNode.Parse(item.GetProperty("tools").GetRawText()) : null,
            ["add_generation_prompt"] = options.TryGetProperty("add_generation_prompt", out JsonElement add) && add.GetBoolean(),
            ["continue_final_message"] = options.TryGetProperty("continue_final_message", out JsonElement go) && go.GetBoolean(),
            ["chat_template_fixes"] = false,
            ["chat_template_kwargs"] = kwargs,
        };
        return request.ToJsonString();
    }
}
