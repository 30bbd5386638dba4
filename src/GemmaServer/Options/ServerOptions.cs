using System.ComponentModel.DataAnnotations;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>How keys and values are stored.</summary>
public enum KvCacheChoice
{
    /// <summary>The device's fast choice.</summary>
    Auto,

    /// <summary>32-bit floats: exact.</summary>
    F32,

    /// <summary>IEEE half.</summary>
    F16,

    /// <summary>bfloat16.</summary>
    BF16,

    /// <summary>Blocks of 32 signed bytes with one half scale.</summary>
    Q8_0,
}

/// <summary>In what arithmetic activations meet quantized weights.</summary>
public enum ActivationChoice
{
    /// <summary>The device's fast choice.</summary>
    Auto,

    /// <summary>32-bit floats: exact.</summary>
    F32,

    /// <summary>8-bit integers with a scale per block: fast.</summary>
    Int8,
}

/// <summary>Whether the processor's tile registers are used.</summary>
public enum AmxChoice
{
    /// <summary>Where processor and system have them.</summary>
    Auto,

    /// <summary>Never.</summary>
    Off,
}

/// <summary>Under which names a thought is sent.</summary>
public enum ReasoningField
{
    /// <summary>Both <c>reasoning_content</c> and <c>reasoning</c>: every known client reads one of them.</summary>
    Both,

    /// <summary>Only <c>reasoning_content</c> (DeepSeek, llama.cpp, SGLang).</summary>
    ReasoningContent,

    /// <summary>Only <c>reasoning</c> (vLLM, OpenRouter).</summary>
    Reasoning,
}

/// <summary>How log lines look.</summary>
public enum LogFormat
{
    /// <summary>For people on a terminal, JSON everywhere else.</summary>
    Auto,

    /// <summary>One JSON object a line.</summary>
    Json,

    /// <summary>For people.</summary>
    Text,
}

/// <summary>
/// What can be set, in one place. Each setting comes from the command line (<c>--max-model-len</c>), else the environment
/// (<c>GEMMASERVER_MAX_MODEL_LEN</c>), else <c>appsettings.json</c> (<c>"GemmaServer": { "max-model-len": 8192 }</c>), else the
/// default here. Lists are repeated flags, or separated by commas in the environment.
/// </summary>
public sealed class ServerOptions
{
    /// <summary>A GGUF file (the first one of a split model) or a Hugging Face folder. Default: the embedded demo model.</summary>
    [Flag("model", "GGUF file or Hugging Face folder; the embedded demo when absent")]
    public string? Model { get; init; }

    /// <summary>Names under which clients may ask for the model; the first is shown. Default: the file's or folder's name, <c>gemma4-demo</c> for the demo.</summary>
    [Flag("served-model-name", "name for clients; may be given several times")]
    public IReadOnlyList<string> ServedModelName { get; init; } = [];

    /// <summary>Address to listen on. Default 127.0.0.1, so that nothing is exposed by accident; the container image sets 0.0.0.0 as vLLM does.</summary>
    [Flag("host", "address to listen on")]
    public string Host { get; init; } = "127.0.0.1";

    /// <summary>TCP port; 0 takes a free one. Default 8000, as vLLM.</summary>
    [Flag("port", "TCP port; 0 takes a free one"), Range(0, 65535)]
    public int Port { get; init; } = 8000;

    /// <summary>Keys that clients must show (<c>Authorization: Bearer</c>, <c>x-api-key</c> or <c>api-key</c>). Default: none, everybody may ask.</summary>
    [Flag("api-key", "key that clients must show; may be given several times", Secret = true)]
    public IReadOnlyList<string> ApiKey { get; init; } = [];

    /// <summary>Key of the admin routes (<c>/drain</c>); it opens the others too. Default: none, and admin routes are closed.</summary>
    [Flag("admin-key", "key of the admin routes, closed without one", Secret = true)]
    public string? AdminKey { get; init; }

    /// <summary>Most tokens of prompt and answer together. Default: what the checkpoint was trained for, less where memory does not hold it.</summary>
    [Flag("max-model-len", "tokens of prompt and answer together; fitted to memory when absent"), Range(16, 1 << 24)]
    public int? MaxModelLen { get; init; }

    /// <summary>Sequences computed together. Default 256, as vLLM's max_num_seqs.</summary>
    [Flag("max-num-seqs", "sequences computed together"), Range(1, 4096)]
    public int MaxNumSeqs { get; init; } = 256;

    /// <summary>Whether a prompt's beginning that was computed before is used again. Default true, as vLLM.</summary>
    [Flag("enable-prefix-caching", "use what was computed of a prompt before")]
    public bool EnablePrefixCaching { get; init; } = true;

    /// <summary>
    /// Rows in one step, so the size of prefill chunks. Default 512, as llama.cpp's ubatch: on a CPU a bigger chunk computes no
    /// faster and holds up the sequences that decode beside it.
    /// </summary>
    [Flag("max-num-batched-tokens", "rows in one step"), Range(1, 1 << 20)]
    public int MaxNumBatchedTokens { get; init; } = 512;

    /// <summary>Positions in one page of the layer group that needs most bytes per token; lighter groups get multiples of it. Default 16, as vLLM.</summary>
    [Flag("block-size", "positions in one KV page"), Range(1, 1024)]
    public int BlockSize { get; init; } = 16;

    /// <summary>Bytes of the KV pool; suffixes K, M, G. Default: half of the memory left beside the weights, or less where every sequence fits at full length; on a GPU all that --gpu-memory-utilization leaves, which bounds it there.</summary>
    [Flag("kv-cache-memory", "bytes of the KV pool (suffix K, M, G)", Bytes = true), Range(1L << 16, 1L << 46)]
    public long? KvCacheMemory { get; init; }

    /// <summary>Element type of the KV cache: auto, f32, f16, bf16 or q8_0. Default auto: the device's fast choice (f16); f32 is exact.</summary>
    [Flag("kv-cache-dtype", "element type of the KV cache")]
    public KvCacheChoice KvCacheDtype { get; init; }

    /// <summary>Arithmetic of quantized matrix products: auto, f32 or int8. Default auto: the device's fast choice (int8 on the CPU, f32 on GPUs); f32 is exact.</summary>
    [Flag("activations", "arithmetic of quantized matrix products")]
    public ActivationChoice Activations { get; init; }

    /// <summary>What guesses tokens ahead: the model's MTP assistant (a GGUF file or Hugging Face folder), or <c>ngram</c> for prompt lookup. Default: nothing does.</summary>
    [Flag("speculative-model", "MTP assistant that guesses tokens ahead, or ngram for prompt lookup")]
    public string? SpeculativeModel { get; init; }

    /// <summary>Most tokens guessed in a step for one sequence. Default by size, as vLLM's recipes: E2B 2, E4B and 26B-A4B 4, 12B and 31B 8, others 4; prompt lookup 8.</summary>
    [Flag("num-speculative-tokens", "tokens guessed in a step; by size when absent"), Range(1, 32)]
    public int? NumSpeculativeTokens { get; init; }

    /// <summary>
    /// Where the model is computed: auto, cpu, cuda, cuda:N, opencl, opencl:N. Default auto: the first CUDA device if its
    /// driver and kernel compiler work, else the CPU; OpenCL only when asked for.
    /// </summary>
    [Flag("device", "where the model is computed: auto, cpu, cuda, cuda:N, opencl or opencl:N")]
    public string Device { get; init; } = "auto";

    /// <summary>Share of a GPU's memory that weights, buffers and KV pool take together. Default 0.9, as vLLM.</summary>
    [Flag("gpu-memory-utilization", "share of a GPU's memory that is used"), Range(0.01, 1.0)]
    public double GpuMemoryUtilization { get; init; } = 0.9;

    /// <summary>
    /// On GPUs, one kernel for all batch sizes, so that a row's result does not depend, bit for bit, on what is computed beside it.
    /// Default off: faster kernels by batch size. The CPU is always so.
    /// </summary>
    [Flag("batch-invariant", "on GPUs, results that do not depend on the batch, bit for bit")]
    public bool BatchInvariant { get; init; }

    /// <summary>
    /// Whether a GPU runs steps of all sizes before the server is ready, so that no request waits for a kernel's compilation.
    /// Default true. The CPU has nothing to compile.
    /// </summary>
    [Flag("warm-up", "on GPUs, compile every kernel before the server is ready")]
    public bool WarmUp { get; init; } = true;

    /// <summary>Worker threads of the CPU device. Default: the physical cores that the process may use, or the length of a CPU list.</summary>
    [Flag("threads", "worker threads of the CPU device"), Range(1, 1024)]
    public int? Threads { get; init; }

    /// <summary>
    /// Where worker threads run (Linux): auto, none, or a CPU for each as in 0-3,8-11. Default auto: with several NUMA nodes each
    /// worker stays on its node, with one nothing is pinned.
    /// </summary>
    [Flag("cpu-affinity", "where worker threads run: auto, none or CPUs as in 0-3,8-11")]
    public string CpuAffinity { get; init; } = "auto";

    /// <summary>AMX kernels of the CPU device: auto or off; true and false mean the same. Default auto: where the processor has AMX and the system allows it.</summary>
    [Flag("amx", "AMX kernels of the CPU device")]
    public AmxChoice Amx { get; init; }

    /// <summary>Seed of requests that bring none. Default: a fresh random one for each request.</summary>
    [Flag("seed", "seed of requests that bring none"), Range(0, long.MaxValue)]
    public long? Seed { get; init; }

    /// <summary>Flavour of the prompt format: small (E2B, E4B) or large (the others). Default: by the checkpoint.</summary>
    [Flag("chat-template", "flavour of the prompt format")]
    public TemplateFlavour? ChatTemplate { get; init; }

    /// <summary>Under which names a thought is sent: both, reasoning-content or reasoning. Default both.</summary>
    [Flag("reasoning-field", "name of the thought in answers")]
    public ReasoningField ReasoningField { get; init; }

    /// <summary>How long running requests may go on after SIGTERM; seconds or 500ms, 30s, 2m. Default 120 s: most answers end in it.</summary>
    [Flag("drain-timeout", "how long running requests may go on after SIGTERM"), Range(0, 86400)]
    public TimeSpan DrainTimeout { get; init; } = TimeSpan.FromSeconds(120);

    /// <summary>Requests that may wait for a place; one more is answered with 503. Default 1024: four full batches.</summary>
    [Flag("max-queue", "requests that may wait"), Range(1, 1 << 20)]
    public int MaxQueue { get; init; } = 1024;

    /// <summary>Requests of one client that may wait for a place; one more is answered with 429; 0 for no limit of its own. Default 0.</summary>
    [Flag("max-queue-per-key", "requests of one client that may wait; 0 for no limit of its own"), Range(0, 1 << 20)]
    public int MaxQueuePerKey { get; init; }

    /// <summary>How long a request may wait for a place; seconds or 500ms, 30s, 2m; 0 waits for ever. Default 0.</summary>
    [Flag("queue-timeout", "how long a request may wait; 0 for ever"), Range(0, 86400)]
    public TimeSpan QueueTimeout { get; init; }

    /// <summary>How long a request may take in all, whatever it asks for itself; seconds or 500ms, 30s, 2m; 0 for ever. Default 0.</summary>
    [Flag("request-timeout", "how long a request may take; 0 for ever"), Range(0, 86400)]
    public TimeSpan RequestTimeout { get; init; }

    /// <summary>Largest request body in bytes; suffixes K, M, G. Default 32M: media in base64 fit, and reading one stays well below a second.</summary>
    [Flag("body-limit", "largest request body in bytes (suffix K, M, G)", Bytes = true), Range(1024L, 1L << 31)]
    public long BodyLimit { get; init; } = 32L << 20;

    /// <summary>Responses kept in memory for <c>previous_response_id</c>, 64 MiB at most; 0 keeps none. Default 1000: conversations of late.</summary>
    [Flag("response-store", "responses kept for previous_response_id; 0 for none"), Range(0, 1 << 20)]
    public int ResponseStore { get; init; } = 1000;

    /// <summary>How log lines look: auto, json or text. Default auto: text on a terminal, json everywhere else.</summary>
    [Flag("log-format", "how log lines look")]
    public LogFormat LogFormat { get; init; }

    /// <summary>Least level that is logged: trace, debug, information, warning, error, critical or none. Default information.</summary>
    [Flag("log-level", "least level that is logged")]
    public LogLevel LogLevel { get; init; } = LogLevel.Information;

    /// <summary>OpenTelemetry collector that traces and metrics are sent to. Default: OTEL_EXPORTER_OTLP_ENDPOINT, and nothing without it.</summary>
    [Flag("otlp-endpoint", "OpenTelemetry collector, e.g. http://localhost:4317")]
    public Uri? OtlpEndpoint { get; init; }

    /// <summary>Answers 400 to members that no request has. Default off: clients of other servers send many.</summary>
    [Flag("strict-fields", "refuse unknown members of requests")]
    public bool StrictFields { get; init; }

    /// <summary>Serves the Swagger UI under <c>/swagger</c>. Default on.</summary>
    [Flag("enable-swagger", "serve the Swagger UI under /swagger")]
    public bool EnableSwagger { get; init; } = true;

    /// <summary>Serves the playground at <c>/</c>. Default on.</summary>
    [Flag("enable-playground", "serve a chat page at /")]
    public bool EnablePlayground { get; init; } = true;
}
