using GemmaServer.Compute;
using GemmaServer.Engine;

namespace GemmaServer.GoldenTests;

/// <summary>Streams that could run together do run together: every one of them has a row in every step.</summary>
public class BatchTests
{
    private const int Streams = 16;

    public static IEnumerable<object[]> Devices() => GoldenDevices.Each(slow: false, simulated: false);

    [Theory]
    [MemberData(nameof(Devices))]
    public void Sixteen_equal_streams_are_decoded_together_from_the_first_step_to_the_last(string device)
    {
        const int tokens = 60;
        using ServingHarness serving = new(GoldenModel.Open("tiny-e", Type()).Path, device: device);
        Generation[] streams = [.. Enumerable.Range(0, Streams).Select(i => serving.Submit(serving.Prompt(3, i), new SamplingParams { Temperature = 0 }, tokens))];
        while (serving.Engine.Step())
        {
        }
        EngineMetrics metrics = serving.Engine.Metrics;
        Assert.Equal(Streams * tokens, metrics.GeneratedTokens);
        Assert.All(streams, static s => Assert.Equal(FinishReason.Length, s.Finish));

        // Each step gives a sequence at most one token here, so this is the mean number of sequences that decoded in a step.
        double meanBatch = metrics.GeneratedTokens / (double)metrics.Steps;
        Assert.InRange(meanBatch, 15, Streams);
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void Sixteen_streams_of_different_prompts_fill_every_step_while_all_of_them_last(string device)
    {
        using ServingHarness serving = new(GoldenModel.Open("tiny-e", Type()).Path, device: device);
        Generation[] streams =
            [.. Enumerable.Range(0, Streams).Select(i => serving.Submit(serving.Prompt(5 + 6 * i, i), new SamplingParams { Temperature = 1, Seed = (ulong)i }, 80))];
        EngineMetrics metrics = serving.Engine.Metrics;
        while (!streams.All(static s => s.GeneratedTokens > 0)) Assert.True(serving.Engine.Step());

        int together = 0;
        (long steps, long rows) = (metrics.Steps, metrics.Rows);
        // An asynchronous device is given a step before the last one is known: it leaves out who needs no more.
        while (streams.All(static s => s.GeneratedTokens < 78))
        {
            Assert.True(serving.Engine.Step());
            together++;
            Assert.Equal((steps + together, rows + together * Streams), (metrics.Steps, metrics.Rows));
        }
        Assert.True(together > 50, $"All ran for {together} steps.");
        while (serving.Engine.Step())
        {
        }
        Assert.All(streams, static s => Assert.Equal(80, s.GeneratedTokens));
    }

    private static string Type() => (string)ServingHarness.Models().First(static m => (string)m[0] == "tiny-e")[1];
}
