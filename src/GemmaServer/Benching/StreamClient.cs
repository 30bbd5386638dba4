using System.Diagnostics;
using System.Net.Http.Headers;
using System.Text.Json;

namespace GemmaServer;

/// <summary>What one streamed request came to; times in milliseconds.</summary>
internal sealed class ServeOutcome
{
    /// <summary>Null when the answer was complete; otherwise a kind that can be counted: "http 503", "timeout".</summary>
    public string? Error { get; set; }

    /// <summary>From sending to the first piece of the answer; NaN when none came.</summary>
    public double FirstToken { get; set; } = double.NaN;

    /// <summary>Between one piece and the next. Most servers send a token a piece.</summary>
    public List<double> Gaps { get; } = [];

    /// <summary>From sending to the end of the stream.</summary>
    public double EndToEnd { get; set; }

    /// <summary>From the server's usage; 0 when it sends none.</summary>
    public int PromptTokens { get; set; }

    /// <summary>From the server's usage: prompt tokens that it had in its cache.</summary>
    public int CachedTokens { get; set; }

    /// <summary>From the server's usage, otherwise the number of pieces.</summary>
    public int OutputTokens { get; set; }

    public bool HasUsage { get; set; }
}

/// <summary>Sends requests to an OpenAI-compatible server and takes the moments of its answer.</summary>
internal sealed class StreamClient : IDisposable
{
    private readonly HttpClient _http;
    private readonly TimeSpan _timeout;

    /// <param name="url">With or without <c>/v1</c>.</param>
    /// <param name="apiKey">Sent as a bearer token; null sends none.</param>
    /// <param name="timeout">For one request from sending to the end.</param>
    public StreamClient(Uri url, string? apiKey, TimeSpan timeout)
    {
        string root = url.AbsoluteUri.TrimEnd('/');
        if (root.EndsWith("/v1", StringComparison.Ordinal)) root = root[..^3];
        _http = new HttpClient(new SocketsHttpHandler { MaxConnectionsPerServer = int.MaxValue }) { BaseAddress = new Uri(root + "/"), Timeout = Timeout.InfiniteTimeSpan };
        if (apiKey is not null) _http.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Bearer", apiKey);
        _timeout = timeout;
    }

    /// <summary>The first model that the server lists.</summary>
    /// <exception cref="HttpRequestException">It cannot be reached, or answers with an error.</exception>
    public async Task<string> FirstModelAsync(CancellationToken cancellation)
    {
        using HttpResponseMessage response = await _http.GetAsync(new Uri("v1/models", UriKind.Relative), cancellation);
        response.EnsureSuccessStatusCode();
        using JsonDocument list = await JsonDocument.ParseAsync(await response.Content.ReadAsStreamAsync(cancellation), default, cancellation);
        return list.RootElement.GetProperty("data")[0].GetProperty("id").GetString() ?? "";
    }

    /// <summary>What stands under <c>/metrics</c>; null when there is nothing to read, for whatever reason.</summary>
    public async Task<string?> MetricsAsync(CancellationToken cancellation)
    {
        using CancellationTokenSource patience = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        patience.CancelAfter(TimeSpan.FromSeconds(10));
        try
        {
            return await _http.GetStringAsync(new Uri("metrics", UriKind.Relative), patience.Token);
        }
        catch (Exception e) when (e is HttpRequestException or IOException or InvalidOperationException || (e is OperationCanceledException && !cancellation.IsCancellationRequested))
        {
            return null;
        }
    }

    /// <summary>Sends one request; everything but a cancellation by the caller becomes an outcome.</summary>
    public async Task<ServeOutcome> SendAsync(string path, byte[] body, CancellationToken cancellation)
    {
        ServeOutcome outcome = new();
        using CancellationTokenSource patience = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        patience.CancelAfter(_timeout);
        long start = Stopwatch.GetTimestamp();
        try
        {
            using HttpRequestMessage request = new(HttpMethod.Post, path) { Content = new ByteArrayContent(body) };
            request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
            using HttpResponseMessage response = await _http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, patience.Token);
            if (response.IsSuccessStatusCode) await ReadAsync(response, outcome, start, patience.Token);
            else outcome.Error = $"http {(int)response.StatusCode}";
        }
        catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
        {
            outcome.Error = "timeout";
        }
        catch (HttpRequestException e)
        {
            outcome.Error = e.HttpRequestError == HttpRequestError.ConnectionError ? "no connection" : $"connection broke ({e.HttpRequestError})";
        }
        catch (IOException)
        {
            outcome.Error = "connection broke";
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException)
        {
            outcome.Error = "not an event of a completion";
        }
        outcome.EndToEnd = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
        return outcome;
    }

    public void Dispose() => _http.Dispose();

    private static async Task ReadAsync(HttpResponseMessage response, ServeOutcome outcome, long start, CancellationToken cancellation)
    {
        using StreamReader lines = new(await response.Content.ReadAsStreamAsync(cancellation));
        long last = 0;
        int pieces = 0;
        bool isDone = false;
        while (!isDone && await lines.ReadLineAsync(cancellation) is { } line)
        {
            if (!line.StartsWith("data:", StringComparison.Ordinal)) continue;
            string data = line[5..].Trim();
            if (data == "[DONE]")
            {
                isDone = true;
                break;
            }
            long now = Stopwatch.GetTimestamp();
            using JsonDocument json = JsonDocument.Parse(data);
            if (json.RootElement.TryGetProperty("error", out JsonElement error) && error.ValueKind != JsonValueKind.Null)
            {
                string? message = error.ValueKind == JsonValueKind.String ? error.GetString()
                    : error.ValueKind == JsonValueKind.Object && error.TryGetProperty("message", out JsonElement text) ? text.ToString() : null;
                outcome.Error = string.IsNullOrWhiteSpace(message) ? "error in the stream" : $"error in the stream ({message.Trim()})";
                return;
            }
            ReadUsage(json.RootElement, outcome);
            if (!HasContent(json.RootElement)) continue;
            pieces++;
            if (last == 0) outcome.FirstToken = Stopwatch.GetElapsedTime(start, now).TotalMilliseconds;
            else outcome.Gaps.Add(Stopwatch.GetElapsedTime(last, now).TotalMilliseconds);
            last = now;
        }
        if (!outcome.HasUsage) outcome.OutputTokens = pieces;
        if (!isDone) outcome.Error = "stream cut off";
    }

    private static void ReadUsage(JsonElement root, ServeOutcome outcome)
    {
        if (!root.TryGetProperty("usage", out JsonElement usage) || usage.ValueKind != JsonValueKind.Object) return;
        outcome.HasUsage = true;
        outcome.PromptTokens = Int(usage, "prompt_tokens");
        outcome.OutputTokens = Int(usage, "completion_tokens");
        if (usage.TryGetProperty("prompt_tokens_details", out JsonElement details) && details.ValueKind == JsonValueKind.Object)
            outcome.CachedTokens = Int(details, "cached_tokens");
    }

    private static int Int(JsonElement holder, string name) => holder.TryGetProperty(name, out JsonElement e) && e.TryGetInt32(out int value) ? value : 0;

    /// <summary>Text, thought or call: anything that the model said. The first chunk of a chat has only a role.</summary>
    private static bool HasContent(JsonElement root)
    {
        if (!root.TryGetProperty("choices", out JsonElement choices) || choices.ValueKind != JsonValueKind.Array) return false;
        foreach (JsonElement choice in choices.EnumerateArray())
        {
            if (choice.TryGetProperty("text", out JsonElement text) && IsText(text)) return true;
            if (!choice.TryGetProperty("delta", out JsonElement delta) || delta.ValueKind != JsonValueKind.Object) continue;
            foreach (JsonProperty member in delta.EnumerateObject())
            {
                if (member.Name is "content" or "reasoning_content" or "reasoning" or "refusal" && IsText(member.Value)) return true;
                if (member.Name == "tool_calls" && member.Value.ValueKind == JsonValueKind.Array) return true;
            }
        }
        return false;
    }

    private static bool IsText(JsonElement value) => value.ValueKind == JsonValueKind.String && value.GetString()!.Length > 0;
}
