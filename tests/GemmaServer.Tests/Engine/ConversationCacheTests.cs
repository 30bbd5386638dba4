using GemmaServer.Compute;
using GemmaServer.Engine;
using GemmaServer.Model;
using GemmaServer.Tests.Model;
using GemmaServer.Text;
using Xunit.Abstractions;

namespace GemmaServer.Tests.Engine;

/// <summary>
/// The next request of a conversation of 4,000 tokens computes at most what follows its longest common token prefix with the
/// last one, rounded down to a block, wherever that prefix ends, while other conversations go on in the same pool and others come
/// and go: as long as it all fits.
/// </summary>
/// <remarks>
/// The pool is counted on paper: what every conversation in play needs in order to go on, the same for the latest stranger, and the
/// pages that one prefill passes through. It was full before the first turn, and each turn evicts, so every page
/// that is kept is kept for a reason.
/// </remarks>
public sealed class ConversationCacheTests(ITestOutputHelper output)
{
    private const int Together = 4;         // conversations in one pool
    private const int FirstQuestion = 3000;
    private const int Chunk = 512;
    private const int StrangerLength = 1500;
    private const int StrangerAnswer = 40;

    public static IEnumerable<object[]> Cases() =>
        from flavour in Enum.GetValues<TemplateFlavour>()
        from thinking in new[] { false, true }
        from style in Enum.GetValues<DialogueStyle>()
        from sendsReasoningBack in thinking && style >= DialogueStyle.Calls ? new[] { false, true } : [false]
        select new object[] { flavour, thinking, style, sendsReasoningBack };

    /// <summary>The page layout of E2B: 16 tokens of the global group, 32 of each of four sliding ones with a window of 512.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public void The_next_turn_computes_only_what_follows_the_common_prefix(TemplateFlavour flavour, bool thinking, DialogueStyle style, bool sendsReasoningBack)
    {
        KvCachePlan e2b = new(
            [new KvGroup([3], 0, 16, 64), .. Enumerable.Range(0, 4).Select(g => new KvGroup([g == 3 ? 4 : g], 512, 32, 32))], 1024, 0, KvCacheType.F32);
        Play(e2b, new Conversation(Tokenizer, flavour, thinking, style, sendsReasoningBack), block: 32);
    }

    /// <summary>Five sliding groups with a window of 1,024, where a window is nine times the global pages of a conversation.</summary>
    [Fact]
    public void So_it_does_where_windows_are_most_of_the_cache()
    {
        KvCachePlan plan = KvCachePlanner.Plan(CheckpointsPublishedSizesTests.Published("12B"), KvCacheType.F16, 16);
        Assert.Equal([16, 16, 16, 16, 16, 96], plan.Groups.Select(g => g.TokensPerPage).Order());
        Play(plan, new Conversation(Tokenizer, TemplateFlavour.Large, thinking: true, DialogueStyle.Text, sendsReasoningBack: false), block: 96);
    }

    private static Tokenizer Tokenizer => GoldenVocabulary.All[0].FromJson;

    /// <summary>A conversation for each place of the common prefix in a block, some at a time in one pool.</summary>
    private void Play(KvCachePlan plan, Conversation conversation, int block)
    {
        HashSet<int>[] places = [.. Enumerable.Range(0, Dialogue.Requests).Select(_ => new HashSet<int>())];
        long evicted = 0;
        int pages = 0;
        for (int first = 0; first < block / Together; first++)
        {
            Turn[][] all = [.. Enumerable.Range(0, Together).Select(i => conversation.WithLongerQuestion(FirstQuestion + first + i * block / Together, seed: 100 * first + i))];
            Party party = new(plan, all, asynchronous: first % 2 == 1, Tokenizer);
            evicted += party.Play(places, block);
            pages = party.Pages;
        }
        Assert.All(places.Skip(1), p => Assert.Equal(block, p.Count));
        output.WriteLine($"answers of {conversation.Answers.Shortest} to {conversation.Answers.Longest} tokens, {pages} pages, {evicted} evicted");
    }

    /// <summary>Conversations that take turns in one engine, a stranger after each round.</summary>
    private sealed class Party
    {
        private readonly EngineHarness _engine;
        private readonly Turn[][] _all;
        private readonly int[] _stops;
        private int _strangers;

        public Party(KvCachePlan plan, Turn[][] all, bool asynchronous, Tokenizer tokenizer)
        {
            _all = all;
            _stops = [tokenizer.TokenId("<turn|>")!.Value, tokenizer.TokenId("<|tool_response>")!.Value];
            Pages = all.Sum(turns => Conversation.PagesToGoOn(plan, turns));
            foreach (KvGroup g in plan.Groups)
            {
                Pages += Conversation.PagesBetween(g, StrangerLength - 5, StrangerLength + StrangerAnswer);
                if (g.Window > 0) Pages += Chunk / g.TokensPerPage + 1;
            }
            int longest = all.Max(turns => turns.Max(t => t.End)) + 1;
            Pages = Math.Max(Pages, plan.PagesForSequence(longest, Chunk));
            _engine = new EngineHarness(asynchronous, maxLength: longest, maxBatchTokens: Chunk, plan: plan with { PageCount = Pages });
        }

        public int Pages { get; }

        /// <summary>Returns how many pages were evicted.</summary>
        public long Play(HashSet<int>[] places, int block)
        {
            using EngineHarness engine = _engine;
            while (engine.Engine.Metrics.PrefixCacheEvictions == 0) AskStranger();      // no page is free when it begins
            for (int turn = 0; turn < Dialogue.Requests; turn++)
            {
                for (int i = 0; i < _all.Length; i++)
                {
                    int cached = Ask(_all[i][turn]);
                    if (turn == 0) continue;
                    int common = Conversation.Common(_all[i], turn);
                    places[turn].Add(common % block);
                    Assert.True(common > FirstQuestion, $"Turn {turn}: only {common} tokens in common.");
                    Assert.True(
                        cached >= common / block * block,
                        $"Turn {turn} with {_all[i][turn].Prompt.Length} tokens (generation prompt from {_all[i][turn].Boundary} on): {common} in common with the {_all[i][turn - 1].End} before, {cached} cached.");
                }
                long before = engine.Engine.Metrics.PrefixCacheEvictions;
                AskStranger();
                Assert.True(engine.Engine.Metrics.PrefixCacheEvictions > before);
            }
            Assert.Empty(engine.Errors);
            return engine.Engine.Metrics.PrefixCacheEvictions;
        }

        private int Ask(Turn turn)
        {
            _engine.Runner.Script = p => p.AsSpan().SequenceEqual(turn.Prompt) ? turn.Answer : null;
            Generation generation = _engine.Submit(_engine.Request(turn.Prompt, 1000, stopTokens: _stops, boundary: turn.Boundary));
            Run();
            EngineHarness.AssertEnded(generation, FinishReason.Stop, turn.Answer);
            return generation.CachedTokens;
        }

        private void AskStranger()
        {
            int[] prompt = EngineHarness.Prompt(StrangerLength, seed: 1_000_000 + ++_strangers);
            Generation generation = _engine.Submit(_engine.Request(prompt, StrangerAnswer, boundary: StrangerLength - 5));
            Run();
            Assert.Equal(FinishReason.Length, EngineHarness.Read(generation).Finish);
            Assert.Equal(0, generation.CachedTokens);
        }

        /// <summary>As <see cref="EngineHarness.RunToEnd"/>, but with one look at the books: here are many thousand steps.</summary>
        private void Run()
        {
            while (_engine.Engine.Step())
            {
            }
            _engine.Engine.CheckIntegrity();
            _engine.AssertWhole();
        }
    }
}
