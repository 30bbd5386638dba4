using System.Globalization;
using System.Net.Http.Json;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Xunit.Abstractions;

namespace GemmaServer.GoldenTests.Demo;

/// <summary>
/// The demo model against prompts that share no operand pair, name or phrasing with its training; the checks are described
/// in <c>tools/demo-model/README.md</c>.
/// </summary>
[Collection(DemoServerCollection.Name)]
public partial class HeldBackPromptsTests(DemoServer server, ITestOutputHelper output)
{
    [Fact]
    public async Task At_least_nine_in_ten_held_back_prompts_are_answered_rightly()
    {
        JsonElement[] cases = [.. JsonDocument.Parse(File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "heldback.json")))
            .RootElement.GetProperty("cases").EnumerateArray()];
        Assert.Equal(200, cases.Length);

        Dictionary<string, (int Right, int All)> byCategory = [];
        foreach (JsonElement item in cases)
        {
            JsonNode message = await AnswerAsync(item);
            string? wrong = Mistake(item.GetProperty("expect"), message);
            string category = item.GetProperty("category").GetString()!;
            (int right, int all) = byCategory.GetValueOrDefault(category);
            byCategory[category] = (right + (wrong is null ? 1 : 0), all + 1);
            if (wrong is not null) output.WriteLine($"{item.GetProperty("id")}: {wrong}\n  {message.ToJsonString()}");
        }
        foreach ((string category, (int right, int all)) in byCategory) output.WriteLine($"{category}: {right} of {all}");
        int total = byCategory.Values.Sum(c => c.Right);
        output.WriteLine($"together: {total} of {cases.Length}");
        Assert.True(total >= 0.9 * cases.Length, $"{total} of {cases.Length} right");
    }

    private async Task<JsonNode> AnswerAsync(JsonElement item)
    {
        JsonObject request = new()
        {
            ["messages"] = JsonNode.Parse(item.GetProperty("messages").GetRawText()),
            ["temperature"] = 0,
            ["max_tokens"] = 200,
            ["chat_template_kwargs"] = new JsonObject { ["enable_thinking"] = item.GetProperty("enable_thinking").GetBoolean() },
        };
        if (item.GetProperty("tools").ValueKind == JsonValueKind.Array) request["tools"] = JsonNode.Parse(item.GetProperty("tools").GetRawText());
        using HttpResponseMessage response = await server.Client.PostAsJsonAsync("/v1/chat/completions", request);
        string body = await response.Content.ReadAsStringAsync();
        Assert.True(response.IsSuccessStatusCode, body);
        return JsonNode.Parse(body)!["choices"]![0]!["message"]!;
    }

    /// <summary>What is wrong with an answer; null when every check holds.</summary>
    private static string? Mistake(JsonElement expect, JsonNode message)
    {
        string content = message["content"]?.GetValue<string>() ?? "";
        string reasoning = message["reasoning_content"]?.GetValue<string>() ?? "";
        JsonArray calls = message["tool_calls"]?.AsArray() ?? [];
        if (!expect.TryGetProperty("tool_calls", out JsonElement expectedCalls) && calls.Count > 0) return "a tool call nobody wanted";
        foreach (JsonProperty check in expect.EnumerateObject())
        {
            bool holds = check.Name switch
            {
                "contains" => check.Value.EnumerateArray().All(s => content.Contains(s.GetString()!, StringComparison.OrdinalIgnoreCase)),
                "equals_number" => Number().Matches(content).LastOrDefault() is { } m
                    && double.Parse(m.Value, CultureInfo.InvariantCulture) == check.Value.GetDouble(),
                "json" => TryParse(content.Trim(), out JsonNode? json) && JsonNode.DeepEquals(json, JsonNode.Parse(check.Value.GetRawText())),
                "tool_calls" => SameCalls(expectedCalls, calls),
                "thinking" => reasoning.Length > 0,
                "not_thinking" => reasoning.Length == 0,
                _ => throw new InvalidOperationException($"Unknown check '{check.Name}'."),
            };
            if (!holds) return $"{check.Name} {check.Value.GetRawText()}";
        }
        return null;
    }

    private static bool SameCalls(JsonElement expected, JsonArray calls)
    {
        string[] wanted = [.. expected.EnumerateArray()
            .Select(c => c.GetProperty("name").GetString() + Plain(JsonNode.Parse(c.GetProperty("arguments").GetRawText()))).Order()];
        string[] found = [.. calls
            .Select(c => c!["function"]!["name"]!.GetValue<string>() + Plain(JsonNode.Parse(c["function"]!["arguments"]!.GetValue<string>()))).Order()];
        return wanted.SequenceEqual(found);
    }

    /// <summary>Members in order, white space taken out of strings.</summary>
    private static string Plain(JsonNode? value) => value switch
    {
        JsonObject o => "{" + string.Join(",", o.OrderBy(m => m.Key, StringComparer.Ordinal).Select(m => $"{m.Key}:{Plain(m.Value)}")) + "}",
        JsonValue v when v.TryGetValue(out string? s) => string.Concat(s.Where(c => !char.IsWhiteSpace(c))),
        null => "null",
        _ => value.ToJsonString(),
    };

    private static bool TryParse(string text, out JsonNode? json)
    {
        try
        {
            json = JsonNode.Parse(text);
            return true;
        }
        catch (JsonException)
        {
            json = null;
            return false;
        }
    }

    [GeneratedRegex(@"-?\d+(\.\d+)?")]
    private static partial Regex Number();
}
