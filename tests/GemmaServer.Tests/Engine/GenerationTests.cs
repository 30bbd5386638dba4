using GemmaServer.Compute;
using GemmaServer.Engine;

namespace GemmaServer.Tests.Engine;

/// <summary>What comes out is what the model says, however the work was cut.</summary>
public sealed class GenerationTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_lone_request_gives_the_models_tokens(bool asynchronous)
    {
        using EngineHarness engine = new(asynchronous);
        GenerationRequest request = engine.Request(EngineHarness.Prompt(17), 40);
        Generation generation = engine.Submit(request);
        engine.RunToEnd();
        (int[] tokens, FinishReason finish) = EngineHarness.Read(generation);
        Assert.Equal(engine.Expected(request), tokens);
        Assert.Equal(FinishReason.Length, finish);
        Assert.Equal(40, generation.GeneratedTokens);
        Assert.Equal(17, generation.PromptTokens);
        Assert.Equal(17 + 39, engine.Engine.Metrics.Rows);      // the last token is known to be the last, so no row follows it
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Requests_that_come_and_go_in_mixed_batches_do_not_disturb_each_other(bool asynchronous)
    {
        using EngineHarness engine = new(asynchronous, pages: 600, maxSequences: 6, maxBatchTokens: 16);
        List<(GenerationRequest Request, Generation Generation)> all = [];
        for (int i = 0; i < 30; i++)
        {
            GenerationRequest request = engine.Request(EngineHarness.Prompt(1 + i * 7 % 50, i), 1 + i * 5 % 23);
            all.Add((request, engine.Submit(request)));
            engine.Steps(i % 4);
        }
        engine.RunToEnd();
        Assert.All(all, x => Assert.Equal(engine.Expected(x.Request), EngineHarness.Read(x.Generation).Tokens));
        Assert.True(engine.Runner.MixedSteps > 5);
        Assert.Equal(6, engine.Runner.MostSequences);
        Assert.Equal(16, engine.Runner.MostRows);
    }

    [Theory]
    [InlineData(false, 1)]
    [InlineData(false, 3)]
    [InlineData(false, 64)]
    [InlineData(true, 1)]
    [InlineData(true, 7)]
    [InlineData(true, 64)]
    public void A_prompt_in_chunks_gives_the_same_as_in_one_piece(bool asynchronous, int chunk)
    {
        using EngineHarness engine = new(asynchronous, maxBatchTokens: chunk);
        GenerationRequest request = engine.Request(EngineHarness.Prompt(60), 15, promptLogprobs: 2);
        Generation generation = engine.Submit(request);
        engine.RunToEnd();
        Assert.Equal(engine.Expected(request), EngineHarness.Read(generation).Tokens);
        Assert.Equal(chunk, engine.Runner.MostRows == 60 ? 64 : engine.Runner.MostRows);
        Assert.Equal(FakeModel.PromptLogprobs(engine.Plan, request.Prompt, request.Sampling, 2), generation.PromptLogprobs!);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_tiny_pool_preempts_and_still_gives_the_same_tokens(bool asynchronous)
    {
        using EngineHarness engine = new(asynchronous, pages: 45, maxLength: 100, maxBatchTokens: 24);
        List<(GenerationRequest Request, Generation Generation)> all = [];
        for (int i = 0; i < 12; i++)
        {
            // Penalties see the outputs from before the preemption only when they are handed to OpenSlot.
            SamplingParams sampling = new() { Seed = (ulong)i, FrequencyPenalty = i % 2 };
            GenerationRequest request = engine.Request(EngineHarness.Prompt(5 + i, i), 80, sampling, promptLogprobs: i % 3 - 1);
            all.Add((request, engine.Submit(request)));
        }
        engine.RunToEnd();
        Assert.True(engine.Engine.Metrics.Preemptions > 3);
        Assert.All(all, x => Assert.Equal(engine.Expected(x.Request), EngineHarness.Read(x.Generation).Tokens));
        Assert.All(all.Where(x => x.Request.PromptLogprobs >= 0), x => Assert.Equal(
            FakeModel.PromptLogprobs(engine.Plan, x.Request.Prompt, x.Request.Sampling, x.Request.PromptLogprobs), x.Generation.PromptLogprobs!));
        Assert.Equal(all.Sum(x => x.Request.Prompt.Length), engine.Engine.Metrics.PromptTokens);
        Assert.Equal(12 * 80, engine.Engine.Metrics.GeneratedTokens);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Prompt_logprobs_survive_a_preemption_in_the_middle_of_the_prompt(bool asynchronous)
    {
        // The old one's decoding takes the pages of the young one's prefill, which moves on by two rows a step.
        using EngineHarness engine = new(asynchronous, pages: 60, maxLength: 110, maxBatchTokens: 3);
        GenerationRequest old = engine.Request(EngineHarness.Prompt(40, 1), 60);
        GenerationRequest young = engine.Request(EngineHarness.Prompt(100, 2), 5, promptLogprobs: 1);
        Generation first = engine.Submit(old);
        engine.Steps(20);
        Generation second = engine.Submit(young);
        engine.RunToEnd();
        Assert.Equal(engine.Expected(old), EngineHarness.Read(first).Tokens);
        Assert.Equal(engine.Expected(young), EngineHarness.Read(second).Tokens);
        Assert.Equal(FakeModel.PromptLogprobs(engine.Plan, young.Prompt, young.Sampling, 1), second.PromptLogprobs!);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_stop_token_is_reported_and_ends_the_answer(bool asynchronous)
    {
        using EngineHarness engine = new(asynchronous);
        GenerationRequest free = engine.Request(EngineHarness.Prompt(9), 40);
        int[] expected = engine.Expected(free);
        int stopAt = Enumerable.Range(5, 30).First(i => !expected[..i].Contains(expected[i]));
        GenerationRequest request = engine.Request(free.Prompt, 40, free.Sampling, stopTokens: [5000, expected[stopAt]]);
        Generation generation = engine.Submit(request);
        Generation beside = engine.Submit(free);
        engine.RunToEnd();
        (int[] tokens, FinishReason finish) = EngineHarness.Read(generation);
        Assert.Equal(expected[..(stopAt + 1)], tokens);
        Assert.Equal(FinishReason.Stop, finish);
        Assert.Equal(expected, EngineHarness.Read(beside).Tokens);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_stop_string_sees_each_committed_token_once_and_ends_the_answer(bool asynchronous)
    {
        using EngineHarness engine = new(asynchronous, pages: 45, maxLength: 100);
        List<int>[] seen = [[], [], [], []];
        List<Generation> generations = [];
        List<GenerationRequest> requests = [];
        for (int i = 0; i < seen.Length; i++)
        {
            List<int> mine = seen[i];
            requests.Add(engine.Request(EngineHarness.Prompt(20 + i, i), 70));
            generations.Add(engine.Submit(requests[i], token =>
            {
                mine.Add(token);
                return mine.Count == 60;
            }));
        }
        engine.RunToEnd();
        Assert.True(engine.Engine.Metrics.Preemptions > 0);
        for (int i = 0; i < seen.Length; i++)
        {
            (int[] tokens, FinishReason finish) = EngineHarness.Read(generations[i]);
            Assert.Equal(engine.Expected(requests[i], 60), tokens);
            Assert.Equal(tokens, seen[i]);
            Assert.Equal(FinishReason.Stop, finish);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void No_tokens_wanted_computes_the_prompt_and_ends_with_length(bool asynchronous)
    {
        using EngineHarness engine = new(asynchronous, maxBatchTokens: 8);
        GenerationRequest request = engine.Request(EngineHarness.Prompt(30), 0, promptLogprobs: 3);
        Generation generation = engine.Submit(request);
        Generation shortest = engine.Submit(engine.Request(EngineHarness.Prompt(1), 0, promptLogprobs: 3));
        engine.RunToEnd();
        EngineHarness.AssertEnded(generation, FinishReason.Length);
        Assert.Equal(FakeModel.PromptLogprobs(engine.Plan, request.Prompt, request.Sampling, 3), generation.PromptLogprobs!);
        EngineHarness.AssertEnded(shortest, FinishReason.Length);
        Assert.Empty(shortest.PromptLogprobs!);
        Assert.Equal(31, engine.Engine.Metrics.Rows);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_full_context_ends_with_length(bool asynchronous)
    {
        using EngineHarness engine = new(asynchronous, maxLength: 50);
        GenerationRequest request = engine.Request(EngineHarness.Prompt(20), int.MaxValue);
        Generation generation = engine.Submit(request);
        Generation full = engine.Submit(engine.Request(EngineHarness.Prompt(50), 10));
        engine.RunToEnd();
        (int[] tokens, FinishReason finish) = EngineHarness.Read(generation);
        Assert.Equal(engine.Expected(request, 30), tokens);
        Assert.Equal(FinishReason.Length, finish);
        EngineHarness.AssertEnded(full, FinishReason.Length);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_lone_sequence_fills_the_smallest_allowed_pool_to_the_last_token(bool asynchronous)
    {
        for (int chunk = 1; chunk < 40; chunk += 6)
        {
            int pages = EngineHarness.PlanOf(0).PagesForSequence(90, chunk);
            using EngineHarness engine = new(asynchronous, pages, maxLength: 90, maxBatchTokens: chunk);
            GenerationRequest request = engine.Request(EngineHarness.Prompt(45), 45);
            Generation generation = engine.Submit(request);
            engine.RunToEnd();
            Assert.Equal(engine.Expected(request), EngineHarness.Read(generation).Tokens);
            Assert.Equal(0, engine.Engine.Metrics.Preemptions);
        }
    }

    [Fact]
    public void A_pool_too_small_for_one_sequence_is_refused_with_both_numbers()
    {
        int pages = EngineHarness.PlanOf(0).PagesForSequence(90, 32) - 1;
        ArgumentException e = Assert.Throws<ArgumentException>(() => new EngineHarness(pages: pages, maxLength: 90));
        Assert.Contains($"{pages} pages", e.Message);
        Assert.Contains($"needs {pages + 1}", e.Message);
    }

    [Fact]
    public void Logprobs_belong_to_their_tokens()
    {
        using EngineHarness engine = new();
        GenerationRequest request = engine.Request(EngineHarness.Prompt(8), 10, new SamplingParams { Logprobs = 2 });
        Generation generation = engine.Submit(request);
        engine.RunToEnd();
        List<int> history = [.. request.Prompt];
        while (generation.TryRead(out TokenEvent e))
        {
            TokenLogprob[] expected = FakeModel.PromptLogprobs(engine.Plan, [.. history, e.Token], request.Sampling, 2)[^1];
            Assert.Equal(expected[0], new TokenLogprob(e.Token, e.Logprob));
            Assert.Equal(expected[1..], e.TopLogprobs);
            history.Add(e.Token);
        }
        Assert.Equal(18, history.Count);
    }
}
