using System.Globalization;
using System.Text.Json;
using GemmaServer.Compute;
using GemmaServer.Engine;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>The fields that chat and text completions share: how tokens are chosen and when an answer ends.</summary>
internal sealed partial class SamplingFields
{
    /// <summary>OpenAI takes 4; other servers' clients use more.</summary>
    public const int MaxStops = 16;

    private const int MaxStopLength = 1024;

    /// <summary>Priorities between two service tiers: more than anybody uses within one.</summary>
    private const int TierDistance = 1_000_000;

    public static IReadOnlySet<string> Names { get; } = new HashSet<string>(AnswerFormatReader.Names, StringComparer.Ordinal)
    {
        "model", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "repeat_penalty", "frequency_penalty", "presence_penalty",
        "logit_bias", "seed", "n", "stop", "stop_token_ids", "min_tokens", "ignore_eos", "include_stop_str_in_output", "skip_special_tokens",
        "spaces_between_special_tokens", "stream", "stream_options", "user", "max_tokens", "logprobs", "best_of", "priority", "timeout", "request_id", "return_token_ids",
        "return_tokens_as_token_ids", "truncate_prompt_tokens", "add_special_tokens", "cache_salt", "metadata", "allowed_token_ids", "bad_words",
        "speculative", "metrics", "timings", "timings_per_token",
    };

    /// <summary>Constraints and modes that would change the answer if they were silently dropped.</summary>
    private static readonly string[] NotSupported =
    [
        "prompt_logprobs", "prompt_embeds", "logits_processors", "length_penalty",
    ];

    private readonly List<KeyValuePair<int, float>> _bias = [];
    private readonly List<int> _stopTokens = [];
    private readonly List<string> _stops = [];
    private SamplingDefaults _defaults = new();
    private float? _temperature, _topP, _minP, _repetition, _frequency, _presence;
    private int? _topK;
    private ulong _seed;
    private string? _cacheSalt;
    private int _priority;
    private TimeSpan? _timeout;
    private int _tierPriority;
    private ServedModel _model = null!;

    public int N { get; private set; } = 1;

    public bool Stream { get; private set; }

    /// <summary>A last chunk with the usage, and <c>usage: null</c> on the others.</summary>
    public bool IncludeUsage { get; private set; }

    /// <summary>The usage so far on every chunk.</summary>
    public bool ContinuousUsage { get; private set; }

    public IReadOnlyList<string> Stops => _stops;

    /// <summary>The tokens that the client named, not those that end every answer.</summary>
    public IReadOnlyList<int> StopTokens => _stopTokens;

    public bool IncludeStop { get; private set; }

    public bool SkipSpecial { get; private set; }

    public int MinTokens { get; private set; }

    public bool IgnoreEos { get; private set; }

    /// <summary>Tokens that this request must not use, beside the checkpoint's own.</summary>
    public List<int> Banned { get; } = [];

    /// <summary>Reads the shared fields; mistakes stay in <paramref name="fields"/>.</summary>
    public static SamplingFields Read(FieldReader fields, ServedModel model, ServerOptions options)
    {
        SamplingFields s = new() { _model = model, _defaults = model.Defaults };
        if (fields.Text("model") is { } name && !model.Serves(name)) fields.Fail(ApiError.UnknownModel(name));
        s._temperature = fields.Number("temperature", 0, 2);
        s._topP = fields.Number("top_p", 0, 1);
        s._topK = (int?)fields.Integer("top_k", -1, int.MaxValue);
        s._minP = fields.Number("min_p", 0, 1);
        s._repetition = fields.Number("repetition_penalty", 0, 100, minExclusive: true) ?? fields.Number("repeat_penalty", 0, 100, minExclusive: true);
        s._frequency = fields.Number("frequency_penalty", -2, 2);
        s._presence = fields.Number("presence_penalty", -2, 2);
        s.ReadLogitBias(fields);
        s._seed = (ulong)(fields.Integer("seed", long.MinValue, long.MaxValue) ?? options.Seed ?? Random.Shared.NextInt64());
        s.N = (int)(fields.Integer("n", 1, 128) ?? 1);
        s.ReadStops(fields);
        s.MinTokens = (int)(fields.Integer("min_tokens", 0, int.MaxValue) ?? 0);
        s.IgnoreEos = fields.Flag("ignore_eos", false);
        s.IncludeStop = fields.Flag("include_stop_str_in_output", false);
        s.SkipSpecial = fields.Flag("skip_special_tokens", true);
        s._cacheSalt = fields.Text("cache_salt");
        if (s._cacheSalt is "") fields.Fail(ApiError.EmptyString("cache_salt"));
        s._priority = (int)(fields.Integer("priority", int.MinValue, int.MaxValue) ?? 0);
        if (fields.Number("timeout", 0, RequestOrigin.MaxSeconds, minExclusive: true) is { } seconds) s._timeout = TimeSpan.FromSeconds(Math.Max(seconds, 1e-6));
        s.ReadStream(fields);
        s.ReadTokenLists(fields);
        s.ReadSpeculative(fields);
        s.ReadExtras(fields);
        s.ReadIgnored(fields);
        return s;
    }

    /// <summary>The request for one of the choices.</summary>
    public GenerationRequest ToRequest(string id, int[] prompt, int maxTokens, int choice, int logprobs, int promptLogprobs, bool thoughtOpen, in RequestOrigin origin,
        int? cacheBoundary = null, in AnswerRules rules = default)
    {
        // A grammar that is complete leaves the end alone, whatever else was asked for; there it has to count as one.
        IReadOnlyList<int> ends = IgnoreEos && rules.Grammar is null ? _stopTokens : [.. _model.EndTokens, .. _stopTokens];
        List<int> banned = [.. _model.SuppressTokens, .. Banned];
        if (IgnoreEos) banned.AddRange(_model.EndTokens.Where(t => !_stopTokens.Contains(t)));
        int topK = _topK ?? _defaults.TopK;
        return new GenerationRequest
        {
            Id = id,
            Prompt = prompt,
            MaxTokens = maxTokens,
            StopTokens = ends,
            Stop = _stops.Count > 0 ? new StopMatcher(_model.Tokenizer, _stops, thoughtOpen) : null,
            Constraint = Constrain(rules, thoughtOpen),
            Prediction = rules.Prediction,
            MaxDrafts = _maxDrafts,
            PromptLogprobs = promptLogprobs,
            CacheSalt = _cacheSalt,
            CacheBoundary = cacheBoundary,
            QueueTimeout = origin.QueueTimeout,
            Timeout = RequestOrigin.Shorter(origin.Timeout, _timeout),
            Priority = (int)Math.Clamp((long)_priority + _tierPriority, int.MinValue, int.MaxValue),
            Client = origin.Client,
            Sampling = new SamplingParams
            {
                Temperature = _temperature ?? _defaults.Temperature,
                TopP = Math.Max(_topP ?? _defaults.TopP, 1e-6f),    // 0 means the best one only
                TopK = topK < 0 ? 0 : Math.Min(topK, _model.VocabularySize),
                MinP = _minP ?? 0f,
                RepetitionPenalty = _repetition ?? 1f,
                FrequencyPenalty = _frequency ?? 0f,
                PresencePenalty = _presence ?? 0f,
                // Choice 0 is what n = 1 gives; the others are far away in the random stream.
                Seed = unchecked(_seed + (ulong)choice * 0x9E3779B97F4A7C15),
                LogitBias = _bias,
                BannedTokens = banned,
                EndTokens = ends,
                MinTokens = MinTokens,
                Logprobs = logprobs,
            },
        };
    }

    /// <summary>Adds what OpenAI's tiers mean for the priority: flex is served after all others, fast and priority before them.</summary>
    public void AddTier(string? serviceTier) => _tierPriority = serviceTier switch
    {
        "flex" => TierDistance,
        "fast" or "priority" => -TierDistance,
        _ => 0,
    };

    private void ReadLogitBias(FieldReader fields)
    {
        if (!fields.TryGetObject("logit_bias", out JsonElement map)) return;
        foreach (JsonProperty member in map.EnumerateObject())
        {
            string path = $"logit_bias.{ApiError.Echo(member.Name)}";
            if (!int.TryParse(member.Name, NumberStyles.None, CultureInfo.InvariantCulture, out int token) || token >= _model.VocabularySize)
                fields.Fail(ApiError.BadValue(path, $"the key must be a token id from 0 to {_model.VocabularySize - 1}."));
            else if (fields.Number(path, member.Value, -100, 100) is { } bias)
                _bias.Add(new(token, bias));
        }
    }

    private void ReadStops(FieldReader fields)
    {
        if (fields.TryGet("stop", out JsonElement stop))
        {
            if (stop.ValueKind == JsonValueKind.String) AddStop(fields, "stop", stop);
            else if (stop.ValueKind != JsonValueKind.Array) fields.Fail(ApiError.WrongType("stop", "one of a string or array of strings", stop));
            else if (stop.GetArrayLength() > MaxStops) fields.Fail(ApiError.ArrayTooLong("stop", MaxStops, stop.GetArrayLength()));
            else
            {
                int i = 0;
                foreach (JsonElement item in stop.EnumerateArray()) AddStop(fields, $"stop[{i++}]", item);
            }
        }
        if (!fields.TryGetArray("stop_token_ids", out JsonElement ids)) return;
        if (ids.GetArrayLength() > 1024) fields.Fail(ApiError.ArrayTooLong("stop_token_ids", 1024, ids.GetArrayLength()));
        int k = 0;
        foreach (JsonElement item in ids.EnumerateArray())
        {
            if (fields.Integer($"stop_token_ids[{k++}]", item, 0, _model.VocabularySize - 1) is { } id) _stopTokens.Add((int)id);
        }
    }

    private void AddStop(FieldReader fields, string path, JsonElement item)
    {
        if (item.ValueKind != JsonValueKind.String) fields.Fail(ApiError.WrongType(path, "a string", item));
        else if (item.GetString() is not { Length: > 0 } text) fields.Fail(ApiError.EmptyString(path));
        else if (text.Length > MaxStopLength) fields.Fail(ApiError.StringTooLong(path, MaxStopLength, text.Length));
        else _stops.Add(text);
    }

    private void ReadStream(FieldReader fields)
    {
        Stream = fields.Flag("stream", false);
        if (!fields.TryGetObject("stream_options", out JsonElement options)) return;
        if (!Stream)
        {
            fields.Fail(ApiError.BadValue("stream_options", "it is only allowed when 'stream' is enabled."));
            return;
        }
        IncludeUsage = Option("include_usage");
        ContinuousUsage = Option("continuous_usage_stats") && IncludeUsage;
        Option("include_obfuscation");

        bool Option(string name) => options.TryGetProperty(name, out JsonElement value)
            && value.ValueKind != JsonValueKind.Null && fields.Flag($"stream_options.{name}", value) == true;
    }

    private void ReadIgnored(FieldReader fields)
    {
        foreach (string name in NotSupported)
        {
            if (fields.TryGet(name, out JsonElement value) && value.ValueKind != JsonValueKind.False) fields.Fail(ApiError.UnsupportedParameter(name));
        }
        if (fields.Flag("use_beam_search", false)) fields.Fail(ApiError.UnsupportedParameter("use_beam_search"));
        if (fields.Integer("best_of", 1, 20) is { } best && best != N) fields.Fail(ApiError.UnsupportedParameter("best_of", "Only the value of 'n' is."));
        fields.Text("user");
    }
}
