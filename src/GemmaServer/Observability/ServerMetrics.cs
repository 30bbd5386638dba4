using System.Diagnostics.Metrics;
using GemmaServer.Engine;

namespace GemmaServer;

/// <summary>
/// All instruments of one server. What is called <c>gemmaserver.*</c> stands in <c>/metrics</c> (and under vLLM's name where vLLM
/// has it); the <c>gen_ai.*</c> ones have OpenTelemetry's names and leave by OTLP, as do all others.
/// </summary>
internal sealed class ServerMetrics : IDisposable
{
    public const string MeterName = "GemmaServer";

    // vLLM's buckets, so that its dashboards fit.
    private static readonly double[] FirstToken =
        [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560];
    private static readonly double[] PerToken = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80];
    private static readonly double[] Latency = [0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680];
    private static readonly double[] Lengths = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000];
    private static readonly double[] Small = [1, 2, 5, 10, 20];

    private readonly Meter _meter = new(MeterName);

    public ServerMetrics()
    {
        TimeToFirstToken = Seconds("time_to_first_token", "From arrival to the first token.", FirstToken);
        InterTokenLatency = Seconds("inter_token_latency", "Between two tokens of an answer.", PerToken);
        TimePerOutputToken = Seconds("request_time_per_output_token", "Mean time per token after the first, by request.", PerToken);
        EndToEnd = Seconds("e2e_request_latency", "From arrival to the end of the answer.", Latency);
        QueueTime = Seconds("request_queue_time", "Time in the queue.", Latency);
        InferenceTime = Seconds("request_inference_time", "Time in the batch.", Latency);
        PrefillTime = Seconds("request_prefill_time", "From leaving the queue to the first token.", Latency);
        DecodeTime = Seconds("request_decode_time", "From the first token to the last.", Latency);
        PromptLength = Count("request_prompt_tokens", "Prompt tokens by request.", Lengths);
        GenerationLength = Count("request_generation_tokens", "Generated tokens by request.", Lengths);
        ParamN = Count("request_params_n", "The n of requests.", Small);
        ParamMaxTokens = Count("request_params_max_tokens", "The max_tokens of requests.", Lengths);
        Success = _meter.CreateCounter<long>("gemmaserver.request_success", null, "Finished requests by reason.");
        HttpRequests = _meter.CreateCounter<long>("gemmaserver.http_requests", null, "HTTP requests by route and status.");

        GenAiDuration = GenAi("gen_ai.server.request.duration", "s", "Duration of a request.", Latency);
        GenAiFirstToken = GenAi("gen_ai.server.time_to_first_token", "s", "Time to the first token.", FirstToken);
        GenAiPerToken = GenAi("gen_ai.server.time_per_output_token", "s", "Time per token after the first.", PerToken);
        GenAiTokens = _meter.CreateHistogram<long>("gen_ai.client.token.usage", "{token}", "Tokens by kind.");
        Exporter = new PrometheusExporter(_meter);
    }

    public PrometheusExporter Exporter { get; }

    public Histogram<double> TimeToFirstToken { get; }

    public Histogram<double> InterTokenLatency { get; }

    public Histogram<double> TimePerOutputToken { get; }

    public Histogram<double> EndToEnd { get; }

    public Histogram<double> QueueTime { get; }

    public Histogram<double> InferenceTime { get; }

    public Histogram<double> PrefillTime { get; }

    public Histogram<double> DecodeTime { get; }

    public Histogram<long> PromptLength { get; }

    public Histogram<long> GenerationLength { get; }

    public Histogram<long> ParamN { get; }

    public Histogram<long> ParamMaxTokens { get; }

    public Counter<long> Success { get; }

    public Counter<long> HttpRequests { get; }

    public Histogram<double> GenAiDuration { get; }

    public Histogram<double> GenAiFirstToken { get; }

    public Histogram<double> GenAiPerToken { get; }

    public Histogram<long> GenAiTokens { get; }

    /// <summary>Adds what the engine counts, once there is one.</summary>
    public void Attach(ServedModel model)
    {
        EngineMetrics engine = model.Engine.Metrics;
        Exporter.SetConstantLabels([new("model_name", model.Names[0]), new("engine", "0")]);
        Gauge("num_requests_running", () => engine.Running, "Sequences being computed.");
        Gauge("num_requests_waiting", () => engine.Waiting, "Requests in the queue.");
        Gauge("kv_cache_usage_perc", () => engine.TotalPages == 0 ? 0 : 1 - engine.FreePages / (double)engine.TotalPages, "Share of the KV pool in use, 0 to 1.");
        _meter.CreateObservableGauge("gemmaserver.cache_config_info",
            () => new Measurement<double>(1, new("block_size", model.BlockSize.ToString()), new("num_gpu_blocks", engine.TotalPages.ToString())),
            null, "Shape of the KV pool.");
        Total("prompt_tokens", () => engine.PromptTokens, "Prompt tokens of admitted requests, cached ones included.");
        Total("prefix_cache_queries", () => engine.PrefixCacheQueries, "Prompt tokens looked up in the prefix cache.");
        Total("prefix_cache_hits", () => engine.PrefixCacheHits, "Prompt tokens found in the prefix cache.");
        Total("prefix_cache_evictions", () => engine.PrefixCacheEvictions, "Pages of the prefix cache that gave way to others.");
        Total("generation_tokens", () => engine.GeneratedTokens, "Tokens generated.");
        Total("spec_decode_num_drafts", () => engine.DraftSteps, "Times a sequence's guessed tokens were verified.");
        Total("spec_decode_num_draft_tokens", () => engine.Drafts, "Guessed tokens that were verified.");
        Total("spec_decode_num_accepted_tokens", () => engine.AcceptedDrafts, "Guessed tokens that were right.");
        Total("num_preemptions", () => engine.Preemptions, "Sequences that lost their pages and were queued again.");
        Total("admission_rejections", () => engine.Rejected, "Requests refused because the queue was full, or their client's share of it.");
        Total("deadlines_exceeded", () => engine.Finished(FinishReason.Deadline), "Requests whose time was over before the answer was complete.");
        Total("queue_timeouts", () => engine.Finished(FinishReason.QueueTimeout), "Requests that waited too long for a place.");
        Total("engine_steps", () => engine.Steps, "Forward passes.");
        Total("engine_rows", () => engine.Rows, "Rows computed in forward passes.");
        Seconds("engine_model", () => engine.ModelSeconds, "Seconds of the engine thread in the model.");
        Seconds("engine_overhead", () => engine.OverheadSeconds, "Seconds of the engine thread outside the model, in turns in which a step ran.");
        if (OperatingSystem.IsLinux()) AddThreadTimes();
        Total("engine_failures", () => engine.Failures, "Failures that the engine survived.");
    }

    public void Dispose()
    {
        Exporter.Dispose();
        _meter.Dispose();
    }

    private void Gauge(string name, Func<double> value, string help) => _meter.CreateObservableGauge($"gemmaserver.{name}", value, null, help);

    private void Total(string name, Func<long> value, string help) => _meter.CreateObservableCounter($"gemmaserver.{name}", value, null, help);

    private void Seconds(string name, Func<double> value, string help) => _meter.CreateObservableCounter($"gemmaserver.{name}", value, "s", help);

    private void AddThreadTimes()
    {
        ThreadTimes threads = new();
        _meter.CreateObservableCounter("gemmaserver.thread_cpu",
            () => threads.Read().Select(static t => new Measurement<double>(t.Seconds, new KeyValuePair<string, object?>("role", t.Role))),
            "s", "CPU seconds of the process by what its threads are for.");
    }

    private Histogram<double> Seconds(string name, string help, double[] buckets) => GenAi($"gemmaserver.{name}", "s", help, buckets);

    private Histogram<double> GenAi(string name, string unit, string help, double[] buckets) =>
        _meter.CreateHistogram(name, unit, help, null, new InstrumentAdvice<double> { HistogramBucketBoundaries = buckets });

    private Histogram<long> Count(string name, string help, double[] buckets) =>
        _meter.CreateHistogram($"gemmaserver.{name}", null, help, null,
            new InstrumentAdvice<long> { HistogramBucketBoundaries = [.. buckets.Select(static b => (long)b)] });
}
