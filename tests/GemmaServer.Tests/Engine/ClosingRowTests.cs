using GemmaServer.Compute;
using GemmaServer.Engine;

namespace GemmaServer.Tests.Engine;

/// <summary>
/// The row that an answer's last token is fed in where it completes a block, behind the reader's back: what it saves the next
/// turn, and that it costs nobody anything.
/// </summary>
public sealed class ClosingRowTests
{
    private const int Block = 8;    // of EngineHarness.SharingPlanOf
    private const int Length = 20;
    private const int Answer = 12;  // 32 in all: the last token ends a block

    public static TheoryData<bool> Devices => [false, true];

    [Theory]
    [MemberData(nameof(Devices))]
    public void The_reader_has_everything_one_step_before_its_slot_is_free(bool asynchronous)
    {
        using EngineHarness engine = NewEngine(asynchronous);
        (GenerationRequest request, Generation generation) = RunToClosing(engine);
        long rows = engine.Engine.Metrics.Rows;
        EngineHarness.AssertEnded(generation, FinishReason.Length, engine.Expected(request));
        engine.RunToEnd();
        Assert.Equal(1, engine.Engine.Metrics.Rows - rows);
        Assert.Equal(Length + Answer, CachedOfNextTurn(engine, request));
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public void Where_the_last_token_ends_no_block_its_slot_is_free_at_once(bool asynchronous)
    {
        for (int answer = 1; answer < 20; answer++)
        {
            if ((Length + answer) % Block == 0) continue;
            using EngineHarness engine = NewEngine(asynchronous);
            GenerationRequest request = engine.Request(EngineHarness.Prompt(Length), answer);
            Generation generation = engine.Submit(request);
            while (generation.Finish == FinishReason.None) engine.Step();
            engine.AssertWhole();
            Assert.Equal(Length + answer - 1, engine.Engine.Metrics.Rows);
        }
    }

    /// <summary>Pages of one token: the last row would need a page of its own.</summary>
    [Theory]
    [MemberData(nameof(Devices))]
    public void It_never_takes_a_page(bool asynchronous)
    {
        KvCachePlan plan = new([new KvGroup([0], 6, 1, 16), new KvGroup([1], 0, 8, 8)], 64, 400, KvCacheType.F32);
        using EngineHarness engine = new(asynchronous, plan: plan);
        GenerationRequest request = engine.Request(EngineHarness.Prompt(Length), Answer);
        Generation generation = engine.Submit(request);
        engine.RunToEnd();
        EngineHarness.AssertEnded(generation, FinishReason.Length, engine.Expected(request));
        Assert.Equal(Length + Answer - 1, engine.Engine.Metrics.Rows);
        Assert.Empty(engine.Errors);
    }

    /// <summary>As many sequences as rows: whoever runs gets a token in every step, and the queue takes what is left.</summary>
    [Theory]
    [MemberData(nameof(Devices))]
    public void In_a_full_batch_everybody_keeps_a_row(bool asynchronous)
    {
        const int rows = 4;
        int[] answers = [Answer, 2 * Answer - 4, 40, 50];      // two that close, one after the other, and two that go on
        using EngineHarness engine = new(asynchronous, maxSequences: rows, maxBatchTokens: rows, plan: EngineHarness.SharingPlanOf(400));
        GenerationRequest[] requests = [.. answers.Select((n, i) => engine.Request(EngineHarness.Prompt(Length, i), n))];
        Generation[] all = [.. requests.Select(r => engine.Submit(r))];
        Generation newcomer = engine.Submit(engine.Request(EngineHarness.Prompt(30, 9), 5));
        while (all.Any(g => g.GeneratedTokens == 0)) engine.Step();
        for (int step = 0; all.Any(g => g.Finish == FinishReason.None); step++)
        {
            int[] before = [.. all.Select(g => g.GeneratedTokens)];
            bool[] ended = [.. all.Select(g => g.Finish != FinishReason.None)];
            engine.Step();
            for (int i = 0; i < all.Length; i++) if (!ended[i]) Assert.Equal(before[i] + 1, all[i].GeneratedTokens);
        }
        engine.RunToEnd();
        for (int i = 0; i < all.Length; i++) EngineHarness.AssertEnded(all[i], FinishReason.Length, engine.Expected(requests[i]));
        Assert.Equal(FinishReason.Length, newcomer.Finish);
        Assert.Equal(rows, engine.Runner.MostRows);
        Assert.Equal(Length + answers[0], CachedOfNextTurn(engine, requests[0]));
        Assert.Equal(Length + answers[1], CachedOfNextTurn(engine, requests[1]));
    }

    [Theory]
    [MemberData(nameof(Devices))]
    public async Task A_drain_waits_for_it(bool asynchronous)
    {
        using EngineHarness engine = NewEngine(asynchronous);
        RunToClosing(engine);
        Task<bool> drain = engine.Engine.DrainAsync(Timeout.InfiniteTimeSpan);
        Assert.False(drain.IsCompleted);
        engine.RunToEnd();
        Assert.True(await drain);
        Assert.Equal(Length + Answer, engine.Engine.Metrics.Rows);
    }

    [Theory]
    [InlineData(false, 0)]
    [InlineData(true, 0)]
    [InlineData(true, 1)]
    public async Task A_drain_without_patience_gives_it_up(bool asynchronous, int stepsInto)
    {
        using EngineHarness engine = NewEngine(asynchronous);
        (GenerationRequest request, Generation generation) = RunToClosing(engine);
        engine.Steps(stepsInto);    // on the device already
        Task<bool> drain = engine.Engine.DrainAsync(TimeSpan.Zero);
        engine.RunToEnd();
        // Where the time was over before the engine saw it, it saw both at once.
        await drain;
        EngineHarness.AssertEnded(generation, FinishReason.Length, engine.Expected(request));
        Assert.Equal(Length + Answer - 1 + stepsInto, engine.Engine.Metrics.Rows);
    }

    [Theory]
    [InlineData(false, 0)]
    [InlineData(true, 0)]
    [InlineData(true, 1)]
    public void A_shutdown_leaves_nothing_of_it(bool asynchronous, int stepsInto)
    {
        using EngineHarness engine = NewEngine(asynchronous);
        (GenerationRequest request, Generation generation) = RunToClosing(engine);
        engine.Steps(stepsInto);
        engine.Engine.Dispose();
        engine.Engine.CheckIntegrity();
        engine.AssertWhole();
        EngineHarness.AssertEnded(generation, FinishReason.Length, engine.Expected(request));
        Assert.Equal(0, engine.Engine.Metrics.Finished(FinishReason.Abort));
    }

    /// <summary>Its step fails: the reader knows nothing of it, and the block is not shown to others.</summary>
    [Theory]
    [InlineData(false, true)]
    [InlineData(false, false)]
    [InlineData(true, true)]
    [InlineData(true, false)]
    public void A_failure_of_its_step_costs_the_block_only(bool asynchronous, bool atLaunch)
    {
        using EngineHarness engine = NewEngine(asynchronous);
        (GenerationRequest request, Generation generation) = RunToClosing(engine);
        Action<long> fail = _ => throw new InvalidOperationException("the device fell over");
        if (atLaunch) engine.Runner.OnLaunch = fail;
        else engine.Runner.OnCollect = fail;
        engine.RunToEnd();
        engine.Runner.OnLaunch = engine.Runner.OnCollect = null;
        Assert.Single(engine.Errors);
        EngineHarness.AssertEnded(generation, FinishReason.Length, engine.Expected(request));
        Assert.Equal(0, engine.Engine.Metrics.Finished(FinishReason.Error));
        Assert.Equal(Length + Answer - Block, CachedOfNextTurn(engine, request));
    }

    /// <summary>The step behind an answer's stop token is on its way when the token comes, and fails.</summary>
    [Fact]
    public void A_failure_of_the_row_behind_a_stop_token_costs_the_block_only()
    {
        using EngineHarness engine = NewEngine(asynchronous: true);
        (GenerationRequest request, int[] answer) = StopsAtBlockEnd(engine);
        Generation generation = engine.Submit(request);
        while (generation.Finish == FinishReason.None) engine.Step();
        Assert.Equal(1, engine.Runner.OpenSlots);
        engine.Runner.OnCollect = _ => throw new InvalidOperationException("the device fell over");
        engine.RunToEnd();
        engine.Runner.OnCollect = null;
        Assert.Single(engine.Errors);
        EngineHarness.AssertEnded(generation, FinishReason.Stop, answer);
        Assert.Equal(request.Prompt.Length + answer.Length - Block, CachedOfNextTurn(engine, request, answer));
    }

    /// <summary>The reader leaves while the last row is wanted, or is on the device.</summary>
    [Theory]
    [InlineData(false, 0)]
    [InlineData(true, 0)]
    [InlineData(true, 1)]
    public void A_reader_that_leaves_at_the_end_changes_nothing(bool asynchronous, int stepsInto)
    {
        using EngineHarness engine = NewEngine(asynchronous);
        (GenerationRequest request, Generation generation) = RunToClosing(engine);
        engine.Steps(stepsInto);
        generation.Cancel();
        engine.RunToEnd();
        EngineHarness.AssertEnded(generation, FinishReason.Length, engine.Expected(request));
        Assert.Equal(0, engine.Engine.Metrics.Finished(FinishReason.Abort));
        Assert.Equal(Length + Answer, CachedOfNextTurn(engine, request));
    }

    /// <summary>The reader leaves in the turn whose token would have been the last: it has no last row.</summary>
    [Theory]
    [MemberData(nameof(Devices))]
    public void A_reader_that_leaves_in_the_last_turn_ends_with_abort_and_without_the_row(bool asynchronous)
    {
        using EngineHarness engine = NewEngine(asynchronous);
        GenerationRequest request = engine.Request(EngineHarness.Prompt(Length), Answer);
        Generation generation = engine.Submit(request);
        while (generation.GeneratedTokens < Answer - 1) engine.Step();
        long rows = engine.Engine.Metrics.Rows;
        generation.Cancel();
        engine.RunToEnd();
        EngineHarness.AssertEnded(generation, FinishReason.Abort, engine.Expected(request)[..(Answer - 1)]);
        Assert.Equal(rows, engine.Engine.Metrics.Rows);
        Assert.Equal(Length + Answer - Block, CachedOfNextTurn(engine, request));
    }

    /// <summary>The last token is the sampled one or any of the guesses before it, and guesses beyond it are dropped.</summary>
    [Theory]
    [InlineData(false, 100)]
    [InlineData(false, 60)]
    [InlineData(true, 100)]
    [InlineData(true, 60)]
    public void Guesses_do_not_change_what_is_left(bool asynchronous, int accuracy)
    {
        for (int length = 10; length < 10 + 2 * Block; length++)
        {
            using EngineHarness engine = new(asynchronous, drafts: 5, plan: EngineHarness.SharingPlanOf(400));
            engine.Runner.DraftAccuracy = accuracy;
            (GenerationRequest request, int[] answer) = StopsAtBlockEnd(engine, length);
            Generation neighbour = engine.Submit(engine.Request(EngineHarness.Prompt(9, 5), 60));   // which goes on with guesses beside the last row
            Generation generation = engine.Submit(request);
            engine.RunToEnd();
            EngineHarness.AssertEnded(generation, FinishReason.Stop, answer);
            Assert.Equal(FinishReason.Length, neighbour.Finish);
            Assert.True(engine.Engine.Metrics.AcceptedDrafts > 0);
            Assert.Equal(length + answer.Length, CachedOfNextTurn(engine, request, answer));
        }
    }

    private static EngineHarness NewEngine(bool asynchronous) => new(asynchronous, plan: EngineHarness.SharingPlanOf(400));

    /// <summary>Runs until the reader has everything and one row is left to do.</summary>
    private static (GenerationRequest Request, Generation Generation) RunToClosing(EngineHarness engine)
    {
        GenerationRequest request = engine.Request(EngineHarness.Prompt(Length), Answer);
        Generation generation = engine.Submit(request);
        while (generation.Finish == FinishReason.None) engine.Step();
        Assert.Equal(1, engine.Runner.OpenSlots);
        Assert.Equal(0, engine.Engine.Metrics.Running);
        Assert.Equal(Length + Answer - 1, engine.Engine.Metrics.Rows);
        return (request, generation);
    }

    /// <summary>A request whose answer ends with a stop token, and that token a block.</summary>
    private static (GenerationRequest Request, int[] Answer) StopsAtBlockEnd(EngineHarness engine, int length = Length)
    {
        GenerationRequest request = engine.Request(EngineHarness.Prompt(length), 90);
        int[] expected = engine.Expected(request);
        int end = Enumerable.Range(15, 60).First(i => (length + i + 1) % Block == 0 && !expected[..i].Contains(expected[i]));
        return (engine.Request(request.Prompt, 90, request.Sampling, [expected[end]]), expected[..(end + 1)]);
    }

    private static int CachedOfNextTurn(EngineHarness engine, GenerationRequest last, int[]? answer = null)
    {
        GenerationRequest next = engine.Request([.. last.Prompt, .. answer ?? engine.Expected(last), .. EngineHarness.Prompt(5, 77)], 4);
        Generation generation = engine.Submit(next);
        engine.RunToEnd();
        EngineHarness.AssertEnded(generation, FinishReason.Length, engine.Expected(next));
        return generation.CachedTokens;
    }
}
