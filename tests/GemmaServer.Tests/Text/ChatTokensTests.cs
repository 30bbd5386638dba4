using System.Text;
using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer.Tests.Text;

/// <summary>Prompts and outputs through real vocabularies.</summary>
public class ChatTokensTests
{
    [Fact]
    public void A_benign_prompt_gives_the_ids_of_its_whole_text()
    {
        foreach ((string source, Tokenizer tokenizer) in GoldenVocabulary.All.SelectMany(static v => v.Both))
        {
            int count = 0;
            foreach (JsonElement item in ChatGolden.Cases("render_segments.json"))
            {
                if (item.GetProperty("plain_text_markers").GetInt32() > 0) continue;
                RenderedPrompt prompt = ChatRenderer.Render(ChatGolden.Prompt(item));
                int[] ids = prompt.Tokenize(tokenizer);
                Assert.True(tokenizer.Encode(prompt.Text, parseSpecial: true).AsSpan().SequenceEqual(ids), $"{source} {item.Id()}");
                Assert.Equal(tokenizer.Special.Bos, ids[0]);
                Assert.Single(ids, tokenizer.Special.Bos);
                count++;
            }
            Assert.True(count > 0);
        }
    }

    [Fact]
    public void No_text_of_a_user_becomes_a_control_token()
    {
        foreach ((string source, Tokenizer tokenizer) in GoldenVocabulary.All.SelectMany(static v => v.Both))
        {
            int attacks = 0;
            foreach (JsonElement item in ChatGolden.Cases("render_segments.json"))
            {
                RenderedPrompt prompt = ChatRenderer.Render(ChatGolden.Prompt(item));
                int[] ids = prompt.Tokenize(tokenizer);
                IEnumerable<string> controls = ids.Where(tokenizer.IsSpecial).Select(tokenizer.Piece);
                Assert.True(prompt.Segments.Where(static s => s.IsControl).Select(static s => s.Text).SequenceEqual(controls), $"{source} {item.Id()}");
                Assert.Equal(prompt.Text, tokenizer.Decode(ids, skipSpecial: false));
                if (item.GetProperty("plain_text_markers").GetInt32() > 0) attacks++;
            }
            if (GoldenData.IsFull) Assert.True(attacks > 0);
        }
    }

    [Fact]
    public void Outputs_in_token_ids_parse_as_their_pieces_do()
    {
        foreach ((string source, Tokenizer tokenizer) in GoldenVocabulary.All.SelectMany(static v => v.Both))
        {
            foreach (JsonElement item in ChatGolden.Cases("parse"))
            {
                JsonElement context = item.GetProperty("context");
                PromptState start = context.Str("prompt_state") == "thought_open" ? PromptState.ThoughtOpen : PromptState.Content;
                bool thinking = context.Flag("enable_thinking"), isLength = context.Str("stop") == "length";
                List<(byte[] Piece, bool IsSpecial)> pieces = item.Get("tokens").ValueKind == JsonValueKind.Array
                    ? [.. item.Get("tokens").EnumerateArray().Select(static t => (Encoding.UTF8.GetBytes(t[0].GetString()!), t[1].GetBoolean()))]
                    : ChatGolden.Pieces([item.Str("raw")]);

                OutputParser parser = new(tokenizer, start, thinking);
                List<OutputEvent> events = [];
                foreach ((byte[] piece, bool isSpecial) in pieces)
                {
                    string text = Encoding.UTF8.GetString(piece);
                    int[] ids = isSpecial ? [tokenizer.TokenId(text)!.Value] : tokenizer.Encode(text, parseSpecial: false);
                    foreach (int id in ids) parser.Push(id, events);
                }
                parser.Finish(isLength, events);
                string expected = ChatOutputParserTests.Run(pieces, start, thinking, isLength).Merged();
                Assert.True(expected == new ChatOutputParserTests.Parsed(parser, events).Merged(), $"{source} {item.Id()}");
            }
        }
    }

    [Fact]
    public void Random_token_ids_of_the_whole_vocabulary_never_leak_a_control_token()
    {
        foreach ((string source, Tokenizer tokenizer) in GoldenVocabulary.All.SelectMany(static v => v.Both))
        {
            int[] controls = [.. Enumerable.Range(0, tokenizer.VocabularySize).Where(tokenizer.IsSpecial)];
            int[] call = tokenizer.Encode("call:f{a:", parseSpecial: false);
            for (int seed = 0; seed < 2_000; seed++)
            {
                Random random = new(seed);
                OutputParser parser = new(tokenizer, (PromptState)random.Next(2), random.Next(2) == 0);
                List<OutputEvent> events = [];
                for (int i = random.Next(60); i > 0; i--)
                {
                    int kind = random.Next(6);
                    if (kind == 0) parser.Push(controls[random.Next(controls.Length)], events);
                    else if (kind == 1 && random.Next(3) == 0) foreach (int id in (int[])[tokenizer.Special.ToolCallStart, .. call]) parser.Push(id, events);
                    else parser.Push(random.Next(-1, tokenizer.VocabularySize + 1), events);
                }
                parser.Finish(random.Next(2) == 0, events);
                ChatOutputParserTests.AssertInvariants(new(parser, events), $"{source} seed {seed}");
                foreach (OutputEvent e in events)
                    Assert.DoesNotContain(ChatGolden.Markers, marker => e.Text.Contains(marker, StringComparison.Ordinal));
            }
        }
    }
}
