using System.Globalization;
using GemmaServer.Tests;
using Xunit.Abstractions;

namespace GemmaServer.GoldenTests;

/// <summary>Random traffic for long: real engines on their own threads, clients on theirs, too few pages for all, tokens guessed.</summary>
/// <remarks>
/// GEMMASERVER_SOAK is the number of requests, GEMMASERVER_SOAK_SEED repeats a run's requests. When they meet in the engine, and
/// when a cancellation does, is up to the clock.
/// </remarks>
public class SoakTests(ITestOutputHelper output)
{
    private const int Wave = 200;       // requests between two idle moments
    private const int SparePages = 36;
    private const int MaxQueue = 22, MaxQueuePerClient = 14;

    [Fact]
    public async Task Random_traffic_gets_the_answers_of_one_request_at_a_time_and_leaves_every_page_in_its_place()
    {
        int requests = Setting("GEMMASERVER_SOAK", 2000);
        int seed = Setting("GEMMASERVER_SOAK_SEED", Environment.TickCount & int.MaxValue);
        Tell($"GEMMASERVER_SOAK={requests} GEMMASERVER_SOAK_SEED={seed}");

        string path = GoldenModel.Open("tiny-e", "Q4_0").Path;
        using SoakTraffic traffic = new(path, seed);
        // Guesses cost little here, so that there are many, right and wrong, whatever the machine.
        using SoakEngine lookup = new("prompt lookup", new ServingHarness(
            path, SparePages, SoakTraffic.MaxLength, promptLookup: 8, draftCost: 0, maxQueue: MaxQueue, maxQueuePerClient: MaxQueuePerClient));
        using SoakEngine drafter = new("drafter", new ServingHarness(
            path, SparePages, SoakTraffic.MaxLength, drafter: GoldenData.At("tiny-e-assistant", "tiny-e-assistant-Q8_0.gguf"),
            draftCost: 0.04, maxQueue: MaxQueue, maxQueuePerClient: MaxQueuePerClient));
        // They take turns, so that both are asked the same things.
        for (int turn = 0; lookup.Asked + drafter.Asked < requests; turn++)
        {
            SoakRequest[] wave = Next(traffic, Math.Min(Wave, requests - lookup.Asked - drafter.Asked));
            await (turn % 2 == 0 ? lookup : drafter).ServeAsync(wave, traffic.Plain());
        }

        foreach (SoakEngine engine in (SoakEngine[])[lookup, drafter])
        {
            await engine.EndAsync(traffic.Plain());
            Tell($"{engine}");
        }
        Tell($"{traffic.Distinct} distinct answers, each compared with the one given alone");
        lookup.AssertEventful();
        drafter.AssertEventful();
    }

    /// <summary>At least so many requests, by choices.</summary>
    private static SoakRequest[] Next(SoakTraffic traffic, long count)
    {
        List<SoakRequest> wave = [];
        for (long made = 0; made < count; made += wave[^1].Case.Choices) wave.Add(traffic.Next());
        return [.. wave];
    }

    private void Tell(string text)
    {
        output.WriteLine(text);
        Console.WriteLine($"Soak: {text}");
    }

    private static int Setting(string name, int absent) =>
        Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? int.Parse(value, CultureInfo.InvariantCulture) : absent;
}
