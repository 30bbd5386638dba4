using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>Makes a <see cref="CompletionRequest"/> from the body of <c>POST /v1/completions</c>, or says what is wrong with it.</summary>
internal static class CompletionRequestReader
{
    /// <summary>As OpenAI's default for this endpoint.</summary>
    private const int DefaultMaxTokens = 16;

    private const int MaxPrompts = 2048;
    private const int MaxLogprobs = 20;

    private static readonly HashSet<string> Known = new(StringComparer.Ordinal) { "prompt", "suffix", "echo", "use_beam_search" };

    static CompletionRequestReader() => Known.UnionWith(SamplingFields.Names);

    public static ApiError? Read(JsonElement root, ServedModel model, ServerOptions options, out CompletionRequest? request)
    {
        request = null;
        FieldReader fields = new(root);
        if (options.StrictFields) fields.RejectUnknown(Known);
        SamplingFields sampling = SamplingFields.Read(fields, model, options);
        bool echo = fields.Flag("echo", false);
        long maxTokens = fields.Integer("max_tokens", echo ? 0 : 1, int.MaxValue) ?? DefaultMaxTokens;
        int logprobs = (int)(fields.Integer("logprobs", 0, MaxLogprobs) ?? -1);
        if (fields.Text("suffix") is { Length: > 0 }) fields.Fail(ApiError.UnsupportedParameter("suffix"));
        AnswerFormat? format = AnswerFormatReader.Read(fields);
        int? keep = (int?)fields.Integer("truncate_prompt_tokens", -1, int.MaxValue);
        if (keep == 0) fields.Fail(ApiError.IntegerTooSmall("truncate_prompt_tokens", "1", "0"));
        bool addSpecial = fields.Flag("add_special_tokens", true);

        List<CompletionPrompt> prompts = new Prompts(fields, model, addSpecial, sampling.SkipSpecial).Read();
        if (fields.Error is { } error) return error;
        if (keep is not null) Truncate(prompts, keep < 0 ? model.MaxModelLength - 1 : keep.Value, model.Tokenizer, sampling.SkipSpecial);

        int most = int.MaxValue;
        foreach (CompletionPrompt prompt in prompts)
        {
            int room = model.MaxModelLength - prompt.Tokens.Length;
            if (room < 0 || (room == 0 && maxTokens > 0)) return ApiError.ContextLength("prompt", model.MaxModelLength, prompt.Tokens.Length);
            most = Math.Min(most, room);
        }
        // Longer than the context is not an error, as in vLLM: the answer ends where the context does.
        if (sampling.MinTokens > Math.Min(maxTokens, most))
            return ApiError.IntegerTooBig("min_tokens", Math.Min(maxTokens, most).ToString(), sampling.MinTokens.ToString());
        if (sampling.N * (long)prompts.Count > MaxPrompts) return ApiError.IntegerTooBig("n", (MaxPrompts / prompts.Count).ToString(), sampling.N.ToString());

        request = new CompletionRequest
        {
            Sampling = sampling,
            Prompts = prompts,
            MaxTokens = (int)maxTokens,
            Logprobs = logprobs,
            Echo = echo,
            Constraint = AnswerConstraint.OfText(format, model),
        };
        return null;
    }

    /// <summary>Keeps the last tokens of each prompt, as vLLM does.</summary>
    private static void Truncate(List<CompletionPrompt> prompts, int keep, Tokenizer tokenizer, bool skipSpecial)
    {
        for (int i = 0; i < prompts.Count; i++)
        {
            if (prompts[i].Tokens.Length <= keep) continue;
            int[] tokens = prompts[i].Tokens[^keep..];
            prompts[i] = new(tokenizer.Decode(tokens, skipSpecial), tokens);
        }
    }

    private sealed class Prompts(FieldReader fields, ServedModel model, bool addSpecial, bool skipSpecial)
    {
        private const string Expected = "one of a string, array of strings, array of integers, or array of integer arrays";

        private readonly List<CompletionPrompt> _prompts = [];

        public List<CompletionPrompt> Read()
        {
            if (fields.Error is not null) return _prompts;
            if (!fields.TryGet("prompt", out JsonElement prompt))
            {
                fields.Fail(ApiError.Missing("prompt"));
                return _prompts;
            }
            if (prompt.ValueKind == JsonValueKind.String) AddText("prompt", prompt.GetString()!);
            else if (prompt.ValueKind != JsonValueKind.Array) fields.Fail(ApiError.WrongType("prompt", Expected, prompt));
            else if (prompt.GetArrayLength() == 0) fields.Fail(ApiError.EmptyArray("prompt"));
            else if (prompt[0].ValueKind == JsonValueKind.Number) AddTokens("prompt", prompt);
            else if (prompt.GetArrayLength() > MaxPrompts) fields.Fail(ApiError.ArrayTooLong("prompt", MaxPrompts, prompt.GetArrayLength()));
            else
            {
                int i = 0;
                foreach (JsonElement item in prompt.EnumerateArray())
                {
                    string path = $"prompt[{i++}]";
                    if (item.ValueKind == JsonValueKind.String) AddText(path, item.GetString()!);
                    else if (item.ValueKind != JsonValueKind.Array) fields.Fail(ApiError.WrongType(path, "one of a string or array of integers", item));
                    else if (item.GetArrayLength() == 0) fields.Fail(ApiError.EmptyArray(path));
                    else AddTokens(path, item);
                    if (fields.Error is not null) break;
                }
            }
            return _prompts;
        }

        private void AddText(string path, string text)
        {
            if (text.Length > (long)model.MaxModelLength * model.LongestToken)
            {
                fields.Fail(ApiError.ContextLength("prompt", model.MaxModelLength, model.MaxModelLength, atLeast: true));
                return;
            }
            int[] tokens = EncodePrompt(model.Tokenizer, text, addSpecial);
            if (tokens.Length == 0) fields.Fail(ApiError.EmptyString(path));
            else _prompts.Add(new(text, tokens));
        }

        private void AddTokens(string path, JsonElement array)
        {
            int[] tokens = new int[array.GetArrayLength()];
            int i = 0;
            foreach (JsonElement item in array.EnumerateArray())
            {
                if (fields.Integer($"{path}[{i}]", item, 0, model.VocabularySize - 1) is not { } id) return;
                tokens[i++] = (int)id;
            }
            _prompts.Add(new(model.Tokenizer.Decode(tokens, skipSpecial), tokens));
        }
    }

    /// <summary>
    /// A raw prompt's tokens: control tokens spelled in it become these tokens, because writing the turn format oneself is what
    /// this endpoint is for; one &lt;bos&gt; goes before it unless it brings its own.
    /// </summary>
    public static int[] EncodePrompt(Tokenizer tokenizer, string text, bool addSpecial)
    {
        List<int> tokens = [];
        if (addSpecial && tokenizer.Special.Bos >= 0) tokens.Add(tokenizer.Special.Bos);
        tokenizer.Encode(text, parseSpecial: true, tokens);
        if (tokens.Count > 1 && addSpecial && tokens[0] == tokens[1] && tokens[0] == tokenizer.Special.Bos) tokens.RemoveAt(0);
        return [.. tokens];
    }
}
