using System.Text;
using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer.Tests.Text;

/// <summary>Reads the stored chat cases. Enumerates what is there, so a clone with a subset runs the subset.</summary>
internal static class ChatGolden
{
    private static readonly string[] s_markers =
    [
        "<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", "<|tool_response>",
        "<tool_response|>", "<|\"|>", "<|think|>", "<|channel>", "<channel|>", "<|turn>", "<turn|>", "<|image>", "<|audio>",
        "<|image|>", "<|audio|>", "<image|>", "<audio|>", "<|video|>",
    ];

    public static IReadOnlyList<string> Markers => s_markers;

    /// <summary>All cases of a folder's files, or of one file; fails when there are none.</summary>
    public static List<JsonElement> Cases(string name)
    {
        string path = GoldenData.At("chat", name);
        string[] files = Directory.Exists(path) ? Directory.GetFiles(path, "*.json") : File.Exists(path) ? [path] : [];
        List<JsonElement> cases = [];
        foreach (string file in files.Order(StringComparer.Ordinal))
        {
            // Python wrote the files, and one shows the float 1e400 as it prints it.
            string json = File.ReadAllText(file).Replace(": Infinity", ": 1e400", StringComparison.Ordinal);
            using JsonDocument document = JsonDocument.Parse(json, new() { MaxDepth = 512 });
            foreach (JsonElement item in document.RootElement.EnumerateArray()) cases.Add(item.Clone());
        }
        Assert.NotEmpty(cases);
        return cases;
    }

    public static string Id(this JsonElement element) => element.GetProperty("id").GetString()!;

    public static string Str(this JsonElement element, string name) => element.GetProperty(name).GetString()!;

    public static JsonElement Get(this JsonElement element, string name) => element.TryGetProperty(name, out JsonElement value) ? value : default;

    public static bool Flag(this JsonElement element, string name, bool absent = false) => element.Get(name).ValueKind switch
    {
        JsonValueKind.Undefined => absent,
        JsonValueKind.True => true,
        JsonValueKind.Number => element.Get(name).GetDouble() != 0,
        JsonValueKind.String => element.Get(name).GetString()!.Length > 0,
        _ => false,
    };

    /// <summary>A case's conversation in template form, taken as it is: these cases go past the request reader.</summary>
    public static ChatPrompt Prompt(JsonElement item, bool templateFixes = false)
    {
        JsonElement options = item.GetProperty("options");
        return new()
        {
            Messages = [.. item.GetProperty("messages").EnumerateArray().Select(Message)],
            Tools = item.Get("tools").ValueKind == JsonValueKind.Array ? [.. item.Get("tools").EnumerateArray().Select(ChatValue.From)] : [],
            Flavour = item.Str("template") == "gemma4-large" ? TemplateFlavour.Large : TemplateFlavour.Small,
            AddGenerationPrompt = options.Flag("add_generation_prompt"),
            EnableThinking = options.Flag("enable_thinking"),
            PreserveThinking = options.Flag("preserve_thinking"),
            ContinueFinalMessage = options.Flag("continue_final_message"),
            TemplateFixes = templateFixes,
        };
    }

    private static ChatMessage Message(JsonElement message) => new()
    {
        Role = message.Str("role"),
        Content = message.Get("content").ValueKind == JsonValueKind.Undefined ? null : ChatValue.From(message.Get("content")),
        Reasoning = Text(message, "reasoning") is { Length: > 0 } reasoning ? reasoning : Text(message, "reasoning_content"),
        Name = Text(message, "name"),
        ToolCallId = Text(message, "tool_call_id"),
        ToolCalls = [.. Items(message, "tool_calls").Select(static call => new ChatToolCall(
            Text(call, "id"), call.Get("function").Str("name"), ChatValue.From(call.Get("function").Get("arguments"))))],
        ToolResponses = [.. Items(message, "tool_responses").Select(static r => new ChatToolResponse(Text(r, "name"), ChatValue.From(r.Get("response"))))],
    };

    private static string? Text(JsonElement owner, string name) =>
        owner.Get(name).ValueKind == JsonValueKind.String ? owner.Get(name).GetString() : null;

    private static IEnumerable<JsonElement> Items(JsonElement owner, string name) =>
        owner.Get(name).ValueKind == JsonValueKind.Array ? owner.Get(name).EnumerateArray() : [];

    /// <summary>Cuts text at markers. A chunk's end that may be the start of one waits for the next chunk, as text peers must do.</summary>
    public static List<(byte[] Piece, bool IsSpecial)> Pieces(IEnumerable<byte[]> chunks)
    {
        List<(byte[], bool)> pieces = [];
        byte[][] markers = [.. s_markers.Select(Encoding.UTF8.GetBytes)];
        byte[] rest = [];
        foreach (byte[] chunk in chunks)
        {
            rest = [.. rest, .. chunk];
            int start = 0;
            for (int i = 0; i < rest.Length; i++)
            {
                byte[]? marker = markers.FirstOrDefault(m => rest.AsSpan(i).StartsWith(m));
                bool mayBe = marker is null && markers.Any(m => m.AsSpan().StartsWith(rest.AsSpan(i)));
                if (marker is null && !mayBe) continue;
                if (i > start) pieces.Add((rest[start..i], false));
                start = i;
                if (mayBe) break;
                pieces.Add((marker!, true));
                start += marker!.Length;
                i = start - 1;
            }
            bool waits = start < rest.Length && markers.Any(m => m.AsSpan().StartsWith(rest.AsSpan(start)));
            if (!waits && start < rest.Length) pieces.Add((rest[start..], false));
            rest = waits ? rest[start..] : [];
        }
        if (rest.Length > 0) pieces.Add((rest, false));
        return pieces;
    }

    public static List<(byte[] Piece, bool IsSpecial)> Pieces(IEnumerable<string> chunks) => Pieces(chunks.Select(Encoding.UTF8.GetBytes));
}
