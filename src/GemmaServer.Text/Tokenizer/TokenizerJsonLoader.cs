using System.Text.Json;

namespace GemmaServer.Text;

/// <summary>
/// Reads <c>tokenizer.json</c> of the Hugging Face library. The two large lists are read straight from the bytes; everything
/// that changes how text is split must be what Gemma 4 uses, and anything else is refused rather than ignored.
/// </summary>
internal sealed class TokenizerJsonLoader
{
    private const string VocabField = "model.vocab";
    private const string MergesField = "model.merges";

    private sealed record AddedToken(int Id, string Content, bool Special);

    private readonly Dictionary<int, string> _pieces = [];
    private readonly List<AddedToken> _added = [];
    private long _mergesAt = -1;
    private bool _sawNormalizer;
    private char[] _left = new char[256], _right = new char[256];

    /// <exception cref="TokenizerException">The file is damaged or asks for something that cannot be honoured.</exception>
    public static (Vocabulary Vocabulary, DeclaredRoles Roles) Load(Stream tokenizerJson, Stream? configJson)
    {
        byte[] json = ReadAll(tokenizerJson, "tokenizer.json");
        Vocabulary vocabulary;
        try
        {
            vocabulary = new TokenizerJsonLoader().Read(json);
        }
        // InvalidOperationException is how the reader reports text that is not valid UTF-8, and lone surrogates.
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException)
        {
            throw new TokenizerException($"tokenizer.json is damaged: {e.Message}", e);
        }
        return (vocabulary, configJson is null ? default : ReadConfig(ReadAll(configJson, "tokenizer_config.json"), vocabulary));
    }

    private Vocabulary Read(byte[] json)
    {
        Utf8JsonReader reader = new(json);
        reader.Read();
        Expect(reader.TokenType == JsonTokenType.StartObject, "tokenizer.json is not a JSON object.");
        bool sawModel = false;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string name = reader.GetString()!;
            reader.Read();
            switch (name)
            {
                case "model":
                    Expect(!sawModel, "tokenizer.json has two models.");
                    sawModel = true;
                    ReadModel(ref reader);
                    break;
                case "added_tokens": ReadAddedTokens(JsonElement.ParseValue(ref reader)); break;
                case "normalizer": CheckNormalizer(JsonElement.ParseValue(ref reader)); break;
                case "pre_tokenizer": CheckPreTokenizer(JsonElement.ParseValue(ref reader)); break;
                case "decoder": CheckDecoder(JsonElement.ParseValue(ref reader)); break;
                default: reader.Skip(); break;   // post_processor only adds <bos>, which the prompt brings; truncation and padding are for batches
            }
        }
        while (reader.Read()) { }   // to the end, so that a cut file or text behind it is found
        Expect(sawModel, "tokenizer.json has no model.");
        Expect(_sawNormalizer, "normalizer is missing; Gemma 4 replaces ' ' by '▁'.");
        Expect(_pieces.Count > 0, $"{VocabField} is missing or empty.");
        Expect(_mergesAt >= 0, $"{MergesField} is missing.");
        return Build(json);
    }

    private Vocabulary Build(byte[] json)
    {
        foreach (AddedToken token in _added)
        {
            if (_pieces.TryAdd(token.Id, token.Content)) continue;
            Expect(_pieces[token.Id] == token.Content,
                $"added_tokens: '{Vocabulary.Shown(token.Content)}' has id {token.Id}, which is '{Vocabulary.Shown(_pieces[token.Id])}' in {VocabField}.");
        }
        string[] pieces = new string[_pieces.Count];
        foreach ((int id, string piece) in _pieces)
        {
            if (id >= pieces.Length) throw new TokenizerException($"{VocabField}: id {id} lies beyond a gap; there are {pieces.Length} pieces.");
            pieces[id] = piece;
        }
        Vocabulary vocabulary = new(pieces, VocabField);
        foreach (AddedToken token in _added) vocabulary.Declare(token.Id, token.Special);
        ReadMerges(json, vocabulary);
        return vocabulary;
    }

    private void ReadModel(ref Utf8JsonReader reader)
    {
        Expect(reader.TokenType == JsonTokenType.StartObject, "model is not an object.");
        bool byteFallback = false;
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string name = reader.GetString()!;
            reader.Read();
            switch (name)
            {
                case "type":
                    Expect(reader.TokenType == JsonTokenType.String && reader.ValueTextEquals("BPE"u8), "model.type is not 'BPE'.");
                    break;
                case "vocab": ReadVocab(ref reader); break;
                case "merges":
                    Expect(reader.TokenType == JsonTokenType.StartArray, $"{MergesField} is not a list.");
                    _mergesAt = reader.TokenStartIndex;   // read when the vocabulary is complete
                    reader.Skip();
                    break;
                case "byte_fallback": byteFallback = reader.TokenType == JsonTokenType.True; break;
                case "ignore_merges":
                    Expect(reader.TokenType is JsonTokenType.False or JsonTokenType.Null, "model.ignore_merges is set.");
                    break;
                case "dropout":
                    Expect(reader.TokenType == JsonTokenType.Null || (reader.TokenType == JsonTokenType.Number && reader.GetDouble() == 0), "model.dropout is set.");
                    break;
                case "continuing_subword_prefix" or "end_of_word_suffix":
                    Expect(reader.TokenType == JsonTokenType.Null || reader.ValueTextEquals(""u8), $"model.{name} is set.");
                    break;
                default: reader.Skip(); break;   // unk_token and fuse_unk: with every byte a token, nothing is unknown
            }
        }
        Expect(byteFallback, "model.byte_fallback is not true.");
    }

    private void ReadVocab(ref Utf8JsonReader reader)
    {
        Expect(reader.TokenType == JsonTokenType.StartObject, $"{VocabField} is not an object.");
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            string piece = reader.GetString()!;
            reader.Read();
            if (reader.TokenType != JsonTokenType.Number || !reader.TryGetInt32(out int id) || id < 0)
                throw new TokenizerException($"{VocabField}: '{Vocabulary.Shown(piece)}' has no id.");
            if (!_pieces.TryAdd(id, piece))
                throw new TokenizerException($"{VocabField}: id {id} stands for '{Vocabulary.Shown(_pieces[id])}' and for '{Vocabulary.Shown(piece)}'.");
        }
    }

    // Merges are "a b" in older files and ["a", "b"] in newer ones.
    private void ReadMerges(byte[] json, Vocabulary vocabulary)
    {
        ReadOnlySpan<byte> list = json.AsSpan((int)_mergesAt);
        vocabulary.StartMerges(CountMerges(list));
        Utf8JsonReader reader = new(list);
        reader.Read();
        int rank = 0;
        for (; reader.Read() && reader.TokenType != JsonTokenType.EndArray; rank++)
        {
            if (reader.TokenType == JsonTokenType.String)
            {
                vocabulary.AddMerge(Text(ref reader, ref _left), rank, MergesField);
                continue;
            }
            if (reader.TokenType != JsonTokenType.StartArray) throw NoPair(rank);
            ReadOnlySpan<char> left = Part(ref reader, ref _left, rank), right = Part(ref reader, ref _right, rank);
            reader.Read();
            if (reader.TokenType != JsonTokenType.EndArray) throw NoPair(rank);
            vocabulary.AddMerge(left, right, rank, MergesField);
        }
        Expect(rank > 0, $"{MergesField} is empty.");
    }

    private static int CountMerges(ReadOnlySpan<byte> list)
    {
        Utf8JsonReader reader = new(list);
        reader.Read();
        int count = 0;
        for (; reader.Read() && reader.TokenType != JsonTokenType.EndArray; count++) reader.Skip();
        return count;
    }

    private static ReadOnlySpan<char> Part(ref Utf8JsonReader reader, ref char[] buffer, int rank)
    {
        reader.Read();
        return reader.TokenType == JsonTokenType.String ? Text(ref reader, ref buffer) : throw NoPair(rank);
    }

    private static TokenizerException NoPair(int rank) => new($"{MergesField}[{rank}] is neither text nor a pair of texts.");

    private static ReadOnlySpan<char> Text(ref Utf8JsonReader reader, ref char[] buffer)
    {
        if (buffer.Length < reader.ValueSpan.Length) buffer = new char[reader.ValueSpan.Length * 2];
        return buffer.AsSpan(0, reader.CopyString(buffer));
    }

    private void ReadAddedTokens(JsonElement list)
    {
        if (list.ValueKind == JsonValueKind.Null) return;
        Expect(list.ValueKind == JsonValueKind.Array, "added_tokens is not a list.");
        foreach (JsonElement entry in list.EnumerateArray())
        {
            Expect(entry.ValueKind == JsonValueKind.Object
                && entry.TryGetProperty("content", out JsonElement content) && content.ValueKind == JsonValueKind.String
                && entry.TryGetProperty("id", out JsonElement id) && id.ValueKind == JsonValueKind.Number && id.TryGetInt32(out int number) && number >= 0,
                $"added_tokens[{_added.Count}] lacks an id or its content.");
            AddedToken token = new(entry.GetProperty("id").GetInt32(), entry.GetProperty("content").GetString()!, Flag(entry, "special"));
            Expect(token.Content.Length > 0, $"added_tokens[{_added.Count}] is empty text.");
            foreach (string flag in (string[])["single_word", "lstrip", "rstrip"])
                Expect(!Flag(entry, flag), $"added_tokens: '{Vocabulary.Shown(token.Content)}' sets {flag}.");
            // Matching before or after the replacement of spaces is the same for a text without any.
            Expect(!Flag(entry, "normalized") || !token.Content.AsSpan().ContainsAny(' ', '▁'),
                $"added_tokens: '{Vocabulary.Shown(token.Content)}' is normalized and has spaces.");
            _added.Add(token);
        }
    }

    // {"type":"Replace","pattern":{"String":" "},"content":"▁"}, alone or as the only member of a sequence.
    private void CheckNormalizer(JsonElement normalizer)
    {
        _sawNormalizer = true;
        JsonElement only = Unwrap(normalizer, "normalizers");
        Expect(IsReplace(only, " ", "▁"), "normalizer is not the replacement of ' ' by '▁'.");
    }

    // None, or a split at ' ', which never fires because the normalizer has left no space.
    private static void CheckPreTokenizer(JsonElement preTokenizer)
    {
        if (preTokenizer.ValueKind == JsonValueKind.Null) return;
        JsonElement only = Unwrap(preTokenizer, "pretokenizers");
        Expect(TypeOf(only) == "Split" && PatternOf(only) == " " && !Flag(only, "invert"), "pre_tokenizer is not a split at ' '.");
    }

    private static void CheckDecoder(JsonElement decoder)
    {
        if (decoder.ValueKind == JsonValueKind.Null) return;
        bool known = TypeOf(decoder) == "Sequence" && decoder.TryGetProperty("decoders", out JsonElement steps)
            && steps.ValueKind == JsonValueKind.Array && steps.GetArrayLength() == 3
            && IsReplace(steps[0], "▁", " ") && TypeOf(steps[1]) == "ByteFallback" && TypeOf(steps[2]) == "Fuse";
        Expect(known, "decoder is not the replacement of '▁' by ' ', byte fallback, fuse.");
    }

    private static JsonElement Unwrap(JsonElement step, string members) =>
        TypeOf(step) == "Sequence" && step.TryGetProperty(members, out JsonElement list)
            && list.ValueKind == JsonValueKind.Array && list.GetArrayLength() == 1
            ? list[0]
            : step;

    private static bool IsReplace(JsonElement step, string pattern, string content) =>
        TypeOf(step) == "Replace" && PatternOf(step) == pattern
        && step.TryGetProperty("content", out JsonElement value) && value.ValueKind == JsonValueKind.String && value.GetString() == content;

    private static string? TypeOf(JsonElement step) =>
        step.ValueKind == JsonValueKind.Object && step.TryGetProperty("type", out JsonElement type) && type.ValueKind == JsonValueKind.String
            ? type.GetString()
            : null;

    private static string? PatternOf(JsonElement step) =>
        step.TryGetProperty("pattern", out JsonElement pattern) && pattern.ValueKind == JsonValueKind.Object
        && pattern.TryGetProperty("String", out JsonElement text) && text.ValueKind == JsonValueKind.String
            ? text.GetString()
            : null;

    private static bool Flag(JsonElement entry, string name) => entry.TryGetProperty(name, out JsonElement value) && value.ValueKind == JsonValueKind.True;

    private static DeclaredRoles ReadConfig(byte[] json, Vocabulary vocabulary)
    {
        try
        {
            Utf8JsonReader reader = new(json);
            JsonElement config = JsonElement.ParseValue(ref reader);
            Expect(config.ValueKind == JsonValueKind.Object, "tokenizer_config.json is not a JSON object.");
            return new DeclaredRoles(
                Role(config, "bos_token", vocabulary), Role(config, "eos_token", vocabulary), Role(config, "unk_token", vocabulary),
                Role(config, "pad_token", vocabulary), Role(config, "mask_token", vocabulary), Role(config, "eot_token", vocabulary));
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new TokenizerException($"tokenizer_config.json is damaged: {e.Message}", e);
        }
    }

    // A role is the token's text, or an object that holds it as "content".
    private static int? Role(JsonElement config, string name, Vocabulary vocabulary)
    {
        if (!config.TryGetProperty(name, out JsonElement role)) return null;
        if (role.ValueKind == JsonValueKind.Object && role.TryGetProperty("content", out JsonElement content)) role = content;
        if (role.ValueKind != JsonValueKind.String) return null;
        string piece = role.GetString()!;
        return vocabulary.Id(piece) ?? throw new TokenizerException($"tokenizer_config.json: {name} '{Vocabulary.Shown(piece)}' is not in the vocabulary.");
    }

    private static byte[] ReadAll(Stream stream, string name)
    {
        const long most = 1L << 30;   // 30 times the published file
        if (stream.CanSeek && stream.Length - stream.Position > most) throw new TokenizerException($"{name} is larger than {most} bytes.");
        using MemoryStream memory = new();
        stream.CopyTo(memory);
        byte[] bytes = memory.ToArray();
        return bytes.AsSpan().StartsWith("\uFEFF"u8) ? bytes[3..] : bytes;
    }

    // For what is checked once per file; the message is built even when all is well.
    private static void Expect([System.Diagnostics.CodeAnalysis.DoesNotReturnIf(false)] bool holds, string otherwise)
    {
        if (!holds) throw new TokenizerException(otherwise);
    }
}
