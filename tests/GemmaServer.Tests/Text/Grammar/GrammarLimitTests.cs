using GemmaServer.Text;

namespace GemmaServer.Tests;

/// <summary>Hostile grammars end in an exception or work within the limits; none recurses without bound.</summary>
public sealed class GrammarLimitTests
{
    private static readonly TokenTrie s_vocabulary = GrammarVocabulary.Small;

    private static GrammarNode A => GrammarNode.Literal("a");

    private static CompiledGrammar Compile(GrammarNode node) => CompiledGrammar.Compile(node, s_vocabulary);

    private static GrammarNode Nest(int depth, Func<GrammarNode, GrammarNode> around)
    {
        GrammarNode node = A;
        for (int i = 0; i < depth; i++) node = around(node);
        return node;
    }

    [Fact]
    public void Deep_patterns_and_grammars_are_refused_by_their_readers()
    {
        string deep = new string('(', 100_000) + "a" + new string(')', 100_000);
        Assert.Throws<GrammarException>(() => RegexGrammar.Parse(deep, anchored: true));
        Assert.Throws<GrammarException>(() => GbnfGrammar.Parse("root ::= " + deep.Replace("a", "\"a\"")));
    }

    [Fact]
    public void Deep_nodes_need_no_stack()
    {
        Assert.True(Compile(Nest(100_000, static n => GrammarNode.Sequence(n, GrammarNode.Empty))).Matches("a"u8));
        Assert.True(Compile(Nest(50_000, static n => GrammarNode.Choice(n, GrammarNode.Literal("b")))).Matches("b"u8));
        // A chain of rules, each of which begins with the next.
        GrammarNode chain = Nest(500, static n => new GrammarRule("r") { Body = GrammarNode.Sequence(n, GrammarNode.Optional(GrammarNode.Literal("b"))) });
        Assert.True(Compile(chain).Matches("abbb"u8));
    }

    [Fact]
    public void Shared_parts_are_not_copied_without_bound()
    {
        // Two to the power of sixty copies.
        CompiledGrammar grammar = Compile(Nest(60, static n => GrammarNode.Choice(GrammarNode.Sequence(n, n), A)));
        Assert.True(grammar.Matches("aaaaaaa"u8));
        Assert.True(grammar.AutomatonStates < 10_000, $"{grammar.AutomatonStates} states");
    }

    [Theory]
    [InlineData("((a{1,1000}){1,1000}){1,1000}"), InlineData("(a{1,1000}){1,1000}b"), InlineData("(a|aa){1,5000}b?"), InlineData("(a*)*b?"), InlineData("[ab]*a[ab]{17}"), InlineData("(.*a){40}")]
    public void Ambiguous_repetitions_are_followed_within_the_limits(string pattern)
    {
        GrammarMatcher matcher;
        CompiledGrammar grammar;
        try
        {
            grammar = Compile(RegexGrammar.Parse(pattern, anchored: true));
        }
        catch (GrammarException)
        {
            return;
        }
        matcher = new GrammarMatcher(grammar);
        for (int i = 0; i < 100 && !matcher.IsFinished; i++)
        {
            ulong[] mask = matcher.Allowed!;
            Assert.Contains(mask, static word => word != 0);
            int token = GrammarVocabulary.FirstByte + (GrammarVocabulary.Has(mask, GrammarVocabulary.FirstByte + 'a') ? 'a' : 'b');
            if (!GrammarVocabulary.Has(mask, token)) break;
            Assert.True(matcher.TryPush(token));
        }
        Assert.True(grammar.CachedBytes <= 2 * GrammarLimits.Default.MaxCacheBytes);
    }

    [Fact]
    public void Optional_letters_before_as_many_letters_match_as_many()
    {
        CompiledGrammar grammar = Compile(RegexGrammar.Parse(string.Concat(Enumerable.Repeat("a?", 300)) + new string('a', 300), anchored: true));
        Assert.False(grammar.Matches(System.Text.Encoding.ASCII.GetBytes(new string('a', 299))));
        Assert.True(grammar.Matches(System.Text.Encoding.ASCII.GetBytes(new string('a', 450))));
        Assert.False(grammar.Matches(System.Text.Encoding.ASCII.GetBytes(new string('a', 601))));
    }

    [Fact]
    public void Intersections_that_grow_without_bound_are_refused()
    {
        GrammarNode any = GrammarNode.Repeat(GrammarNode.AnyChar, 0, null);
        GrammarNode AtFromEnd(int n) => GrammarNode.Sequence(any, A, GrammarNode.Repeat(GrammarNode.AnyChar, n, n));
        Assert.Throws<GrammarException>(() => Compile(GrammarNode.Both(AtFromEnd(30), any)));
        GrammarNode cycles = any;
        foreach (int prime in (int[])[2, 3, 5, 7, 11, 13, 17, 19])
            cycles = GrammarNode.Both(cycles, GrammarNode.Repeat(GrammarNode.Repeat(A, prime, prime), 0, null));
        Assert.Throws<GrammarException>(() => Compile(cycles));
    }

    [Fact]
    public void Recursion_and_special_tokens_in_an_intersection_are_refused()
    {
        GrammarRule rule = new("r");
        rule.Body = GrammarNode.Choice(A, GrammarNode.Sequence(A, rule, A));
        Assert.Contains("recursive", Assert.Throws<GrammarException>(() => Compile(GrammarNode.Both(rule, A))).Message, StringComparison.Ordinal);
        Assert.Contains("special token", Assert.Throws<GrammarException>(() => Compile(GrammarNode.Except(A, GrammarNode.Token(0)))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_matches_nothing_is_refused()
    {
        GrammarRule endless = new("endless");
        endless.Body = GrammarNode.Sequence(A, endless);
        Assert.Contains("no text", Assert.Throws<GrammarException>(() => Compile(endless)).Message, StringComparison.Ordinal);
        Assert.Contains("no text", Assert.Throws<GrammarException>(() => Compile(GrammarNode.Except(A, A))).Message, StringComparison.Ordinal);
        Assert.Contains("empty text", Assert.Throws<GrammarException>(() => Compile(GrammarNode.Empty)).Message, StringComparison.Ordinal);
        Assert.Contains("not defined", Assert.Throws<GrammarException>(() => Compile(new GrammarRule("x"))).Message, StringComparison.Ordinal);
        // A part that comes to no end is never entered.
        GrammarMatcher matcher = new(Compile(GrammarNode.Choice(endless, GrammarNode.Literal("b"))));
        Assert.False(matcher.TryPush(GrammarVocabulary.FirstByte + 'a'));
    }

    [Fact]
    public void A_vocabulary_that_cannot_spell_the_grammar_is_refused()
    {
        TokenTrie few = new([[], "a"u8.ToArray(), "ab"u8.ToArray()]);
        Assert.Contains("0x62", Assert.Throws<GrammarException>(() => CompiledGrammar.Compile(GrammarNode.Literal("ab"), few)).Message, StringComparison.Ordinal);
        Assert.Contains("no special token", Assert.Throws<GrammarException>(() => CompiledGrammar.Compile(GrammarNode.Token(1), few)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_large_choice_is_one_tree()
    {
        CompiledGrammar grammar = Compile(GrammarNode.Choice([.. Enumerable.Range(0, 20_000).Select(static i => GrammarNode.Literal($"value {i}"))]));
        Assert.True(grammar.Matches("value 19999"u8));
        Assert.False(grammar.Matches("value 20000"u8));
        Assert.True(grammar.AutomatonStates < 25_000);
    }

    [Fact]
    public void Limits_and_cancellation_end_compiling()
    {
        GrammarNode node = GrammarNode.Choice([.. Enumerable.Range(0, 5_000).Select(static i => GrammarNode.Literal($"value {i}"))]);
        Assert.Throws<GrammarException>(() => CompiledGrammar.Compile(node, s_vocabulary, GrammarLimits.Default with { MaxNodes = 100 }));
        Assert.Throws<GrammarException>(() => CompiledGrammar.Compile(node, s_vocabulary, GrammarLimits.Default with { MaxStates = 1000 }));
        Assert.Throws<GrammarException>(() => CompiledGrammar.Compile(node, s_vocabulary, GrammarLimits.Default with { MaxWork = 20_000 }));
        Assert.Throws<OperationCanceledException>(() => CompiledGrammar.Compile(node, s_vocabulary, null, new CancellationToken(canceled: true)));
    }
}
