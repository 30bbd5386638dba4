using GemmaServer.Compute;
using GemmaServer.Engine;
using GemmaServer.Text;

namespace GemmaServer.Tests.Engine;

/// <summary>
/// The next request of a conversation computes at most what follows its longest common token prefix with the last one,
/// rounded down to a block, wherever that prefix ends.
/// </summary>
public sealed class ConversationCacheTests
{
    private const int Window = 512;
    private const int Chunk = 512;
    private const int Growth = 1000;        // most tokens that a dialogue adds to its first prompt
    private const int OtherLength = 1500;   // of another conversation between two turns
    private const int OtherAnswer = 40;

    public static IEnumerable<object[]> Cases() =>
        from flavour in Enum.GetValues<TemplateFlavour>()
        from thinking in new[] { false, true }
        from style in Enum.GetValues<DialogueStyle>()
        from sendsReasoningBack in thinking && style >= DialogueStyle.Calls ? new[] { false, true } : [false]
        select new object[] { flavour, thinking, style, sendsReasoningBack };

    [Theory]
    [MemberData(nameof(Cases))]
    public void The_next_turn_computes_only_what_follows_the_common_prefix(TemplateFlavour flavour, bool thinking, DialogueStyle style, bool sendsReasoningBack) =>
        Play(flavour, thinking, style, sendsReasoningBack, traffic: false);

    [Theory]
    [MemberData(nameof(Cases))]
    public void So_it_does_after_other_traffic_that_fits_in_the_pool(TemplateFlavour flavour, bool thinking, DialogueStyle style, bool sendsReasoningBack) =>
        Play(flavour, thinking, style, sendsReasoningBack, traffic: true);

    /// <summary>One dialogue for each place of the common prefix in a block, at every turn.</summary>
    private static void Play(TemplateFlavour flavour, bool thinking, DialogueStyle style, bool sendsReasoningBack, bool traffic)
    {
        Tokenizer tokenizer = GoldenVocabulary.All[0].FromJson;
        HashSet<int>[] places = [.. Enumerable.Range(0, Dialogue.Requests - 1).Select(_ => new HashSet<int>())];
        int block = 0;
        for (int filler = 0; block == 0 || places.Any(p => p.Count < block); filler++)
        {
            Assert.True(filler < 64, "Some place in a block never comes up.");
            Dialogue dialogue = new(tokenizer, flavour, thinking, style, sendsReasoningBack);
            dialogue.Begin(s_text + new string('7', filler));
            int[] last = [];
            using EngineHarness engine = NewEngine(asynchronous: filler % 2 == 1, traffic, dialogue.Render().Prompt.Length);
            block = 32;
            for (int junk = 0; traffic && junk < 3; junk++) Distract(engine, 3500, 100 + junk);     // no page is free when it begins
            for (int request = 0; request < Dialogue.Requests; request++)
            {
                (int[] prompt, int boundary) = dialogue.Render();
                int[] answer = dialogue.Answer();
                int common = prompt.AsSpan().CommonPrefixLength(last);
                int cached = Ask(engine, prompt, boundary, answer, tokenizer);
                if (request > 0)
                {
                    places[request - 1].Add(common % block);
                    Assert.True(common > 2000, $"Request {request}: only {common} tokens in common.");
                    Assert.True(
                        cached >= common / block * block,
                        $"Request {request} with {prompt.Length} tokens (generation prompt from {boundary} on): {common} in common with the {last.Length} before, {cached} cached.");
                }
                last = [.. prompt, .. answer];
                dialogue.Continue(answer);
                if (traffic) Distract(engine, OtherLength, request);
            }
        }
    }

    private static int Ask(EngineHarness engine, int[] prompt, int boundary, int[] answer, Tokenizer tokenizer)
    {
        engine.Runner.Script = p => p.AsSpan().SequenceEqual(prompt) ? answer : null;
        int[] stops = [tokenizer.TokenId("<turn|>")!.Value, tokenizer.TokenId("<|tool_response>")!.Value];
        Generation generation = engine.Submit(engine.Request(prompt, 1000, stopTokens: stops, boundary: boundary));
        Run(engine);
        EngineHarness.AssertEnded(generation, FinishReason.Stop, answer);
        Assert.Empty(engine.Errors);
        return generation.CachedTokens;
    }

    /// <summary>As <see cref="EngineHarness.RunToEnd"/>, but with one look at the books: here are many thousand steps.</summary>
    private static void Run(EngineHarness engine)
    {
        while (engine.Engine.Step())
        {
        }
        engine.Engine.CheckIntegrity();
        engine.AssertWhole();
    }

    private static void Distract(EngineHarness engine, int length, int seed)
    {
        Generation generation = engine.Submit(engine.Request(EngineHarness.Prompt(length, seed), OtherAnswer, boundary: length - 5));
        Run(engine);
        Assert.Equal(FinishReason.Length, EngineHarness.Read(generation).Finish);
    }

    /// <summary>
    /// The page layout of E2B: 16 tokens of the global group, 32 of each of four sliding ones. With traffic the pool holds what every
    /// conversation needs to go on and a chunk's pages beside, and was full of older things before: whatever else is cached has to give way.
    /// </summary>
    private static EngineHarness NewEngine(bool asynchronous, bool traffic, int firstPrompt)
    {
        int longest = firstPrompt + Growth;
        KvCachePlan plan = new(
            [new KvGroup([3], 0, 16, 64), .. Enumerable.Range(0, 4).Select(g => new KvGroup([g == 3 ? 4 : g], Window, 32, 32))], 1024, 0, KvCacheType.F32);
        int pages = traffic
            ? Kept(firstPrompt, longest) + Dialogue.Requests * Kept(OtherLength, OtherLength + OtherAnswer) + 4 * (Chunk / 32 + 2)
            : longest / 16 + 4 * (longest / 32) + plan.PagesForSequence(longest, Chunk);
        return new(asynchronous, maxLength: longest, maxBatchTokens: Chunk, plan: plan with { PageCount = pages });
    }

    /// <summary>Pages of a conversation whose turns lie between two positions: all global ones, the windows before and between those.</summary>
    private static int Kept(int first, int last) => (last + 15) / 16 + 4 * ((Window + Window / 8 + last - first) / 32 + 3);

    private static readonly string s_text = string.Concat(Enumerable.Range(0, 270).Select(i => $"Sentence {i} is here. "));
}
