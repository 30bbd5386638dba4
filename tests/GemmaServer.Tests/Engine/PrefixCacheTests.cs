using GemmaServer.Compute;
using GemmaServer.Engine;

namespace GemmaServer.Tests.Engine;

public sealed class PrefixCacheTests
{
    private const int Block = 8;    // of EngineHarness.SharingPlanOf

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_same_prompt_again_computes_only_what_follows_its_last_full_block(bool asynchronous)
    {
        for (int length = 1; length < 60; length++)
        {
            using EngineHarness engine = NewEngine(asynchronous);
            int[] prompt = EngineHarness.Prompt(length);
            Assert.Equal(0, Ask(engine, prompt, 5).Cached);
            long rows = engine.Engine.Metrics.Rows;
            (int cached, _) = Ask(engine, prompt, 5);
            Assert.Equal(Down(length - 1), cached);
            // Four of the five tokens are fed back, the last one only where it completes a block.
            Assert.Equal(length - cached + ((length + 5) % Block == 0 ? 5 : 4), engine.Engine.Metrics.Rows - rows);
            Assert.Equal(2 * length, engine.Engine.Metrics.PrefixCacheQueries);
            Assert.Equal(cached, engine.Engine.Metrics.PrefixCacheHits);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Forgotten_prefixes_are_computed_again_and_what_runs_goes_on(bool asynchronous)
    {
        using EngineHarness engine = NewEngine(asynchronous);
        int[] idle = EngineHarness.Prompt(40, 1), used = EngineHarness.Prompt(40, 2);
        Ask(engine, idle, 5);
        Ask(engine, used, 5);
        GenerationRequest request = engine.Request(used, 30);
        Generation running = engine.Submit(request);
        engine.Steps(4);
        Task<int> forgotten = engine.Engine.ForgetPrefixesAsync();
        Assert.False(forgotten.IsCompleted);    // it is the engine thread's to do
        engine.Steps(1);
        Assert.True(forgotten.IsCompleted);
        Assert.True(await forgotten > 0);
        engine.Engine.CheckIntegrity();
        GenerationRequest again = engine.Request(used, 12);
        Generation beside = engine.Submit(again);
        engine.RunToEnd();
        Assert.Equal(engine.Expected(request), EngineHarness.Read(running).Tokens);
        Assert.Equal(engine.Expected(again), EngineHarness.Read(beside).Tokens);
        Assert.Equal(0, Ask(engine, idle, 5).Cached);
        Assert.Equal(Down(idle.Length - 1), Ask(engine, idle, 5).Cached);
        engine.AssertWhole();

        engine.Engine.Dispose();
        Assert.True(engine.Engine.ForgetPrefixesAsync().IsCompleted);      // nobody waits for a thread that has ended
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_conversation_reuses_its_last_turn(bool asynchronous)
    {
        using EngineHarness engine = NewEngine(asynchronous);
        int[] history = EngineHarness.Prompt(20);
        int computed = 0;
        for (int turn = 0; turn < 6; turn++)
        {
            (int cached, int[] answer) = Ask(engine, history, 10 + turn);
            if (turn > 0) Assert.Equal(Down(computed), cached);
            computed = history.Length + answer.Length;
            history = [.. history, .. answer, .. EngineHarness.Prompt(7, turn + 100)];
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_conversation_that_drops_its_generation_prompt_and_answer_is_found_up_to_the_boundary_after_other_traffic(bool asynchronous)
    {
        // A pool in which pages that left a window in passing do not outlive the other traffic.
        using EngineHarness engine = NewEngine(asynchronous, spare: 40);
        int[] history = EngineHarness.Prompt(43);
        Ask(engine, [.. history, .. EngineHarness.Prompt(9, 7)], 30, boundary: history.Length);
        for (int other = 0; other < 3; other++) Ask(engine, EngineHarness.Prompt(20, 50 + other), 10);
        (int cached, _) = Ask(engine, [.. history, .. EngineHarness.Prompt(20, 8)], 5);
        Assert.Equal(Down(history.Length), cached);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_prompt_that_gets_another_answer_is_found_up_to_its_end_after_other_traffic(bool asynchronous)
    {
        using EngineHarness engine = NewEngine(asynchronous, spare: 40);
        int[] prompt = EngineHarness.Prompt(52);
        Ask(engine, prompt, 30, boundary: 43);
        for (int other = 0; other < 3; other++) Ask(engine, EngineHarness.Prompt(20, 50 + other), 10);
        (int cached, _) = Ask(engine, [.. prompt, .. EngineHarness.Prompt(20, 8)], 5);
        Assert.Equal(Down(prompt.Length), cached);
        Assert.True(Down(prompt.Length) > 43);
    }

    /// <summary>The window before the boundary is left behind, and what is left behind goes first, long before the prompt ends.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_boundary_is_kept_as_soon_as_it_is_passed(bool asynchronous)
    {
        const int chunk = 4;
        using EngineHarness engine = new(
            asynchronous, maxLength: 200, maxBatchTokens: chunk, plan: EngineHarness.SharingPlanOf(EngineHarness.SharingPlanOf(0).PagesForSequence(200, chunk) + 40));
        int[] history = EngineHarness.Prompt(43);
        for (int other = 0; other < 3; other++) Ask(engine, EngineHarness.Prompt(100, 50 + other), 10);
        Ask(engine, [.. history, .. EngineHarness.Prompt(100, 7)], 10, boundary: history.Length);
        (int cached, _) = Ask(engine, [.. history, .. EngineHarness.Prompt(20, 8)], 5);
        Assert.Equal(Down(history.Length), cached);
    }

    /// <summary>After an answer longer than the window, which comes back with its end trimmed by up to an eighth of the window.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_turn_whose_end_comes_back_changed_is_found_up_to_the_change_after_other_traffic(bool asynchronous)
    {
        KvCachePlan plan = new([new KvGroup([0, 1], 64, 4, 16), new KvGroup([2], 0, 8, 8)], 64, 0, KvCacheType.F32);
        for (int trimmed = 0; trimmed <= 64 / 8; trimmed++)
        {
            using EngineHarness engine = new(asynchronous, maxLength: 250, plan: plan with { PageCount = plan.PagesForSequence(250, 32) + 60 });
            int[] prompt = EngineHarness.Prompt(40);
            (_, int[] answer) = Ask(engine, prompt, 100);
            for (int other = 0; other < 3; other++) Ask(engine, EngineHarness.Prompt(60, 50 + other), 10);
            (int cached, _) = Ask(engine, [.. prompt, .. answer[..^trimmed], .. EngineHarness.Prompt(20, 8)], 5);
            Assert.Equal(Down(prompt.Length + answer.Length - Math.Max(1, trimmed)), cached);
        }
    }

    [Fact]
    public void Branches_from_one_system_prompt_share_it_and_its_pages()
    {
        using EngineHarness engine = NewEngine(false);
        int[] system = EngineHarness.Prompt(48);
        Ask(engine, [.. system, .. EngineHarness.Prompt(20, 1000)], 3);
        Generation[] branches = [.. Enumerable.Range(0, 4).Select(i => engine.Submit(engine.Request([.. system, .. EngineHarness.Prompt(9, i)], 20)))];
        engine.Step();
        Assert.All(branches, b => Assert.Equal(48, b.CachedTokens));
        // 6 global pages in common; each has 3 + 3 sliding ones to share, and at most 2 + 3 + 5 of its own.
        Assert.InRange(engine.Plan.PageCount - engine.Engine.Metrics.FreePages, 12, 6 + 6 + 4 * 10);
        engine.RunToEnd();
    }

    [Fact]
    public void Different_salts_share_nothing()
    {
        using EngineHarness engine = NewEngine(false);
        int[] prompt = EngineHarness.Prompt(40);
        Assert.Equal(0, Ask(engine, prompt, 5).Cached);
        Assert.Equal(0, Ask(engine, prompt, 5, salt: "a").Cached);
        Assert.Equal(0, Ask(engine, prompt, 5, salt: "b").Cached);
        Assert.Equal(0, Ask(engine, prompt, 5, salt: "").Cached);
        Assert.Equal(32, Ask(engine, prompt, 5, salt: "a").Cached);
        Assert.Equal(32, Ask(engine, prompt, 5).Cached);
    }

    [Fact]
    public void Equal_tokens_after_another_beginning_are_not_found()
    {
        using EngineHarness engine = NewEngine(false);
        int[] prompt = EngineHarness.Prompt(40);
        Ask(engine, prompt, 5);
        int[] other = [.. prompt];
        other[3]++;
        Assert.Equal(0, Ask(engine, other, 5).Cached);
        int[] late = [.. prompt];
        late[20]++;
        Assert.Equal(16, Ask(engine, late, 5).Cached);
    }

    [Fact]
    public void Prompt_logprobs_and_a_disabled_cache_compute_everything()
    {
        using EngineHarness engine = NewEngine(false);
        int[] prompt = EngineHarness.Prompt(40);
        Ask(engine, prompt, 5);
        GenerationRequest request = engine.Request(prompt, 5, promptLogprobs: 2);
        Generation generation = engine.Submit(request);
        engine.RunToEnd();
        Assert.Equal(0, generation.CachedTokens);
        Assert.Equal(FakeModel.PromptLogprobs(engine.Plan, prompt, request.Sampling, 2), generation.PromptLogprobs!);

        using EngineHarness without = new(plan: EngineHarness.SharingPlanOf(400), prefixCaching: false);
        Ask(without, prompt, 5);
        Assert.Equal(0, Ask(without, prompt, 5).Cached);
        Assert.Equal(0, without.Engine.Metrics.PrefixCacheQueries);
    }

    [Fact]
    public void A_prefix_whose_window_was_evicted_is_found_only_where_a_window_is_left()
    {
        KvCachePlan plan = EngineHarness.SharingPlanOf(100);
        BlockAllocator blocks = new(plan, windowShare: 0.5);
        (BlockTable table, TokenHashes hashes) = Computed(blocks, 48, boundary: 24);
        blocks.ReleaseAll(table);
        // Everything that is only cold goes: 100 − 6 global − 3 − 3 of the kept window.
        BlockTable greedy = blocks.NewTable();
        while (blocks.FreePages > 12) greedy.Add(2, TakeOne(blocks));
        Assert.Equal(12 + 24 + 6 - 12, blocks.Evictions);
        BlockTable second = blocks.NewTable();
        Assert.Equal(24, blocks.Adopt(hashes, 48, second, out int pages));
        Assert.Equal(3 + 3 + 3, pages);
        blocks.CheckIntegrity([greedy, second]);
    }

    [Fact]
    public void Windows_beyond_the_budget_lose_their_place_oldest_first()
    {
        BlockAllocator blocks = new(EngineHarness.SharingPlanOf(200), windowShare: 0.06);     // 12 pages: two windows
        TokenHashes[] kept = new TokenHashes[3];
        for (int i = 0; i < 3; i++)
        {
            (BlockTable table, kept[i]) = Computed(blocks, 32, boundary: 32, seed: i);
            blocks.ReleaseAll(table);
        }
        BlockTable greedy = blocks.NewTable();
        while (blocks.FreePages > 3 * 4 + 12) greedy.Add(2, TakeOne(blocks));
        for (int i = 0; i < 3; i++)
        {
            BlockTable again = blocks.NewTable();
            Assert.Equal(i == 0 ? 0 : 32, blocks.Adopt(kept[i], 32, again, out _));
            blocks.CheckIntegrity([greedy, again]);
            blocks.ReleaseAll(again);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_preempted_sequence_goes_on_with_what_is_left_of_its_pages(bool asynchronous)
    {
        int least = EngineHarness.SharingPlanOf(0).PagesForSequence(120, 4);
        long with = 0, without = 0;
        for (int pages = least; pages < least + 15; pages++)
        {
            with += RowsOfTwo(asynchronous, pages, prefixCaching: true);
            without += RowsOfTwo(asynchronous, pages, prefixCaching: false);
        }
        Assert.True(with < without, $"{with} rows with the cache, {without} without");
    }

    /// <summary>Rows computed for a short answer and a younger long one that must make room for its end.</summary>
    private static long RowsOfTwo(bool asynchronous, int pages, bool prefixCaching)
    {
        using EngineHarness engine = new(asynchronous, maxBatchTokens: 4, plan: EngineHarness.SharingPlanOf(pages), prefixCaching: prefixCaching);
        GenerationRequest[] requests = [engine.Request(EngineHarness.Prompt(20, 1), 60), engine.Request(EngineHarness.Prompt(40, 2), 80)];
        Generation[] generations = [.. requests.Select(r => engine.Submit(r))];
        engine.RunToEnd();
        for (int i = 0; i < 2; i++)
        {
            EngineHarness.AssertEnded(generations[i], FinishReason.Length, engine.Expected(requests[i]));
            Assert.Equal(0, generations[i].CachedTokens);    // its own pages are no gift
        }
        return engine.Engine.Metrics.Rows;
    }

    private static EngineHarness NewEngine(bool asynchronous, int? spare = null)
    {
        int least = EngineHarness.SharingPlanOf(0).PagesForSequence(200, 32);
        return new(asynchronous, maxLength: 200, plan: EngineHarness.SharingPlanOf(spare is int s ? least + s : 400));
    }

    /// <summary>One request to its end, with the right tokens.</summary>
    private static (int Cached, int[] Answer) Ask(EngineHarness engine, int[] prompt, int tokens, string? salt = null, int? boundary = null)
    {
        GenerationRequest request = engine.Request(prompt, tokens, salt: salt, boundary: boundary);
        Generation generation = engine.Submit(request);
        engine.RunToEnd();
        int[] expected = engine.Expected(request);
        EngineHarness.AssertEnded(generation, FinishReason.Length, expected);
        return (generation.CachedTokens, expected);
    }

    private static (BlockTable Table, TokenHashes Hashes) Computed(BlockAllocator blocks, int length, int boundary, int seed = 1)
    {
        BlockTable table = blocks.NewTable();
        TokenHashes hashes = new(blocks.HashUnit, null, length);
        hashes.Extend(EngineHarness.Prompt(length, seed));
        blocks.Grow(table, length);
        blocks.AddToCache(hashes, table, 0, length, length);
        blocks.KeepWindows(hashes, boundary, boundary);
        blocks.ReleaseLeftWindow(table, length);
        return (table, hashes);
    }

    private static int TakeOne(BlockAllocator blocks)
    {
        BlockTable one = new(3);
        for (int g = 0; g < 2; g++) one.Add(g, 0);
        blocks.Grow(one, 1);
        return one.Pages(2)[0];
    }

    private static int Down(int tokens) => tokens / Block * Block;
}
