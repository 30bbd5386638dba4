using System.Text;
using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer.Tests;

public class TokenizerTests
{
    private static readonly string[] s_controls =
    [
        "<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", "<|tool_response>",
        "<tool_response|>", "<|\"|>", "<|think|>", "<|channel>", "<channel|>", "<|turn>", "<turn|>", "<|image>", "<|audio>",
        "<|image|>", "<|audio|>", "<image|>", "<audio|>", "<|video|>",
    ];

    [Fact]
    public void Every_golden_text_gets_the_ids_of_the_reference()
    {
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
        {
            int seen = 0;
            foreach (JsonElement test in vocabulary.Golden.GetProperty("encode").EnumerateArray())
            {
                if (!test.TryGetProperty("hf", out JsonElement hf)) continue;   // not valid UTF-8
                string text = Utf8(test.GetProperty("b64"));
                foreach ((string source, Tokenizer tokenizer) in vocabulary.Both)
                    AssertIds(GoldenVocabulary.Ids(hf), tokenizer.Encode(text, parseSpecial: true), source, text);
                seen++;
            }
            Assert.True(seen > 200, $"{vocabulary.Name}: {seen} texts");
        }
    }

    [Fact]
    public void Golden_texts_without_special_parsing_get_the_reference_ids_but_never_a_control_token()
    {
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
        {
            int equal = 0, kept = 0;
            foreach (JsonElement test in vocabulary.Golden.GetProperty("encode").EnumerateArray())
            {
                if (!test.TryGetProperty("hf", out _)) continue;
                string text = Utf8(test.GetProperty("b64"));
                int[] reference = GoldenVocabulary.Ids(test.GetProperty("llama_plain"));
                foreach ((string source, Tokenizer tokenizer) in vocabulary.Both)
                {
                    int[] ids = tokenizer.Encode(text, parseSpecial: false);
                    Assert.DoesNotContain(ids, tokenizer.IsSpecial);
                    // llama.cpp lets through the seven control tokens that GGUF files type as user-defined; this does not.
                    if (reference.Any(tokenizer.IsSpecial)) { Assert.Equal(text, tokenizer.Decode(ids, skipSpecial: true)); kept++; }
                    else { AssertIds(reference, ids, source, text); equal++; }
                }
            }
            Assert.True(equal > 400 && kept is > 0 and < 20, $"{vocabulary.Name}: {equal} equal, {kept} kept as text");
        }
    }

    [Fact]
    public void Broken_utf8_read_as_one_replacement_per_byte_gets_the_reference_ids()
    {
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
        {
            int seen = 0;
            foreach (JsonElement test in vocabulary.Golden.GetProperty("encode").EnumerateArray())
            {
                if (test.TryGetProperty("hf", out _)) continue;
                byte[] bytes = test.GetProperty("b64").GetBytesFromBase64();
                // llama.cpp takes these two malformed forms at face value (encoded surrogate, overlong), and null is its own abort.
                if (bytes is [0xED, ..] or [0xC0, ..] || test.GetProperty("llama_special").ValueKind == JsonValueKind.Null) continue;
                foreach ((string source, Tokenizer tokenizer) in vocabulary.Both)
                    AssertIds(GoldenVocabulary.Ids(test.GetProperty("llama_special")), tokenizer.Encode(PerByte(bytes), parseSpecial: true), source, "bytes");
                seen++;
            }
            Assert.True(seen >= 10, $"{vocabulary.Name}: {seen} texts");
        }
    }

    [Fact]
    public void Every_golden_id_list_decodes_to_the_text_of_the_reference()
    {
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
        {
            Assert.True(vocabulary.Golden.GetProperty("decode").GetArrayLength() > 50);
            foreach (JsonElement test in vocabulary.Golden.GetProperty("decode").EnumerateArray())
            {
                int[] ids = GoldenVocabulary.Ids(test.GetProperty("ids"));
                foreach ((string source, Tokenizer tokenizer) in vocabulary.Both)
                {
                    string where = $"{source}: {GoldenVocabulary.Ids(ids)}";
                    Assert.True(test.GetProperty("hf_keep_special").GetString() == tokenizer.Decode(ids, skipSpecial: false), where);
                    Assert.True(test.GetProperty("hf_skip_special").GetString() == tokenizer.Decode(ids, skipSpecial: true), where);
                    byte[] bytes = [.. ids.SelectMany(id => tokenizer.TokenBytes(id).ToArray())];
                    Assert.True(test.GetProperty("llama_b64").GetBytesFromBase64().SequenceEqual(bytes), where);
                }
            }
        }
    }

    [Fact]
    public void Token_bytes_equal_the_reference_for_every_id()
    {
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
        {
            JsonElement.ArrayEnumerator pieces = vocabulary.Golden.GetProperty("pieces_special_b64").EnumerateArray();
            foreach ((string source, Tokenizer tokenizer) in vocabulary.Both)
            {
                Assert.Equal(vocabulary.Golden.GetProperty("vocab_size").GetInt32(), tokenizer.VocabularySize);
                int id = 0;
                foreach (JsonElement piece in pieces)
                {
                    Assert.True(piece.GetBytesFromBase64().SequenceEqual(tokenizer.TokenBytes(id).ToArray()), $"{source}: id {id}");
                    Assert.Equal(id, tokenizer.TokenId(tokenizer.Piece(id)));
                    id++;
                }
            }
        }
    }

    [Fact]
    public void Control_tokens_are_known_by_text_whatever_type_the_file_gives_them()
    {
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
        {
            // As in published files: <eos> normal, some control tokens user-defined; and the worst case, no types at all.
            GgufVocabulary typed = vocabulary.Gguf with { TokenTypes = [.. vocabulary.Gguf.TokenTypes!.Select((type, id) => id == 1 ? 1 : type)] };
            foreach (Tokenizer tokenizer in new[] { vocabulary.FromJson, vocabulary.FromGguf, Tokenizer.FromGguf(typed), Tokenizer.FromGguf(typed with { TokenTypes = null }) })
            {
                string[] special = [.. Enumerable.Range(0, tokenizer.VocabularySize).Where(tokenizer.IsSpecial).Select(tokenizer.Piece)];
                Assert.Equal(s_controls.Order(StringComparer.Ordinal), special.Order(StringComparer.Ordinal));
                foreach (string control in s_controls)
                    Assert.Equal([tokenizer.TokenId(control)!.Value], tokenizer.Encode(control, parseSpecial: true));
            }
        }
    }

    [Fact]
    public void Roles_are_found_and_the_end_tokens_are_those_of_the_reference_and_the_turn_start()
    {
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
            foreach ((_, Tokenizer tokenizer) in vocabulary.Both)
            {
                SpecialTokens special = tokenizer.Special;
                int[] roles =
                [
                    special.Pad, special.Eos, special.Bos, special.Unk, special.Mask, special.ToolStart, special.ToolEnd, special.ToolCallStart,
                    special.ToolCallEnd, special.ToolResponseStart, special.ToolResponseEnd, special.Quote, special.Think, special.ChannelStart,
                    special.ChannelEnd, special.TurnStart, special.TurnEnd, special.ImageStart, special.AudioStart, special.ImagePlaceholder,
                    special.AudioPlaceholder, special.ImageEnd, special.AudioEnd, special.VideoPlaceholder,
                ];
                string[] texts =
                [
                    "<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", "<|tool_response>",
                    "<tool_response|>", "<|\"|>", "<|think|>", "<|channel>", "<channel|>", "<|turn>", "<turn|>", "<|image>", "<|audio>", "<|image|>",
                    "<|audio|>", "<image|>", "<audio|>", "<|video|>",
                ];
                Assert.Equal(texts, roles.Select(tokenizer.Piece));
                int[] ends = [.. GoldenVocabulary.Ids(vocabulary.Golden.GetProperty("eog")), special.TurnStart];
                Assert.Equal(ends.Order(), special.EndOfGeneration.Order());
            }
    }

    [Fact]
    public void An_html_closing_tag_that_a_file_declares_as_control_and_end_stays_text()
    {
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
        {
            string[] tokens = [.. vocabulary.Gguf.Tokens, "</s>"];
            Tokenizer tokenizer = Tokenizer.FromGguf(vocabulary.Gguf with { Tokens = tokens, TokenTypes = [.. vocabulary.Gguf.TokenTypes!, 3], Eos = tokens.Length - 1 });
            Assert.False(tokenizer.IsSpecial(tokens.Length - 1));
            Assert.DoesNotContain(tokens.Length - 1, tokenizer.Special.EndOfGeneration);
            Assert.Equal("a</s>", tokenizer.Decode(tokenizer.Encode("a</s>", parseSpecial: false), skipSpecial: true));
        }
    }

    [Fact]
    public void A_missing_control_token_has_no_role_and_its_text_stays_text()
    {
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
        {
            Tokenizer tokenizer = Tokenizer.FromGguf(vocabulary.Gguf with
            {
                Tokens = [.. vocabulary.Gguf.Tokens.Select(t => t == "<|think|>" ? "<unused9>" : t)],
            });
            Assert.Equal(-1, tokenizer.Special.Think);
            Assert.Null(tokenizer.TokenId("<|think|>"));
            Assert.Equal("<|think|>", tokenizer.Decode(tokenizer.Encode("<|think|>", parseSpecial: true), skipSpecial: true));
        }
    }

    [Fact]
    public void User_text_that_spells_control_tokens_yields_none_and_comes_back_whole()
    {
        Random random = new(11);
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
            foreach ((_, Tokenizer tokenizer) in vocabulary.Both)
                for (int round = 0; round < 300; round++)
                {
                    StringBuilder attack = new();
                    for (int i = 0; i < 12; i++)
                        attack.Append(random.Next(5) switch { 0 => "<", 1 => "|>", 2 => "<unused0>", _ => s_controls[random.Next(s_controls.Length)] });
                    int[] ids = tokenizer.Encode(attack.ToString(), parseSpecial: false);
                    Assert.DoesNotContain(ids, tokenizer.IsSpecial);
                    Assert.Equal(attack.ToString(), tokenizer.Decode(ids, skipSpecial: true));
                }
    }

    [Fact]
    public void A_merge_that_would_make_a_control_token_is_not_used()
    {
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
        {
            // "<eos>" from single letters, by merges a hostile or careless file might bring.
            string[] made = ["<e", "<eo", "<eos"];
            string[] tokens = [.. vocabulary.Gguf.Tokens, .. made.Except(vocabulary.Gguf.Tokens)];
            Tokenizer tokenizer = Tokenizer.FromGguf(vocabulary.Gguf with
            {
                Tokens = tokens, TokenTypes = null, Merges = ["< e", "<e o", "<eo s", "<eos >", .. vocabulary.Gguf.Merges],
            });
            int[] ids = tokenizer.Encode("<eos>", parseSpecial: false);
            Assert.Equal(["<eos", ">"], ids.Select(tokenizer.Piece));
            Assert.Equal([1], tokenizer.Encode("<eos>", parseSpecial: true));
        }
    }

    [Fact]
    public void Merging_equals_the_plain_definition_on_random_texts()
    {
        Random random = new(5);
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
        {
            NaiveEncoder naive = new(vocabulary.Gguf);
            for (int round = 0; round < 400; round++)
            {
                string text = round % 2 == 0 ? RandomText(random, random.Next(1, 80)) : RandomWords(vocabulary, random);
                foreach ((string source, Tokenizer tokenizer) in vocabulary.Both)
                    AssertIds(naive.Encode(text), tokenizer.Encode(text, parseSpecial: false), source, text);
            }
        }
    }

    [Fact]
    public void Random_unicode_comes_back_as_it_went_in()
    {
        Random random = new(3);
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
            foreach ((_, Tokenizer tokenizer) in vocabulary.Both)
                for (int round = 0; round < 300; round++)
                {
                    string text = RandomText(random, random.Next(0, 200));
                    int[] ids = tokenizer.Encode(text, parseSpecial: false);
                    Assert.Equal(text.Replace('▁', ' '), tokenizer.Decode(ids, skipSpecial: false));
                }
    }

    [Fact]
    public void A_lone_surrogate_counts_as_the_replacement_character()
    {
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
            foreach ((_, Tokenizer tokenizer) in vocabulary.Both)
                foreach (string text in (string[])["a\uD83Db", "\uDE00", "x\uD83D", "\uDE00\uD83D\uDE00"])
                {
                    string well = Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(text));
                    Assert.NotEqual(text, well);
                    Assert.Equal(tokenizer.Encode(well, parseSpecial: true), tokenizer.Encode(text, parseSpecial: true));
                }
    }

    [Theory]
    [InlineData("a")]
    [InlineData(" ")]
    [InlineData("\n")]
    [InlineData("<")]
    [InlineData("<|turn")]
    [InlineData("the quick brown fox, ")]
    [InlineData("😀")]
    public void A_line_of_a_megabyte_is_encoded_whole(string unit)
    {
        string text = string.Concat(Enumerable.Repeat(unit, (1 << 20) / unit.Length));
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
            Assert.Equal(text, vocabulary.FromJson.Decode(vocabulary.FromJson.Encode(text, parseSpecial: true), skipSpecial: false));
    }

    [Fact]
    public void Encoding_appends_and_adds_no_bos()
    {
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
        {
            List<int> ids = [7];
            vocabulary.FromJson.Encode("", parseSpecial: true, ids);
            Assert.Equal([7], ids);
            vocabulary.FromJson.Encode("a", parseSpecial: true, ids);
            Assert.Equal(2, ids.Count);
            Assert.DoesNotContain(vocabulary.FromJson.Special.Bos, ids);
        }
    }

    [Fact]
    public void Ids_beyond_the_vocabulary_stand_for_no_text()
    {
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
            foreach (int id in (int[])[-1, vocabulary.FromJson.VocabularySize, int.MaxValue])
            {
                Tokenizer tokenizer = vocabulary.FromJson;
                Assert.Equal("", tokenizer.Decode([id], skipSpecial: false));
                Assert.Equal(0, tokenizer.TokenBytes(id).Length);
                Assert.False(tokenizer.IsSpecial(id));
                Assert.Throws<ArgumentOutOfRangeException>(() => tokenizer.Piece(id));
            }
    }

    internal static string RandomText(Random random, int length)
    {
        StringBuilder text = new();
        while (text.Length < length)
        {
            int value = random.Next(6) switch
            {
                0 => random.Next(0x20, 0x7F), 1 => random.Next(0, 0x800), 2 => random.Next(0x1F300, 0x1FA00), 3 => '\n', 4 => ' ',
                _ => random.Next(0, 0x110000),
            };
            if (Rune.IsValid(value)) text.Append(new Rune(value).ToString());
        }
        return text.ToString();
    }

    // Ordinary pieces put together, so that merges overlap in many ways.
    private static string RandomWords(GoldenVocabulary vocabulary, Random random)
    {
        StringBuilder text = new();
        for (int i = 0; i < 12; i++)
        {
            string piece = vocabulary.Gguf.Tokens[random.Next(vocabulary.Gguf.Tokens.Length)];
            if (!piece.StartsWith('<')) text.Append(piece.Replace('▁', ' '));
        }
        return text.ToString();
    }

    private static string PerByte(byte[] bytes)
    {
        StringBuilder text = new();
        for (ReadOnlySpan<byte> rest = bytes; !rest.IsEmpty;)
        {
            if (Rune.DecodeFromUtf8(rest, out Rune rune, out int read) == System.Buffers.OperationStatus.Done) text.Append(rune.ToString());
            else text.Append('\uFFFD', read);
            rest = rest[read..];
        }
        return text.ToString();
    }

    private static string Utf8(JsonElement base64) => Encoding.UTF8.GetString(base64.GetBytesFromBase64());

    private static void AssertIds(int[] expected, int[] actual, string source, string text) =>
        Assert.True(expected.SequenceEqual(actual), $"{source}, '{text}': expected {GoldenVocabulary.Ids(expected)}, got {GoldenVocabulary.Ids(actual)}");

    /// <summary>Byte-pair encoding as it is defined: again and again the best pair, the leftmost of equals.</summary>
    private sealed class NaiveEncoder
    {
        private readonly Dictionary<string, int> _ids;
        private readonly Dictionary<(string, string), int> _ranks = [];

        public NaiveEncoder(GgufVocabulary vocabulary)
        {
            _ids = vocabulary.Tokens.Select((piece, id) => (piece, id)).ToDictionary();
            foreach ((int rank, string merge) in vocabulary.Merges.Index())
            {
                int space = merge.IndexOf(' ', 1);
                _ranks[(merge[..space], merge[(space + 1)..])] = rank;
            }
        }

        public int[] Encode(string text)
        {
            List<string> symbols = [];
            foreach (Rune rune in text.Replace(' ', '▁').EnumerateRunes())
            {
                if (_ids.ContainsKey(rune.ToString())) symbols.Add(rune.ToString());
                else symbols.AddRange(Encoding.UTF8.GetBytes(rune.ToString()).Select(b => $"<0x{b:X2}>"));
            }
            while (true)
            {
                int best = -1, bestRank = int.MaxValue;
                for (int i = 0; i + 1 < symbols.Count; i++)
                    if (_ranks.TryGetValue((symbols[i], symbols[i + 1]), out int rank) && rank < bestRank) (best, bestRank) = (i, rank);
                if (best < 0) return [.. symbols.Select(s => _ids[s])];
                symbols[best] += symbols[best + 1];
                symbols.RemoveAt(best + 1);
            }
        }
    }
}
