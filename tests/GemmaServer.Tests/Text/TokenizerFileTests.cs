using System.Text;
using System.Text.Json.Nodes;
using GemmaServer.Text;

namespace GemmaServer.Tests;

public class TokenizerFileTests
{
    private static GoldenVocabulary Small => GoldenVocabulary.All[0];

    [Fact]
    public void Merges_written_as_text_give_the_same_ids_as_pairs()
    {
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
        {
            JsonNode file = JsonNode.Parse(vocabulary.Json)!;
            JsonArray texts = [];
            foreach (JsonNode? pair in file["model"]!["merges"]!.AsArray()) texts.Add($"{pair![0]!.GetValue<string>()} {pair[1]!.GetValue<string>()}");
            file["model"]!["merges"] = texts;
            Tokenizer tokenizer = Load(file);
            const string text = "the quick\n\n\n brown  fox <|turn>über 😀";
            Assert.Equal(vocabulary.FromJson.Encode(text, parseSpecial: true), tokenizer.Encode(text, parseSpecial: true));
        }
    }

    [Fact]
    public void The_order_of_fields_does_not_matter()
    {
        JsonNode file = JsonNode.Parse(Small.Json)!;
        JsonObject model = file["model"]!.AsObject(), turned = [];
        foreach ((string name, JsonNode? value) in model.Reverse()) turned[name] = value?.DeepClone();
        file["model"] = turned;
        Assert.Equal(Small.FromJson.Encode("the quick brown", parseSpecial: true), Load(file).Encode("the quick brown", parseSpecial: true));
    }

    [Fact]
    public void A_file_without_pre_tokenizer_or_with_its_steps_in_sequences_is_read()
    {
        JsonNode file = JsonNode.Parse(Small.Json)!;
        file["pre_tokenizer"] = null;
        file["normalizer"] = JsonNode.Parse("""{"type":"Sequence","normalizers":[{"type":"Replace","pattern":{"String":" "},"content":"▁"}]}""");
        Assert.Equal(Small.FromJson.Encode("a b", parseSpecial: true), Load(file).Encode("a b", parseSpecial: true));
    }

    [Fact]
    public void An_added_token_extends_the_vocabulary_and_is_special_when_it_says_so()
    {
        JsonNode file = JsonNode.Parse(Small.Json)!;
        int id = Small.FromJson.VocabularySize;
        file["added_tokens"]!.AsArray().Add(JsonNode.Parse($$"""{"id":{{id}},"content":"<|mine|>","special":true}"""));
        file["added_tokens"]!.AsArray().Add(JsonNode.Parse($$"""{"id":{{id + 1}},"content":"<plain>","special":false}"""));
        Tokenizer tokenizer = Load(file);
        Assert.True(tokenizer.IsSpecial(id));
        Assert.False(tokenizer.IsSpecial(id + 1));
        Assert.Equal([id, id + 1], tokenizer.Encode("<|mine|><plain>", parseSpecial: true));
        Assert.DoesNotContain(id, tokenizer.Encode("<|mine|><plain>", parseSpecial: false));
        Assert.Contains(id + 1, tokenizer.Encode("<|mine|><plain>", parseSpecial: false));
    }

    [Fact]
    public void Of_two_added_tokens_that_begin_alike_the_longer_is_matched()
    {
        JsonNode file = JsonNode.Parse(Small.Json)!;
        int id = Small.FromJson.VocabularySize;
        foreach ((int i, string text) in ((string[])["<|m", "<|mine|>", "<|mine"]).Index())
            file["added_tokens"]!.AsArray().Add(JsonNode.Parse($$"""{"id":{{id + i}},"content":"{{text}}","special":true}"""));
        Assert.Equal([id + 1, id + 2, id], Load(file).Encode("<|mine|><|mine<|m", parseSpecial: true));
    }

    [Fact]
    public void The_config_names_a_further_end_token()
    {
        int id = Small.FromJson.TokenId("<unused0>")!.Value;
        foreach (string role in (string[])["\"<unused0>\"", "{\"content\":\"<unused0>\"}"])
        {
            Tokenizer tokenizer = Tokenizer.FromJson(new MemoryStream(Small.Json), Text($$"""{"eos_token":{{role}}}"""));
            Assert.Contains(id, tokenizer.Special.EndOfGeneration);
            Assert.Equal("<eos>", tokenizer.Piece(tokenizer.Special.Eos));
        }
    }

    [Theory]
    [InlineData("[]", "not a JSON object")]
    [InlineData("{", "damaged")]
    [InlineData("", "damaged")]
    [InlineData("nonsense", "damaged")]
    [InlineData("{\"eos_token\":\"<none>\"}", "eos_token")]
    [InlineData("{\"eos_token\":\"\\ud800\"}", "damaged")]
    public void A_damaged_config_is_refused(string config, string says)
    {
        TokenizerException refused = Assert.Throws<TokenizerException>(() => Tokenizer.FromJson(new MemoryStream(Small.Json), Text(config)));
        Assert.Contains("tokenizer_config.json", refused.Message);
        Assert.Contains(says, refused.Message);
    }

    // path of the field, what to put there (null removes it), what the message must name
    [Theory]
    [InlineData("model.type", "\"Unigram\"", "model.type")]
    [InlineData("model.type", "null", "model.type")]
    [InlineData("model.byte_fallback", "false", "model.byte_fallback")]
    [InlineData("model.byte_fallback", null, "model.byte_fallback")]
    [InlineData("model.ignore_merges", "true", "model.ignore_merges")]
    [InlineData("model.dropout", "0.1", "model.dropout")]
    [InlineData("model.continuing_subword_prefix", "\"##\"", "model.continuing_subword_prefix")]
    [InlineData("model.end_of_word_suffix", "\"</w>\"", "model.end_of_word_suffix")]
    [InlineData("model.vocab", "[]", "model.vocab")]
    [InlineData("model.vocab", "{}", "model.vocab")]
    [InlineData("model.vocab", null, "model.vocab")]
    [InlineData("model.vocab", "{\"a\":\"b\"}", "model.vocab")]
    [InlineData("model.vocab", "{\"a\":-1}", "model.vocab")]
    [InlineData("model.vocab", "{\"a\":1.5}", "model.vocab")]
    [InlineData("model.vocab", "{\"a\":99999999999}", "model.vocab")]
    [InlineData("model.vocab.<0x41>", null, "gap")]
    [InlineData("model.vocab.a", "0", "id 0")]
    [InlineData("model.vocab.a", "100000", "gap")]
    [InlineData("model.merges", null, "model.merges")]
    [InlineData("model.merges", "[]", "model.merges")]
    [InlineData("model.merges", "{}", "model.merges")]
    [InlineData("model.merges", "[1]", "model.merges[0]")]
    [InlineData("model.merges", "[\"ab\"]", "model.merges[0]")]
    [InlineData("model.merges", "[\"\"]", "model.merges[0]")]
    [InlineData("model.merges", "[[\"a\"]]", "model.merges[0]")]
    [InlineData("model.merges", "[[\"a\",1]]", "model.merges[0]")]
    [InlineData("model.merges", "[[\"\\n\",\"\\n\"],[\"\\n\",\"\\n\",\"\\n\"]]", "model.merges[1]")]
    [InlineData("model.merges", "[[\"\\n\",\"\\n\"],[\"\\n\",\"nowhere\"]]", "model.merges[1]")]
    [InlineData("model.merges", "[[\"\\n\",\"a\"]]", "model.merges[0]")]
    [InlineData("model.merges", "[[\"\\ud800\",\"a\"]]", "damaged")]
    [InlineData("model", "3", "model is not an object")]
    [InlineData("model", null, "no model")]
    [InlineData("normalizer", null, "normalizer")]
    [InlineData("normalizer", "null", "normalizer")]
    [InlineData("normalizer", "{\"type\":\"NFKC\"}", "normalizer")]
    [InlineData("normalizer", "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"▁\"},{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"▁\"}]}", "normalizer")]
    [InlineData("pre_tokenizer", "{\"type\":\"ByteLevel\"}", "pre_tokenizer")]
    [InlineData("pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\d\"},\"behavior\":\"Isolated\",\"invert\":false}", "pre_tokenizer")]
    [InlineData("decoder", "{\"type\":\"ByteLevel\"}", "decoder")]
    [InlineData("added_tokens", "3", "added_tokens")]
    [InlineData("added_tokens", "[3]", "added_tokens[0]")]
    [InlineData("added_tokens", "[{\"id\":0}]", "added_tokens[0]")]
    [InlineData("added_tokens", "[{\"id\":0,\"content\":\"\"}]", "added_tokens[0]")]
    [InlineData("added_tokens", "[{\"id\":0,\"content\":\"<other>\"}]", "<other>")]
    [InlineData("added_tokens", "[{\"id\":100000,\"content\":\"<other>\"}]", "gap")]
    [InlineData("added_tokens", "[{\"id\":0,\"content\":\"<pad>\",\"lstrip\":true}]", "lstrip")]
    [InlineData("added_tokens", "[{\"id\":0,\"content\":\"<pad>\",\"single_word\":true}]", "single_word")]
    [InlineData("added_tokens", "[{\"id\":31,\"content\":\"▁▁\",\"normalized\":true}]", "normalized")]
    public void A_file_that_is_damaged_or_asks_for_something_else_is_refused_by_the_name_of_the_field(string path, string? value, string names)
    {
        JsonNode file = JsonNode.Parse(Small.Json)!;
        string[] steps = path.Split('.');
        JsonObject at = steps[..^1].Aggregate(file, static (node, step) => node[step]!).AsObject();
        // JsonNode cannot hold a lone surrogate, so values go in as text at the end.
        if (value is null) at.Remove(steps[^1]);
        else at[steps[^1]] = "(here)";
        string json = file.ToJsonString().Replace("\"(here)\"", value);
        Assert.Contains(names, Assert.Throws<TokenizerException>(() => Tokenizer.FromJson(Text(json))).Message);
    }

    [Fact]
    public void Two_ids_for_one_piece_are_refused()
    {
        string json = Encoding.UTF8.GetString(Small.Json);
        int at = json.IndexOf("\"vocab\"", StringComparison.Ordinal);
        at = json.IndexOf('{', at) + 1;
        json = json.Insert(at, $"\"a\":{Small.FromJson.VocabularySize},");
        Assert.Contains("'a'", Assert.Throws<TokenizerException>(() => Tokenizer.FromJson(Text(json))).Message);
    }

    [Fact]
    public void A_file_cut_anywhere_or_with_a_byte_changed_loads_or_is_refused_but_never_crashes()
    {
        Random random = new(2);
        for (int cut = 0; cut < Small.Json.Length - 1; cut += random.Next(1, 200))
            Assert.Throws<TokenizerException>(() => Tokenizer.FromJson(new MemoryStream(Small.Json, 0, cut)));
        for (int round = 0; round < 300; round++)
        {
            byte[] changed = [.. Small.Json];
            changed[random.Next(changed.Length)] = (byte)random.Next(256);
            Exception? thrown = Record.Exception(() => Tokenizer.FromJson(new MemoryStream(changed)).Encode("a b\n\n<|turn>", parseSpecial: true));
            Assert.True(thrown is null or TokenizerException, thrown?.ToString());
        }
    }

    [Fact]
    public void A_damaged_gguf_vocabulary_is_refused_by_the_name_of_the_key()
    {
        GgufVocabulary good = Small.Gguf;
        string[] merges = good.Merges;
        (GgufVocabulary Bad, string Names)[] cases =
        [
            (good with { Model = "llama" }, "tokenizer.ggml.model"),
            (good with { Tokens = [] }, "tokenizer.ggml.tokens"),
            (good with { Tokens = [.. good.Tokens, "a"], TokenTypes = null }, "tokenizer.ggml.tokens"),
            (good with { Tokens = [.. good.Tokens, null!], TokenTypes = null }, "tokenizer.ggml.tokens"),
            (good with { Tokens = [.. good.Tokens.Select(t => t == "<0x41>" ? "(A)" : t)], TokenTypes = null }, "<0x41>"),
            (good with { TokenTypes = good.TokenTypes![1..] }, "tokenizer.ggml.token_type"),
            (good with { TokenTypes = [6, .. good.TokenTypes![1..]] }, "tokenizer.ggml.token_type"),
            (good with { Merges = [] }, "tokenizer.ggml.merges"),
            (good with { Merges = [.. merges, "nospace"] }, $"tokenizer.ggml.merges[{merges.Length}]"),
            (good with { Merges = [.. merges, "a nowhere"] }, $"tokenizer.ggml.merges[{merges.Length}]"),
            (good with { Merges = [.. merges, " "] }, $"tokenizer.ggml.merges[{merges.Length}]"),
            (good with { Merges = [.. merges, null!] }, $"tokenizer.ggml.merges[{merges.Length}]"),
            (good with { Bos = good.Tokens.Length }, "bos_token_id"),
            (good with { Eos = -1 }, "eos_token_id"),
            (good with { EndOfTurn = int.MaxValue }, "eot_token_id"),
        ];
        foreach ((GgufVocabulary bad, string names) in cases)
            Assert.Contains(names, Assert.Throws<TokenizerException>(() => Tokenizer.FromGguf(bad)).Message);
    }

    private static Tokenizer Load(JsonNode file) => Tokenizer.FromJson(Text(file.ToJsonString()));

    private static MemoryStream Text(string text) => new(Encoding.UTF8.GetBytes(text));
}
