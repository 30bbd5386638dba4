using System.Text.Json.Nodes;

namespace GemmaServer;

/// <summary>
/// Looks at the target's <c>/metrics</c> before, while and after it is measured, when they are a GemmaServer's. Others are
/// left alone after the first look.
/// </summary>
/// <param name="client">Whom to ask.</param>
/// <param name="streams">How many streams run together at most when each request is sent once at the start; 0 when that is not so.</param>
internal sealed class ServerWatch(StreamClient client, int streams)
{
    // A look costs the server about what fifty tokens cost it.
    private static readonly TimeSpan s_interval = TimeSpan.FromMilliseconds(500);

    private ServerSample? _before, _after, _firstFull, _lastFull;

    /// <summary>The whole run; null when the server does not tell.</summary>
    public ServerFigures? Whole => ServerFigures.Between(_before, _after);

    /// <summary>Between the first and the last look that found all streams in the batch: as none starts again, all ran in between.</summary>
    public ServerFigures? AllRunning => ServerFigures.Between(_firstFull, _lastFull);

    /// <summary>Measures a run; its failure is the caller's.</summary>
    public async Task<T> AroundAsync<T>(Func<Task<T>> run, CancellationToken cancellation)
    {
        _before = ServerSample.Read(await client.MetricsAsync(cancellation));
        if (_before is null) return await run();
        using CancellationTokenSource ended = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        Task looking = streams > 0 ? LookAsync(ended.Token) : Task.CompletedTask;
        try
        {
            return await run();
        }
        finally
        {
            await ended.CancelAsync();
            await looking;
            // Also after Ctrl+C: what ran until then is to be reported.
            _after = ServerSample.Read(await client.MetricsAsync(CancellationToken.None));
        }
    }

    public JsonObject? ToJson()
    {
        if (Whole is not { } whole) return null;
        JsonObject json = whole.ToJson();
        json["all_streams"] = AllRunning?.ToJson();
        return json;
    }

    public void WriteTo(TextWriter writer)
    {
        if (Whole is not { } whole) return;
        TextTable table = new("server", "steps", "mean batch", "engine µs/step", "in the model", "HTTP CPU µs/token");
        whole.AddTo(table, "whole run");
        AllRunning?.AddTo(table, $"while all {streams} ran");
        table.WriteTo(writer);
    }

    private async Task LookAsync(CancellationToken ended)
    {
        try
        {
            while (true)
            {
                await Task.Delay(s_interval, ended);
                if (ServerSample.Read(await client.MetricsAsync(ended)) is not { } sample || sample.Running < streams) continue;
                _firstFull ??= sample;
                _lastFull = sample;
            }
        }
        catch (OperationCanceledException)
        {
            // The run is over.
        }
    }
}
