using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace GemmaServer;

/// <summary>The bodies of the requests of <c>bench-serve</c>: made up of words, or from a file of prompts.</summary>
/// <param name="Model">Asked for by each.</param>
/// <param name="IsChat">Chat completions, otherwise completions.</param>
/// <param name="InputWords">Words of a made-up prompt; common English words are about a token each in most vocabularies.</param>
/// <param name="SharedWords">How many words at the start are the same in all requests.</param>
/// <param name="OutputTokens">Most tokens of an answer, unless a line of the file says otherwise.</param>
/// <param name="Lines">Prompts from a file, used in turn; empty makes them up.</param>
/// <param name="Seed">Another one makes up other prompts, so that a second run finds none of the first in a server's cache.</param>
internal sealed record ServePrompts(string Model, bool IsChat, int InputWords, int SharedWords, int OutputTokens, IReadOnlyList<JsonObject> Lines, int Seed = 0)
{
    private static readonly string[] s_words = (
        "time year people way day man thing woman life child world school state family student group country problem hand part place case week " +
        "company system program question work government number night point home water room mother area money story fact month lot right study " +
        "book eye job word business issue side kind head house service friend father power hour game line end member law car city name").Split(' ');

    /// <summary>Reads <c>{"prompt": "…"}</c> or <c>{"messages": […]}</c> a line, with an optional <c>"max_tokens"</c>.</summary>
    /// <exception cref="FormatException">A line is something else; the message says which.</exception>
    public static List<JsonObject> Read(string path)
    {
        List<JsonObject> lines = [];
        int number = 0;
        foreach (string line in File.ReadLines(path))
        {
            number++;
            if (string.IsNullOrWhiteSpace(line)) continue;
            JsonObject? read = null;
            try
            {
                read = JsonNode.Parse(line) as JsonObject;
            }
            catch (JsonException)
            {
                // Told below, as every other line that is no prompt.
            }
            bool isPrompt = read is not null && (read["messages"] is JsonArray || read["prompt"]?.GetValueKind() == JsonValueKind.String)
                && (read["max_tokens"] is null || (read["max_tokens"] is JsonValue value && value.TryGetValue(out int tokens) && tokens > 0));
            if (!isPrompt) throw new FormatException($"{path}, line {number}: expected an object with \"prompt\" (a text) or \"messages\" (a list), and \"max_tokens\" above 0 or none.");
            lines.Add(read!);
        }
        return lines.Count > 0 ? lines : throw new FormatException($"{path}: there is no prompt in it.");
    }

    /// <summary>The body of request number <paramref name="index"/>: the same for the same number.</summary>
    /// <param name="index">0 …; −1 is the request that warms up.</param>
    /// <param name="ignoreEos">Asks to go on to the full length, where the server knows how.</param>
    public byte[] Body(int index, bool ignoreEos)
    {
        JsonObject? line = Lines.Count > 0 ? Lines[Math.Max(0, index) % Lines.Count] : null;
        JsonObject body = new()
        {
            ["model"] = Model,
            ["stream"] = true,
            ["stream_options"] = new JsonObject { ["include_usage"] = true },
            ["max_tokens"] = line?["max_tokens"]?.GetValue<int>() ?? OutputTokens,
        };
        if (ignoreEos) body["ignore_eos"] = true;
        string text = line?["prompt"]?.GetValue<string>() ?? (line is null ? Words(index) : "");
        if (!IsChat) body["prompt"] = text;
        else body["messages"] = line?["messages"]?.DeepClone() ?? new JsonArray(new JsonObject { ["role"] = "user", ["content"] = text });
        return JsonSerializer.SerializeToUtf8Bytes(body);
    }

    private string Words(int index)
    {
        StringBuilder text = new();
        long number = 1_000_000L * Seed + index + 1;
        RandomBits shared = new(0), own = new((ulong)(number + 1) << 32);
        for (int i = 0; i < InputWords; i++)
        {
            if (i > 0) text.Append(' ');
            // The first own word is a number, so that no server can share more of the prompt than was asked for.
            if (i == SharedWords) text.Append(CultureInfo.InvariantCulture, $"{number}");
            else text.Append(s_words[(i < SharedWords ? shared : own).Below(s_words.Length)]);
        }
        return text.ToString();
    }
}
