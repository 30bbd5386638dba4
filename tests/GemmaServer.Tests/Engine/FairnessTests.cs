using GemmaServer.Engine;

namespace GemmaServer.Tests.Engine;

/// <summary>Whose turn it is: priorities, and clients of one priority by what they were served.</summary>
public sealed class FairnessTests
{
    private static readonly TimeSpan Tick = TimeSpan.FromMilliseconds(1);

    /// <summary>One place, and time that goes on with each step: the order of admission shows.</summary>
    private sealed class OnePlace : IDisposable
    {
        private readonly TestClock _clock = new();

        public OnePlace(int maxSequences = 1, bool prefixCaching = false, bool asynchronous = false) =>
            Engine = new EngineHarness(asynchronous, maxSequences: maxSequences, time: _clock, prefixCaching: prefixCaching);

        public EngineHarness Engine { get; }

        public List<(string Name, Generation Generation)> All { get; } = [];

        public Generation Submit(string name, int prompt = 10, int tokens = 3, int priority = 0, string? client = null, int seed = 0)
        {
            Generation generation = Engine.Submit(Engine.Request(EngineHarness.Prompt(prompt, seed != 0 ? seed : All.Count), tokens, priority: priority, client: client));
            All.Add((name, generation));
            return generation;
        }

        public bool Step()
        {
            _clock.Advance(Tick);
            return Engine.Step();
        }

        public string Order()
        {
            while (Step())
            {
            }
            Engine.AssertWhole();
            return string.Concat(All.OrderBy(a => a.Generation.AdmittedAt).Select(a => a.Name));
        }

        public void Dispose() => Engine.Dispose();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_lower_priority_value_is_served_earlier_and_equal_ones_in_order_of_arrival(bool asynchronous)
    {
        using OnePlace place = new(asynchronous: asynchronous);
        place.Submit("0");
        place.Step();
        foreach ((string name, int priority) in new[] { ("d", 0), ("f", 7), ("b", -1), ("e", 0), ("a", int.MinValue), ("c", -1), ("g", int.MaxValue) })
            place.Submit(name, priority: priority);
        Assert.Equal("0abcdefg", place.Order());
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void Two_requests_of_one_client_do_not_wait_for_two_hundred_of_another(int maxSequences)
    {
        using OnePlace place = new(maxSequences);
        for (int i = 0; i < 200; i++) place.Submit("a", client: "many");
        for (int i = 0; i < 30; i++) place.Step();
        int before = place.All.Count(a => a.Generation.AdmittedAt != 0);
        Assert.InRange(before, 2, 100);
        place.Submit("b", client: "few");
        place.Submit("b", client: "few");
        string order = place.Order();
        // In turn from where they came; one tie goes to the older, and the answers that run are paid for as they come.
        Assert.InRange(order.LastIndexOf('b'), before, before + 3 + maxSequences);
    }

    [Fact]
    public void Without_names_everybody_is_one_client()
    {
        using OnePlace place = new();
        for (int i = 0; i < 9; i++) place.Submit(i.ToString());
        Assert.Equal("012345678", place.Order());
    }

    [Fact]
    public void A_generated_token_counts_twice_a_prompt_token()
    {
        // 60 + 2 · 1 = 4 + 2 · 29: neither gets ahead.
        using OnePlace place = new();
        for (int i = 0; i < 8; i++) place.Submit("p", prompt: 60, tokens: 1, client: "long prompts");
        for (int i = 0; i < 8; i++) place.Submit("g", prompt: 4, tokens: 29, client: "long answers");
        Assert.Equal("pgpgpgpgpgpgpgpg", place.Order());
    }

    [Fact]
    public void Who_asks_for_less_is_served_more_often()
    {
        // 10 + 2 · 10 against 40 + 2 · 25: three to one.
        using OnePlace place = new();
        for (int i = 0; i < 4; i++) place.Submit("L", prompt: 40, tokens: 25, client: "large");
        for (int i = 0; i < 12; i++) place.Submit("s", prompt: 10, tokens: 10, client: "small");
        Assert.Equal("LsssLsssLsssLsss", place.Order());
    }

    [Fact]
    public void Tokens_from_the_prefix_cache_cost_nothing()
    {
        // Blocks are of 60 tokens: after the first one, 80 tokens cost 20.
        using OnePlace place = new(prefixCaching: true);
        place.Submit("_", prompt: 80, tokens: 1, seed: 5);
        place.Step();
        for (int i = 0; i < 4; i++) place.Submit("c", prompt: 80, tokens: 1, client: "cached", seed: 5);
        for (int i = 0; i < 4; i++) place.Submit("n", prompt: 20, tokens: 1, client: "new", seed: 50 + i);
        Assert.Equal("_cncncncn", place.Order());
    }

    [Fact]
    public void Who_comes_back_after_idling_has_saved_up_nothing()
    {
        using OnePlace place = new();
        place.Submit("b", client: "b");
        for (int i = 0; i < 40; i++) place.Submit("a", client: "a");
        while (place.All.Count(a => a.Generation.FinishedAt != 0) < 30) place.Step();
        for (int i = 0; i < 8; i++) place.Submit("b", client: "b");
        string order = place.Order();
        Assert.Matches("^ba{29,31}(ba){8}a*$", order);
        Assert.Equal(9, order.Count(c => c == 'b'));
    }

    [Fact]
    public void Who_asks_one_at_a_time_is_not_new_each_time()
    {
        ClientAccounts accounts = new();
        ClientAccount steady = accounts.Join("steady");
        ClientAccount other = accounts.Join("other");
        steady.Counter = 100;
        other.Counter = 500;
        accounts.Leave(other);
        Assert.Same(other, accounts.Join("other"));
        Assert.Equal(500, other.Counter);
        Assert.Equal(100, accounts.Join("new").Counter);
        accounts.Join("steady");
        Assert.Equal(100, steady.Counter);
    }

    [Fact]
    public void Counters_of_clients_that_left_do_not_pile_up()
    {
        ClientAccounts accounts = new();
        ClientAccount stays = accounts.Join("stays");
        for (int i = 0; i < 5_000; i++)
        {
            accounts.Leave(accounts.Join($"client {i}"));
            Assert.InRange(accounts.Count, 1, ClientAccounts.MaxIdle + 1);
        }
        accounts.Leave(stays);
        Assert.Equal(0, accounts.Count);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void When_pages_run_short_the_worst_priority_gives_way_however_old_it_is(bool asynchronous)
    {
        TestClock clock = new();
        using EngineHarness engine = new(asynchronous, pages: 45, maxLength: 100, time: clock);
        GenerationRequest[] requests = [.. Enumerable.Range(0, 4).Select(i => engine.Request(EngineHarness.Prompt(10, i), 85, priority: i == 0 ? 5 : 0))];
        Generation[] all = [.. requests.Select(r => engine.Submit(r))];
        while (engine.Step()) clock.Advance(Tick);
        Assert.True(engine.Engine.Metrics.Preemptions > 0);
        Assert.Equal([1, 2, 3, 0], Enumerable.Range(0, 4).OrderBy(i => all[i].FinishedAt));
        Assert.Equal(84 * Tick.Ticks, all[1].FinishedAt - all[1].FirstTokenAt);
        for (int i = 0; i < 4; i++) EngineHarness.AssertEnded(all[i], FinishReason.Length, engine.Expected(requests[i]));
    }

    [Fact]
    public void A_preempted_sequence_goes_before_newcomers_of_any_priority()
    {
        using EngineHarness engine = new(pages: 45, maxLength: 100);
        Generation[] all = [.. Enumerable.Range(0, 4).Select(i => engine.Submit(engine.Request(EngineHarness.Prompt(10, i), 85, priority: 1)))];
        while (engine.Engine.Metrics.Preemptions == 0) engine.Step();
        Generation[] urgent = [.. Enumerable.Range(0, 3).Select(i => engine.Submit(engine.Request(EngineHarness.Prompt(60, 10 + i), 20, priority: 0)))];
        Generation[] everybody = [.. all, .. urgent];
        int admitted = 0;
        while (engine.Step())
        {
            int now = urgent.Count(g => g.AdmittedAt != 0);
            // Whoever waits when an urgent one comes in never had a place.
            if (now > admitted) Assert.Equal(everybody.Count(g => g.AdmittedAt == 0), engine.Engine.Metrics.Waiting);
            admitted = now;
        }
        Assert.Equal(3, admitted);
        Assert.All(everybody, g => Assert.Equal(FinishReason.Length, g.Finish));
        engine.AssertWhole();
    }
}
