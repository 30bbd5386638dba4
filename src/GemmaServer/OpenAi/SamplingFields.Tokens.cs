using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer;

// Which tokens may come, how they are guessed, and what is told about them.
internal sealed partial class SamplingFields
{
    private const int MaxListedTokens = 1 << 20;
    private const int MaxBadWords = 1024;
    private const int MaxBadWordLength = 1024;

    private readonly List<int[]> _badRuns = [];
    private List<int>? _allowedTokens;
    private int? _maxDrafts;

    /// <summary>Whether the answer tells the token ids of prompt and choices.</summary>
    public bool ReturnTokenIds { get; private set; }

    /// <summary>Shows tokens in logprobs as <c>token_id:123</c>.</summary>
    public bool TokensAsIds { get; private set; }

    /// <summary>Whether the answer tells how long things took, as vLLM has it.</summary>
    public bool WantsMetrics { get; private set; }

    /// <summary>Whether the answer tells how long things took, as llama.cpp has it.</summary>
    public bool WantsTimings { get; private set; }

    /// <summary>What one answer keeps to, outermost first: lists of tokens, the thought's budget, the grammar; null for nothing.</summary>
    private TokenConstraint? Constrain(in AnswerRules rules, bool thoughtOpen)
    {
        TokenConstraint? constraint = rules.Grammar is null ? null : new GrammarMatcher(rules.Grammar);
        if (rules.ThoughtBudget is { } budget)
            constraint = new ThoughtBudget(constraint, _model.Tokenizer.Special, _model.VocabularySize, budget, thoughtOpen ? PromptState.ThoughtOpen : PromptState.Content);
        return _allowedTokens is null && _badRuns.Count == 0 ? constraint : new TokenFilter(constraint, _model.VocabularySize, _allowedTokens, _badRuns);
    }

    private void ReadTokenLists(FieldReader fields)
    {
        if (fields.TryGetArray("allowed_token_ids", out JsonElement ids))
        {
            if (ids.GetArrayLength() == 0) fields.Fail(ApiError.EmptyArray("allowed_token_ids"));
            if (ids.GetArrayLength() > MaxListedTokens) fields.Fail(ApiError.ArrayTooLong("allowed_token_ids", MaxListedTokens, ids.GetArrayLength()));
            _allowedTokens = [];
            int i = 0;
            foreach (JsonElement item in ids.EnumerateArray())
            {
                if (fields.Error is not null) break;
                if (fields.Integer($"allowed_token_ids[{i++}]", item, 0, _model.VocabularySize - 1) is { } id) _allowedTokens.Add((int)id);
            }
        }
        if (!fields.TryGetArray("bad_words", out JsonElement words)) return;
        if (words.GetArrayLength() > MaxBadWords) fields.Fail(ApiError.ArrayTooLong("bad_words", MaxBadWords, words.GetArrayLength()));
        int k = 0;
        foreach (JsonElement word in words.EnumerateArray()) AddBadWord(fields, $"bad_words[{k++}]", word);
    }

    /// <summary>A word is kept out at the start of a text and behind a space, as vLLM does.</summary>
    private void AddBadWord(FieldReader fields, string path, JsonElement word)
    {
        if (fields.Error is not null) return;
        if (word.ValueKind != JsonValueKind.String) fields.Fail(ApiError.WrongType(path, "a string", word));
        else if (word.GetString() is not { Length: > 0 } text) fields.Fail(ApiError.EmptyString(path));
        else if (text.Length > MaxBadWordLength) fields.Fail(ApiError.StringTooLong(path, MaxBadWordLength, text.Length));
        else
        {
            foreach (string spelled in (string[])[text, " " + text.TrimStart()])
            {
                int[] tokens = _model.Tokenizer.Encode(spelled, parseSpecial: false);
                if (tokens.Length == 1) Banned.Add(tokens[0]);
                else if (tokens.Length > 1) _badRuns.Add(tokens);
            }
        }
    }

    /// <summary><c>false</c>, or <c>{n_max}</c> as llama.cpp has it.</summary>
    private void ReadSpeculative(FieldReader fields)
    {
        if (!fields.TryGet("speculative", out JsonElement value)) return;
        if (value.ValueKind == JsonValueKind.Object)
        {
            FieldReader inner = fields.Into("speculative", value);
            _maxDrafts = (int?)inner.Integer("n_max", 0, 64);
            fields.Take(inner);
        }
        else if (value.ValueKind is not (JsonValueKind.True or JsonValueKind.False)) fields.Fail(ApiError.WrongType("speculative", "one of a boolean or object", value));
        else if (value.ValueKind == JsonValueKind.False) _maxDrafts = 0;
    }

    private void ReadExtras(FieldReader fields)
    {
        ReturnTokenIds = fields.Flag("return_token_ids", false);
        TokensAsIds = fields.Flag("return_tokens_as_token_ids", false);
        WantsMetrics = fields.Flag("metrics", false);
        WantsTimings = fields.Flag("timings", false) | fields.Flag("timings_per_token", false);
    }
}

/// <summary>What an answer has to keep to beside sampling.</summary>
/// <param name="Grammar">Of the whole answer; null for any.</param>
/// <param name="ThoughtBudget">Most tokens of thoughts; null for any number.</param>
/// <param name="Prediction">Tokens that the client expects; null for none.</param>
internal readonly record struct AnswerRules(CompiledGrammar? Grammar, int? ThoughtBudget = null, int[]? Prediction = null);
