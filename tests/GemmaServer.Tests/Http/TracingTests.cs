using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.Logging;

namespace GemmaServer.Tests.Http;

public sealed class TracingTests
{
    [Fact]
    public async Task A_request_is_a_span_under_the_callers_trace_and_is_measured_under_GenAI_names()
    {
        const string model = "traced";
        ConcurrentBag<Activity> spans = [];
        using ActivityListener activities = new()
        {
            ShouldListenTo = static s => s.Name is "GemmaServer" or "Microsoft.AspNetCore",
            Sample = static (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = a => spans.Add(a),
        };
        ActivitySource.AddActivityListener(activities);
        ConcurrentBag<(string Name, double Value, string? Kind)> measurements = [];
        using MeterListener meters = new();
        meters.InstrumentPublished = static (i, l) =>
        {
            if (i.Meter.Name == "GemmaServer" && i.Name.StartsWith("gen_ai.", StringComparison.Ordinal)) l.EnableMeasurementEvents(i);
        };
        void Take(Instrument i, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
        {
            Dictionary<string, object?> all = tags.ToArray().ToDictionary(static t => t.Key, static t => t.Value);
            if (Equals(all.GetValueOrDefault("gen_ai.request.model"), model)) measurements.Add((i.Name, value, all.GetValueOrDefault("gen_ai.token.type") as string));
        }
        meters.SetMeasurementEventCallback<double>((i, v, t, _) => Take(i, v, t));
        meters.SetMeasurementEventCallback<long>((i, v, t, _) => Take(i, v, t));
        meters.Start();

        await using TestHost host = await TestHost.StartAsync(new ServerOptions { Port = 0, LogLevel = LogLevel.None, ServedModelName = [model] });
        using HttpRequestMessage request = new(HttpMethod.Post, "/v1/chat/completions") { Content = new StringContent(TestHost.Chat("hello"), null, "application/json") };
        request.Headers.Add("traceparent", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01");
        (await host.Client.SendAsync(request)).EnsureSuccessStatusCode();
        await TestHost.UntilAsync(() => spans.Any(static s => s.OperationName == $"chat {model}") && measurements.Any(static m => m.Kind == "output"), "the span is there");

        Activity span = Assert.Single(spans, static s => s.OperationName == $"chat {model}");
        Assert.Equal("0123456789abcdef0123456789abcdef", span.TraceId.ToHexString());
        Dictionary<string, object?> tags = span.TagObjects.ToDictionary(static t => t.Key, static t => t.Value);
        Assert.Equal("chat", tags["gen_ai.operation.name"]);
        Assert.Equal(model, tags["gen_ai.request.model"]);
        Assert.Equal(["stop"], (string[])tags["gen_ai.response.finish_reasons"]!);
        Assert.Equal(measurements.Single(static m => m.Kind == "input").Value, (int)tags["gen_ai.usage.input_tokens"]!);
        Assert.Equal(measurements.Single(static m => m.Kind == "output").Value, (int)tags["gen_ai.usage.output_tokens"]!);
        foreach (string name in (string[])["gen_ai.server.request.duration", "gen_ai.server.time_to_first_token", "gen_ai.server.time_per_output_token"])
            Assert.True(measurements.Single(m => m.Name == name).Value > 0);
    }
}
