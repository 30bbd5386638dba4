using System.Text;
using GemmaServer.Text;

namespace GemmaServer.Tests;

/// <summary>One answer's way through a grammar: special tokens, taking back, what it costs.</summary>
public sealed class GrammarMatcherTests
{
    private static readonly TokenTrie s_vocabulary = GrammarVocabulary.Small;

    private static GrammarNode Letters => GrammarNode.Chars(new CodePointRange('a', 'd'), new CodePointRange(' ', ' '), new CodePointRange('é', 'é'));

    [Fact]
    public void Special_tokens_stand_where_the_grammar_has_them_and_nowhere_else()
    {
        GrammarNode node = GrammarNode.Sequence(
            GrammarNode.Optional(GrammarNode.Sequence(GrammarNode.Token(GrammarVocabulary.OtherSpecial), GrammarNode.Repeat(GrammarNode.AnyChar, 0, null), GrammarNode.Token(GrammarVocabulary.OtherSpecial))),
            GrammarNode.Repeat(Letters, 1, 3), GrammarNode.Token(GrammarVocabulary.Special));
        GrammarMatcher matcher = new(CompiledGrammar.Compile(node, s_vocabulary));
        Assert.True(GrammarVocabulary.Has(matcher.Allowed!, GrammarVocabulary.OtherSpecial));
        Assert.False(GrammarVocabulary.Has(matcher.Allowed!, GrammarVocabulary.Special));
        Assert.True(matcher.TryPush(GrammarVocabulary.OtherSpecial));
        Assert.True(GrammarVocabulary.TryPushText(matcher, "日"));
        Assert.True(matcher.TryPush(GrammarVocabulary.FirstByte + 0xF0));
        Assert.False(GrammarVocabulary.Has(matcher.Allowed!, GrammarVocabulary.OtherSpecial));   // within a character
        Assert.False(matcher.TryPush(GrammarVocabulary.OtherSpecial));
        matcher.Rewind(1);
        Assert.True(matcher.TryPush(GrammarVocabulary.OtherSpecial));
        Assert.True(GrammarVocabulary.TryPushText(matcher, "ab"));
        Assert.False(matcher.IsComplete);
        Assert.True(matcher.TryPush(GrammarVocabulary.Special));
        Assert.True(matcher is { IsComplete: true, IsFinished: true, Allowed: null });
    }

    [Fact]
    public void Taking_back_restores_every_mask()
    {
        GrammarNode node = GbnfGrammar.Parse("root ::= \"a\" root \"b\" | [cd ]{3,200} | root \"é\"");
        CompiledGrammar grammar = CompiledGrammar.Compile(node, s_vocabulary);
        GrammarMatcher matcher = new(grammar);
        Random random = new(3);
        List<ulong[]> masks = [matcher.Allowed!];
        for (int round = 0; round < 400; round++)
        {
            if (masks.Count > 1 && random.Next(3) == 0)
            {
                int count = random.Next(Math.Min(64, masks.Count - 1)) + 1;
                matcher.Rewind(count);
                masks.RemoveRange(masks.Count - count, count);
            }
            else
            {
                int[] allowed = [.. Enumerable.Range(0, s_vocabulary.VocabularySize).Where(id => GrammarVocabulary.Has(masks[^1], id))];
                Assert.True(matcher.TryPush(allowed[random.Next(allowed.Length)]));
                if (matcher.IsFinished)
                {
                    matcher.Rewind(1);
                    continue;
                }
                masks.Add([.. matcher.Allowed!]);
            }
            Assert.Equal(masks[^1], matcher.Allowed!);
        }
        Assert.Throws<ArgumentOutOfRangeException>(() => matcher.Rewind(GrammarMatcher.MaxRewind + 1));
    }

    [Fact]
    public void What_was_found_out_before_costs_no_memory()
    {
        CompiledGrammar grammar = CompiledGrammar.Compile(GrammarNode.Sequence(GrammarNode.Repeat(Letters, 2, 5000), GrammarNode.Token(GrammarVocabulary.Special)), s_vocabulary);
        GrammarMatcher matcher = new(grammar);
        int letter = GrammarVocabulary.FirstByte + 'a';
        long Walk()
        {
            long before = GC.GetAllocatedBytesForCurrentThread();
            bool all = true;
            for (int i = 0; i < 100; i++) all &= matcher.Allowed is not null && matcher.TryPush(letter);
            all &= matcher.TryPush(GrammarVocabulary.Special);
            matcher.Rewind(101);
            long spent = GC.GetAllocatedBytesForCurrentThread() - before;
            Assert.True(all);
            return spent;
        }
        Assert.True(Walk() > 0);
        Assert.Equal(0, Walk());
    }

    [Theory]
    [InlineData("\"[a-dé]{20,60}\""), InlineData("([a-d]{3,40} ){2,25}b"), InlineData("(a{1,30}|[ab]{25}){30,90}c"), InlineData("([ab]{14,}d){0,40}"), InlineData("(日|a{2}){17}b?")]
    public void Masks_of_counted_repetitions_allow_what_can_be_pushed(string pattern)
    {
        Random random = new(pattern.Length);
        int compared = 0;
        for (int answer = 0; answer < 4; answer++)
        {
            GrammarMatcher matcher = new(CompiledGrammar.Compile(RegexGrammar.Parse(pattern, anchored: true), s_vocabulary));
            for (int step = 0; step < 120 && !matcher.IsFinished; step++)
            {
                ulong[] mask = matcher.Allowed!;
                List<int> allowed = [];
                for (int token = 0; token < s_vocabulary.VocabularySize; token++)
                {
                    bool isTaken = matcher.TryPush(token);
                    Assert.True(isTaken == GrammarVocabulary.Has(mask, token), $"step {step}, token {token}: {(isTaken ? "taken" : "refused")}");
                    if (!isTaken) continue;
                    matcher.Rewind(1);
                    allowed.Add(token);
                }
                Assert.NotEmpty(allowed);
                Assert.True(matcher.TryPush(allowed[random.Next(allowed.Count)]));
                compared++;
            }
        }
        Assert.True(compared > 15, $"{compared} steps");
    }

    [Fact]
    public void Places_in_a_long_string_that_no_token_can_tell_apart_share_a_mask()
    {
        GrammarMatcher matcher = new(CompiledGrammar.Compile(GrammarNode.Repeat(Letters, 10, 3000), s_vocabulary));
        HashSet<ulong[]> masks = new(ReferenceEqualityComparer.Instance);
        for (int i = 0; i < 3000; i++)
        {
            masks.Add(matcher.Allowed!);
            Assert.True(matcher.TryPush(GrammarVocabulary.FirstByte + 'a'));
        }
        Assert.InRange(masks.Count, 2, 30);
    }

    [Fact]
    public void Memory_stays_within_its_bound_and_masks_stay_right()
    {
        GrammarLimits small = GrammarLimits.Default with { MaxCacheBytes = 200_000 };
        GrammarNode node = GrammarNode.Sequence(GrammarNode.Repeat(Letters, 0, 3000), GrammarNode.Literal("!"));
        CompiledGrammar bounded = CompiledGrammar.Compile(node, s_vocabulary, small), free = CompiledGrammar.Compile(node, s_vocabulary);
        GrammarMatcher a = new(bounded), b = new(free);
        for (int i = 0; i < 3000; i++)
        {
            Assert.Equal(b.Allowed!, a.Allowed!);
            Assert.True(bounded.CachedBytes < 2 * small.MaxCacheBytes, $"{bounded.CachedBytes} bytes");
            Assert.True(a.TryPush(GrammarVocabulary.FirstByte + 'a') && b.TryPush(GrammarVocabulary.FirstByte + 'a'));
        }
        Assert.False(a.TryPush(GrammarVocabulary.FirstByte + 'a'));
        Assert.True(a.TryPush(GrammarVocabulary.FirstByte + '!'));
        Assert.True(free.CachedBytes > small.MaxCacheBytes);
    }

    [Fact]
    public void Threads_may_share_a_grammar()
    {
        CompiledGrammar grammar = CompiledGrammar.Compile(GbnfGrammar.Parse("root ::= \"a\" root \"b\" | [cd]{1,300}"), s_vocabulary, GrammarLimits.Default with { MaxCacheBytes = 300_000 });
        Parallel.For(0, 4, worker =>
        {
            for (int round = 0; round < 20; round++)
            {
                GrammarMatcher matcher = new(grammar);
                int depth = 1 + (worker * 7 + round) % 30;
                Assert.True(GrammarVocabulary.TryPushText(matcher, new string('a', depth)));
                Assert.True(GrammarVocabulary.TryPushText(matcher, "cdcd"));
                Assert.NotNull(matcher.Allowed);
                Assert.True(GrammarVocabulary.TryPushText(matcher, new string('b', depth)));
                Assert.True(matcher.IsFinished);
            }
        });
    }
}
