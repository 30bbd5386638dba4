using System.Text;
using System.Text.Json;
using GemmaServer.Tests.Text;
using GemmaServer.Text;
using Xunit.Abstractions;

namespace GemmaServer.Tests.Http;

/// <summary>
/// The stored outputs over HTTP, spelled by tokens that begin and end anywhere, one to eight of them a step: whole or streamed, the
/// client gets what is stored.
/// </summary>
public class TokenBoundaryTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Stored_outputs_come_through_any_boundaries(int seed)
    {
        List<(JsonElement Item, string User, int[] Tokens)> cases = [];
        foreach (JsonElement item in ChatGolden.Cases("parse"))
        {
            // A prompt that leaves a thought open is made of a tool's result; the parser's own tests begin there.
            if (item.Str("level") == "may" || item.GetProperty("context").Str("prompt_state") != "content") continue;
            int[] spelled = Spell(item, new Random(1000 * seed + cases.Count));
            if (spelled.Length is > 0 and < 2000) cases.Add((item, $"case {cases.Count}", spelled));
        }
        await using TestHost host = await TestHost.StartAsync(guessingSeed: seed, script: runner =>
        {
            foreach ((_, string user, int[] tokens) in cases) runner.TokenAnswers[user] = tokens;
        });

        List<string> wrong = [];
        int all = 0;
        await Parallel.ForEachAsync(cases, new ParallelOptions { MaxDegreeOfParallelism = 8 }, async (c, _) =>
        {
            JsonElement context = c.Item.GetProperty("context");
            string more = $"\"chat_template_kwargs\":{{\"enable_thinking\":{(context.Flag("enable_thinking") ? "true" : "false")}}}"
                + (context.Str("stop") == "length" ? $",\"max_tokens\":{c.Tokens.Length}" : "");
            JsonElement choice = (await host.AskAsync("/v1/chat/completions", TestHost.Chat(c.User, more))).GetProperty("choices")[0];
            JsonElement message = choice.GetProperty("message");
            string whole = Shown(Text(message, "reasoning"), Text(message, "content"), choice.Str("finish_reason"),
                message.TryGetProperty("tool_calls", out JsonElement calls) ? [.. calls.EnumerateArray().Select(static t => Call(t.GetProperty("function")))] : []);
            string streamed = Fold(await host.StreamAsync("/v1/chat/completions", TestHost.Chat(c.User, more + ",\"stream\":true")));
            JsonElement expected = c.Item.GetProperty("expected");
            string should = Shown(expected.Str("reasoning"), expected.Str("content"), expected.Str("finish_reason"),
                [.. expected.GetProperty("tool_calls").EnumerateArray().Select(static t => t.Str("name") + ChatOutputParserTests.Canonical(t.Str("arguments_json")))]);
            Interlocked.Increment(ref all);
            // A call that the limit cut is left out of a whole answer; a stream has told its beginning already.
            bool isCut = c.Item.Get("incomplete_call").ValueKind == JsonValueKind.Object;
            if (whole == should && (streamed == should || isCut)) return;
            lock (wrong) wrong.Add($"{c.Item.Id()}\n  should {should}\n  whole  {whole}\n  stream {streamed}");
        });
        long guessed = host.Model.Engine.Metrics.AcceptedDrafts, tokens = 2 * cases.Sum(static c => c.Tokens.Length);
        output.WriteLine($"{all} outputs, {tokens} tokens, {guessed} of them guessed");
        Assert.True(wrong.Count == 0, $"{wrong.Count} of {all}:\n{string.Join('\n', wrong.Take(10))}");
        Assert.True(all > 150, $"only {all} outputs");
        Assert.True(guessed > tokens / 4, $"only {guessed} of {tokens} tokens were guessed");
    }

    /// <summary>Control tokens are themselves; text falls to pieces of one to six characters, each in tokens of its own.</summary>
    private static int[] Spell(JsonElement item, Random random)
    {
        List<(byte[] Piece, bool IsSpecial)> pieces = item.Get("tokens").ValueKind == JsonValueKind.Array
            ? [.. item.Get("tokens").EnumerateArray().Select(static t => (Encoding.UTF8.GetBytes(t[0].GetString()!), t[1].GetBoolean()))]
            : ChatGolden.Pieces([item.Str("raw")]);
        List<int> tokens = [];
        foreach ((byte[] piece, bool isSpecial) in pieces)
        {
            string text = Encoding.UTF8.GetString(piece);
            if (isSpecial)
            {
                tokens.AddRange(TestHost.Tokenizer.Encode(text, parseSpecial: true));
                continue;
            }
            Rune[] runes = [.. text.EnumerateRunes()];
            for (int at = 0; at < runes.Length;)
            {
                int length = Math.Min(random.Next(1, 7), runes.Length - at);
                tokens.AddRange(TestHost.Tokenizer.Encode(string.Concat(runes.Skip(at).Take(length)), parseSpecial: false));
                at += length;
            }
        }
        return [.. tokens];
    }

    private static string Fold(List<string> lines)
    {
        StringBuilder reasoning = new(), content = new();
        List<(string Name, StringBuilder Arguments)> calls = [];
        string finish = "";
        foreach (string line in lines.Where(static l => l != "[DONE]"))
        {
            JsonElement choice = TestHost.Json(line).GetProperty("choices")[0], delta = choice.GetProperty("delta");
            reasoning.Append(Text(delta, "reasoning"));
            content.Append(Text(delta, "content"));
            if (choice.GetProperty("finish_reason").GetString() is { } reason) finish = reason;
            if (!delta.TryGetProperty("tool_calls", out JsonElement parts)) continue;
            foreach (JsonElement part in parts.EnumerateArray())
            {
                JsonElement function = part.GetProperty("function");
                if (function.TryGetProperty("name", out JsonElement name)) calls.Add((name.GetString()!, new StringBuilder()));
                Assert.Equal(calls.Count - 1, part.GetProperty("index").GetInt32());
                calls[^1].Arguments.Append(Text(function, "arguments"));
            }
        }
        return Shown(reasoning.ToString(), content.ToString(), finish, [.. calls.Select(static c => c.Name + Canonical(c.Arguments.ToString()))]);
    }

    private static string Call(JsonElement function) => function.Str("name") + Canonical(function.Str("arguments"));

    /// <summary>As the parser's tests compare arguments; those that were cut stay as they are.</summary>
    private static string Canonical(string json)
    {
        try
        {
            return ChatOutputParserTests.Canonical(json);
        }
        catch (JsonException)
        {
            return json;
        }
    }

    private static string Text(JsonElement owner, string name) => owner.Get(name).ValueKind == JsonValueKind.String ? owner.Str(name) : "";

    private static string Shown(string reasoning, string content, string finish, IReadOnlyList<string> calls) =>
        JsonSerializer.Serialize(new { reasoning, content, finish, calls });
}
