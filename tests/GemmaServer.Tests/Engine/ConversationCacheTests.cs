using GemmaServer.Compute;
using GemmaServer.Engine;
using GemmaServer.Model;
using GemmaServer.Tests.Model;
using GemmaServer.Text;

namespace GemmaServer.Tests.Engine;

/// <summary>
/// The next request of a conversation of 4,000 tokens computes at most what follows its longest common token prefix with the
/// last one, rounded down to a block, wherever that prefix ends, while other conversations go on in the same pool and others come
/// and go: as long as it all fits.
/// </summary>
/// <remarks>
/// "Fits" is counted on paper: all that the conversations in play and their strangers leave where a conversation may go on, and the
/// pages that one prefill passes through. The pool was full before the first turn, and every turn evicts.
/// </remarks>
public sealed class ConversationCacheTests
{
    private const int Together = 4;         // conversations in one pool
    private const int FirstQuestion = 3500;
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
        Play(e2b, new Conversation(Tokenizer, flavour, thinking, style, sendsReasoningBack), block: 32, count: 32, asynchronous: (int)style % 2 == 1);
    }

    /// <summary>Five sliding groups with a window of 1,024, where a window is nine times the global pages of a conversation.</summary>
    [Fact]
    public void So_it_does_where_windows_are_most_of_the_cache()
    {
        KvCachePlan plan = KvCachePlanner.Plan(CheckpointsPublishedSizesTests.Published("12B"), KvCacheType.F16, 16);
        Assert.Equal([16, 16, 16, 16, 16, 96], plan.Groups.Select(g => g.TokensPerPage).Order());
        Play(plan, new Conversation(Tokenizer, TemplateFlavour.Large, thinking: true, DialogueStyle.Text, sendsReasoningBack: false), block: 96, count: 24, asynchronous: true);
    }

    private static Tokenizer Tokenizer => GoldenVocabulary.All[0].FromJson;

    /// <summary>A conversation for each of so many places of the common prefix in a block, some at a time, and all in one engine.</summary>
    private static void Play(KvCachePlan plan, Conversation conversation, int block, int count, bool asynchronous)
    {
        Turn[][] all = [.. Enumerable.Range(0, count).Select(i => conversation.WithLongerQuestion(FirstQuestion + i * (block / count), seed: i))];
        using Party party = new(plan, all[^1], block, asynchronous, Tokenizer);
        HashSet<int>[] places = [.. Enumerable.Range(0, Dialogue.Requests).Select(_ => new HashSet<int>())];
        for (int first = 0; first < count / Together; first++) party.Play([.. all.Where((_, i) => i % (count / Together) == first)], places);
        Assert.All(places.Skip(1), p => Assert.Equal(count, p.Count));
    }

    /// <summary>Conversations that take turns in one engine, a stranger after each round.</summary>
    private sealed class Party : IDisposable
    {
        private readonly EngineHarness _engine;
        private readonly int[] _stops;
        private readonly int _block;
        private int _strangers;

        public Party(KvCachePlan plan, Turn[] longest, int block, bool asynchronous, Tokenizer tokenizer)
        {
            _block = block;
            _stops = [tokenizer.TokenId("<turn|>")!.Value, tokenizer.TokenId("<|tool_response>")!.Value];
            int pages = 0;
            for (int turn = 1; turn < longest.Length; turn++) pages = Math.Max(pages, PagesSince(plan, longest, Conversation.LastPassed(longest, turn), turn));
            _engine = new EngineHarness(asynchronous, maxLength: longest.Max(t => t.End) + 1, maxBatchTokens: Chunk, plan: plan with { PageCount = pages });
            while (Evictions == 0) AskStranger();   // no page is free when it begins
        }

        /// <summary>
        /// Pages that are enough for what everybody leaves from one turn to another, with windows in half of them at most, and for
        /// those that each prefill passes through.
        /// </summary>
        private int PagesSince(KvCachePlan plan, Turn[] turns, int from, int to)
        {
            int pages = 0, windows = 0, passing = 0;
            foreach (KvGroup g in plan.Groups)
            {
                int left = Together * Conversation.Pages(g, turns, from, to, _block)
                    + (to - from) * Conversation.PagesBetween(g, Conversation.WindowStart(g, StrangerLength - 5, _block), StrangerLength + StrangerAnswer);
                pages += left;
                if (g.Window == 0) continue;
                windows += left;
                passing += Chunk / g.TokensPerPage + 1;
            }
            return Math.Max(pages, 2 * windows) + (Together + 1) * passing;
        }

        private long Evictions => _engine.Engine.Metrics.PrefixCacheEvictions;

        public void Play(Turn[][] all, HashSet<int>[] places)
        {
            for (int turn = 0; turn < Dialogue.Requests; turn++)
            {
                foreach (Turn[] turns in all)
                {
                    int cached = Ask(turns[turn]);
                    if (turn == 0) continue;
                    int common = Conversation.Common(turns, turn);
                    places[turn].Add(common % _block);
                    Assert.True(common > FirstQuestion, $"Turn {turn}: only {common} tokens in common.");
                    Assert.True(
                        cached >= common / _block * _block,
                        $"Turn {turn} with {turns[turn].Prompt.Length} tokens (generation prompt from {turns[turn].Boundary} on): {common} in common with the {turns[turn - 1].End} before, {cached} cached.");
                }
                long before = Evictions;
                AskStranger();
                Assert.True(Evictions > before);
            }
            Assert.Empty(_engine.Errors);
        }

        public void Dispose() => _engine.Dispose();

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
