using GemmaServer.Text;

namespace GemmaServer.Tests;

/// <summary>GBNF as llama.cpp documents it, and what is refused.</summary>
public sealed class GbnfGrammarTests
{
    [Theory]
    // Left recursion, plain and through another rule.
    [InlineData("root ::= root \"+\" n | n\nn ::= [0-9]+", "1+22+3", "1+")]
    [InlineData("root ::= a\na ::= b \"x\" | \"y\"\nb ::= a \"z\"", "yzxzx", "yz")]
    [InlineData("root ::= opt root \"b\" | \"a\"\nopt ::= \"c\"?", "ccabbb", "cca")]
    // A list of chess moves, and arithmetic.
    [InlineData("root ::= \"1. \" move \" \" move \"\\n\"\nmove ::= (pawn | piece) [+#]?\npiece ::= [NBRQK] [a-h]? [1-8]? \"x\"? [a-h] [1-8]\npawn ::= ([a-h] \"x\")? [a-h] [1-8]", "1. e4 Nf6+\n", "1. e9 Nf6\n")]
    [InlineData("root ::= e # the whole\ne ::= t ([-+*/] t)*\nt ::= [a-z] | num | \"(\" e \")\"\nnum ::= [0-9]{1,3}", "(a+12)*3/b", "(a+1234)")]
    [InlineData("root ::= [^\\n\\x22]{2,} \"\\u00e9\\U0001F600\"", "abé😀", "aé😀")]
    [InlineData("root ::=\n  \"a\" |\n  \"b\" (\n \"c\"\n | \"d\" )\n", "bd", "b")]
    [InlineData("root ::= . .\n", "é日", "é"), InlineData("root ::= \"a\"{,2} \"b\"{2} \"\\\\\"", "abb\\", "aaabb\\")]
    [InlineData("root ::= [\\]\\[a-] \"\" x-1\nx-1 ::= \"q\"", "-q", "bq")]
    public void Grammars_match(string text, string match, string other)
    {
        GrammarNode grammar = GbnfGrammar.Parse(text);
        Assert.True(GrammarVocabulary.Matches(grammar, match));
        Assert.False(GrammarVocabulary.Matches(grammar, other));
    }

    [Fact]
    public void Nested_lists_end_as_deep_as_they_began()
    {
        GrammarNode grammar = GbnfGrammar.Parse("root ::= \"[\" (root (\",\" root)*)? \"]\"");
        string deep = new string('[', 5000) + new string(']', 5000);
        Assert.True(GrammarVocabulary.Matches(grammar, deep));
        Assert.True(GrammarVocabulary.Matches(grammar, "[[],[[]],[]]"));
        Assert.False(GrammarVocabulary.Matches(grammar, deep[1..]));
        Assert.False(GrammarVocabulary.Matches(grammar, deep + "]"));
    }

    [Theory]
    [InlineData("root ::= a", "'a' is not defined"), InlineData("a ::= \"b\"", "no rule 'root'"), InlineData("root ::= \"a", "Line 1"), InlineData("root = a", "'::='")]
    [InlineData("root ::= \"a\"\nroot ::= \"b\"", "Line 2"), InlineData("root ::= (\"a\"", "')' is missing"), InlineData("root ::= <think>", "not supported")]
    [InlineData("root ::= [b-a]", "upside down"), InlineData("root ::= \"a\"{3,2}", "impossible"), InlineData("root ::= \"\\q\"", "no escape"), InlineData("root ::= [a", "does not end")]
    public void What_is_no_grammar_is_refused(string text, string expected) =>
        Assert.Contains(expected, Assert.Throws<GrammarException>(() => GbnfGrammar.Parse(text)).Message, StringComparison.Ordinal);
}
