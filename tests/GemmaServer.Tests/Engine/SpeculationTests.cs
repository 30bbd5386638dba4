using GemmaServer.Compute;
using GemmaServer.Engine;

namespace GemmaServer.Tests.Engine;

/// <summary>Guesses save steps and change nothing else.</summary>
public sealed class SpeculationTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Good_guesses_of_the_runner_save_steps_and_the_answers_stay_the_same(bool asynchronous)
    {
        using EngineHarness plain = new(asynchronous);
        using EngineHarness drafting = new(asynchronous, drafts: 4);
        GenerationRequest[] requests = [.. Enumerable.Range(0, 6).Select(i => drafting.Request(
            EngineHarness.Prompt(10 + i, i), 60, new SamplingParams { Seed = (ulong)i, PresencePenalty = i % 2, Logprobs = i % 3 - 1 }))];
        (int Token, float Logprob, int Tops)[][] expected = [.. requests.Select(r => plain.Submit(r)).ToArray().Select(g => { plain.RunToEnd(); return Events(g); })];

        Generation[] running = [.. requests.Select(r => drafting.Submit(r))];
        drafting.RunToEnd();
        for (int i = 0; i < running.Length; i++)
        {
            Assert.Equal(drafting.Expected(requests[i]), expected[i].Select(e => e.Token));
            Assert.Equal(expected[i], Events(running[i]));
        }
        EngineMetrics metrics = drafting.Engine.Metrics;
        Assert.True(metrics.AcceptedDrafts > 100 && metrics.Drafts > metrics.AcceptedDrafts);
        Assert.True(metrics.Steps < 45, $"{metrics.Steps} steps for 60 tokens each");
        Assert.Equal(60 * 6, metrics.GeneratedTokens);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Repeating_text_is_guessed_from_itself(bool asynchronous)
    {
        using EngineHarness engine = new(asynchronous, maxLength: 300, promptLookup: 8);
        GenerationRequest request = engine.Request(EngineHarness.Prompt(12), 200, new SamplingParams { Seed = 3, TopK = 5 });
        Generation generation = engine.Submit(request);
        engine.RunToEnd();
        EngineHarness.AssertEnded(generation, FinishReason.Length, engine.Expected(request));
        Assert.True(engine.Engine.Metrics.Steps < 130, $"{engine.Engine.Metrics.Steps} steps for 200 tokens, {engine.Engine.Metrics.AcceptedDrafts} guesses right");
    }

    [Theory]
    [InlineData(false, 0, 8)]
    [InlineData(false, 4, 0)]
    [InlineData(true, 0, 0)]
    [InlineData(true, 4, 0)]
    public void Answers_keep_to_their_constraint_with_guesses_as_without(bool asynchronous, int drafts, int promptLookup)
    {
        using EngineHarness engine = new(asynchronous, maxLength: 200, drafts: drafts, promptLookup: promptLookup);
        ThirdsConstraint[] constraints = [.. Enumerable.Range(0, 6).Select(_ => new ThirdsConstraint(FakeModel.Vocabulary))];
        GenerationRequest[] requests = [.. constraints.Select((c, i) => engine.Request(
            EngineHarness.Prompt(9 + i, i), 150, new SamplingParams { Seed = (ulong)i, TopK = i % 2 * 4, PresencePenalty = i % 3 }, constraint: c))];
        Generation[] running = [.. requests.Select(r => engine.Submit(r))];
        engine.RunToEnd();
        for (int i = 0; i < running.Length; i++) EngineHarness.AssertEnded(running[i], FinishReason.Length, engine.Expected(requests[i]));
        EngineMetrics metrics = engine.Engine.Metrics;
        Assert.NotEqual(engine.Expected(requests[0]), FakeModel.Generate(engine.Plan, requests[0].Prompt, requests[0].Sampling, 150));
        if (drafts + promptLookup == 0) return;
        Assert.True(metrics.AcceptedDrafts > 100, $"{metrics.AcceptedDrafts} of {metrics.Drafts} guesses right");
        Assert.True(constraints.Max(c => c.LongestRewind) > 1);
    }

    [Fact]
    public void What_follows_a_stop_token_among_right_guesses_is_dropped()
    {
        using EngineHarness engine = new(drafts: 5);
        engine.Runner.DraftAccuracy = 100;
        GenerationRequest request = engine.Request(EngineHarness.Prompt(10), 60);
        int[] expected = engine.Expected(request);
        int[] first = [.. Enumerable.Range(20, 30).Where(i => !expected[..i].Contains(expected[i]))];
        Assert.True(first.Length > 12);     // so every place among a step's tokens is met
        Generation[] stopped = [.. first.Select(i => engine.Submit(engine.Request(request.Prompt, 60, request.Sampling, [expected[i]])))];
        Generation[] matched = [.. first.Select(i => engine.Submit(engine.Request(request.Prompt, 60, request.Sampling), token => token == expected[i]))];
        engine.RunToEnd();
        for (int i = 0; i < first.Length; i++)
        {
            EngineHarness.AssertEnded(stopped[i], FinishReason.Stop, expected[..(first[i] + 1)]);
            EngineHarness.AssertEnded(matched[i], FinishReason.Stop, expected[..(first[i] + 1)]);
        }
    }

    [Fact]
    public void The_last_tokens_of_a_limit_are_not_guessed_beyond_it()
    {
        using EngineHarness engine = new(drafts: 8, maxLength: 60);
        engine.Runner.DraftAccuracy = 100;
        for (int limit = 1; limit < 30; limit++)
        {
            GenerationRequest request = engine.Request(EngineHarness.Prompt(30), limit);
            Generation generation = engine.Submit(request);
            engine.RunToEnd();
            EngineHarness.AssertEnded(generation, FinishReason.Length, engine.Expected(request));
        }
        // Every guess was right, so a row whose token nobody may have would be the only way to lose one.
        Assert.Equal(engine.Engine.Metrics.Drafts, engine.Engine.Metrics.AcceptedDrafts);
    }

    [Fact]
    public void Guesses_never_cost_another_sequence_its_row_or_its_pages()
    {
        // As many rows as sequences, then pages for hardly more than these.
        using EngineHarness narrow = new(maxSequences: 8, maxBatchTokens: 8, drafts: 5);
        for (int i = 0; i < 8; i++) narrow.Submit(narrow.Request(EngineHarness.Prompt(1, i), 50));
        narrow.Steps(10);
        Assert.Equal(8, narrow.Runner.MostSequences);
        Assert.Equal(0, narrow.Engine.Metrics.Drafts);      // all rows were taken
        narrow.RunToEnd();

        using EngineHarness tight = new(pages: EngineHarness.PlanOf(0).PagesForSequence(120, 32), drafts: 8);
        GenerationRequest request = tight.Request(EngineHarness.Prompt(20), 100);
        Generation alone = tight.Submit(request);
        tight.RunToEnd();
        EngineHarness.AssertEnded(alone, FinishReason.Length, tight.Expected(request));
        Assert.Equal(0, tight.Engine.Metrics.Preemptions);
    }

    [Fact]
    public void Text_that_cannot_be_predicted_costs_few_rows()
    {
        using EngineHarness lookup = new(maxLength: 300, promptLookup: 8, drafts: 0);
        using EngineHarness wrong = new(maxLength: 300, drafts: 8);
        wrong.Runner.DraftAccuracy = 0;
        foreach (EngineHarness engine in (EngineHarness[])[lookup, wrong])
        {
            for (int i = 0; i < 8; i++) engine.Submit(engine.Request(EngineHarness.Prompt(20, i), 200, new SamplingParams { Seed = (ulong)i }));
            engine.RunToEnd();
            EngineMetrics metrics = engine.Engine.Metrics;
            Assert.True(metrics.Drafts < 0.03 * metrics.Rows, $"{metrics.Drafts} guesses in {metrics.Rows} rows");
        }
        Assert.True(wrong.Engine.Metrics.Drafts > 8);       // it tried, and tries again now and then
    }

    [Fact]
    public void Depth_follows_the_share_of_right_guesses()
    {
        DraftDepth depth = new(8);
        Assert.Equal(1, depth.Next);
        for (int i = 0; i < 20; i++) depth.Committed(depth.Next, depth.Next, cost: 0.2);
        Assert.Equal(8, depth.Next);
        for (int i = 0; i < 40; i++) depth.Committed(depth.Next, 0, cost: 0.2);
        Assert.Equal(0, depth.Next);
        int trials = 0;
        for (int i = 0; i < 1000; i++)
        {
            depth.Committed(depth.Next, 0, cost: 0.2);
            trials += depth.Next;
        }
        Assert.InRange(trials, 8, 10);
        // The text can be predicted again.
        for (int i = 0; i < 400; i++) depth.Committed(depth.Next, depth.Next, cost: 0.2);
        Assert.Equal(8, depth.Next);
        // Rows that cost nearly a token each leave only the first guesses worth it.
        Random random = new(1);
        double sum = 0;
        for (int i = 0; i < 2000; i++)
        {
            int right = 0;
            while (right < depth.Next && random.NextDouble() < 0.85) right++;
            depth.Committed(depth.Next, right, cost: 0.7);
            sum += depth.Next;
        }
        Assert.InRange(sum / 2000, 1, 3.5);     // ln 0.7 / ln 0.85 = 2.2
    }

    [Theory]
    [InlineData(0.010, 0.001, 4, 0.004 / 0.014)]        // bound by memory: four rows cost little more than one
    [InlineData(0.001, 0.010, 4, 0.95)]                 // bound by arithmetic: the most
    [InlineData(0.010, 0.0001, 1, 0.15)]                // nearly free: the least
    public void Cost_of_a_row_is_found_from_steps(double fixedPart, double perRow, int sequences, double expected)
    {
        DraftCost cost = new();
        Assert.Equal(DraftCost.Unknown, cost.Share(sequences));
        for (int i = 0; i < 50; i++) cost.Observe(4, fixedPart + 4 * perRow);
        Assert.Equal(DraftCost.Unknown, cost.Share(sequences));     // one size tells nothing about another
        for (int i = 0; i < 50; i++) cost.Observe(4 + i % 3, fixedPart + (4 + i % 3) * perRow);
        Assert.Equal(expected, cost.Share(sequences), 1e-6);
    }

    [Fact]
    public void Lookup_takes_the_longest_match_and_goes_round_a_period()
    {
        int[] Guess(int count, params int[] tokens)
        {
            NgramIndex index = new(4);
            for (int n = 1; n <= tokens.Length; n++) index.Extend(tokens.AsSpan(0, n));     // token by token, growing on the way
            int[] drafts = new int[count];
            return drafts[..index.Guess(tokens, drafts)];
        }
        Assert.Empty(Guess(4, 1, 2, 3, 4, 5, 6, 7));
        Assert.Empty(Guess(4, 1, 2));
        Assert.Empty(Guess(4, 5, 6, 9, 9, 9, 7, 5, 6));             // two tokens are not enough
        Assert.Equal([9, 9, 1, 2], Guess(4, 1, 2, 3, 9, 9, 1, 2, 3));
        Assert.Equal([9, 1, 2, 3, 9, 1], Guess(6, 1, 2, 3, 9, 1, 2, 3));
        Assert.Equal([7, 7, 7], Guess(3, 1, 7, 7, 7, 7, 7));
        // The later match is shorter than the earlier one.
        Assert.Equal([50], Guess(1, 4, 1, 2, 3, 50, 8, 1, 2, 3, 60, 4, 1, 2, 3));
        // Two as long: the later one.
        Assert.Equal([60], Guess(1, 1, 2, 3, 50, 8, 1, 2, 3, 60, 4, 1, 2, 3));
        // A long text, in which the index grows several times.
        int[] text = [.. Enumerable.Range(0, 5000).Select(i => i % 1250 * 7919 % 100_003)];
        Assert.Equal(text[3750..3758], Guess(8, text[..3750]));
    }

    private static (int, float, int)[] Events(Generation generation)
    {
        List<(int, float, int)> events = [];
        while (generation.TryRead(out TokenEvent e)) events.Add((e.Token, e.Logprob, e.TopLogprobs is null ? -1 : e.TopLogprobs.Sum(t => t.Token)));
        return [.. events];
    }
}
