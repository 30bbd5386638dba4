using System.Text;
using System.Text.RegularExpressions;
using GemmaServer.Text;

namespace GemmaServer.Tests;

/// <summary>Regular expressions held against .NET's own engine, and what is refused.</summary>
public sealed class RegexGrammarTests
{
    private static readonly string[] s_letters = ["a", "b", "c", "A", "1", "-", " ", "\n", "_", "é"];

    [Fact]
    public void Random_patterns_accept_what_the_platforms_engine_accepts()
    {
        int accepted = 0, refused = 0, unsupported = 0;
        for (int seed = 0; seed < 400; seed++)
        {
            Random random = new(seed);
            string pattern = Pattern(random, 3);
            bool anchored = random.Next(2) == 0;
            string platforms = pattern.Replace("$", @"\z");   // its own $ also stands before a last line end
            Regex expected = new(anchored ? $@"\A(?:{platforms})\z" : platforms, RegexOptions.CultureInvariant | RegexOptions.NonBacktracking);
            GrammarNode node;
            try
            {
                node = RegexGrammar.Parse(pattern, anchored);
            }
            catch (GrammarException e) when (e.Message.Contains("anchor inside a repetition", StringComparison.Ordinal))
            {
                unsupported++;
                continue;
            }
            CompiledGrammar? grammar = TryCompile(node);
            for (int i = 0; i < 60; i++)
            {
                string text = string.Concat(Enumerable.Range(0, random.Next(1, 9)).Select(_ => s_letters[random.Next(s_letters.Length)]));
                bool matches = grammar is not null && grammar.Matches(Encoding.UTF8.GetBytes(text));
                Assert.True(expected.IsMatch(text) == matches, $"/{pattern}/ anchored {anchored} on '{text}': {matches}");
                if (matches) accepted++;
                else refused++;
            }
            if (grammar is not null) accepted += GenerateAndCompare(grammar, expected, random, pattern);
        }
        Assert.True(accepted > 3000 && refused > 3000 && unsupported < 100, $"{accepted} accepted, {refused} refused, {unsupported} not supported");
    }

    private static CompiledGrammar? TryCompile(GrammarNode node)
    {
        try
        {
            return CompiledGrammar.Compile(node, GrammarVocabulary.Small);
        }
        catch (GrammarException)
        {
            return null;   // nothing, or nothing but the empty text
        }
    }

    private static int GenerateAndCompare(CompiledGrammar grammar, Regex expected, Random random, string pattern)
    {
        int compared = 0;
        GrammarMatcher matcher = new(grammar);
        List<byte> bytes = [];
        for (int step = 0; step < 12 && matcher.Allowed is { } mask; step++)
        {
            int[] allowed = [.. Enumerable.Range(0, GrammarVocabulary.Small.VocabularySize).Where(id => GrammarVocabulary.Has(mask, id))];
            int token = allowed[random.Next(allowed.Length)];
            Assert.True(matcher.TryPush(token));
            bytes.AddRange(GrammarVocabulary.Small.Bytes(token));
            if (!matcher.IsComplete) continue;
            // Nothing that is not UTF-8 comes out, and the engine takes it.
            string text = new UTF8Encoding(false, true).GetString([.. bytes]);
            // .NET reads UTF-16 units where the grammar reads characters.
            if (text.Any(char.IsSurrogate)) continue;
            Assert.True(expected.IsMatch(text), $"/{pattern}/ made '{text}'");
            compared++;
        }
        return compared;
    }

    private static string Pattern(Random random, int depth)
    {
        string[] atoms = ["a", "b", "c", "1", "[ab]", "[^a]", "[a-c1]", "\\d", "[\\d_]", ".", "\\-", "\\x61", "\\u0062", "é", "(?:)", "[^\\n-]"];
        string atom = atoms[random.Next(atoms.Length)];
        if (depth == 0) return atom;
        return random.Next(9) switch
        {
            0 => $"{Pattern(random, depth - 1)}|{Pattern(random, depth - 1)}",
            1 => $"({Pattern(random, depth - 1)}){Quantifier(random)}",
            2 => $"(?:{Pattern(random, depth - 1)}|{Pattern(random, depth - 1)}){Quantifier(random)}",
            3 => $"(?<n{depth}>{Pattern(random, depth - 1)})",
            4 => $"^{Pattern(random, depth - 1)}",
            5 => $"{Pattern(random, depth - 1)}$",
            6 => $"(^|{atom}){Pattern(random, depth - 1)}({atom}|$)",
            7 => $"{atom}{Quantifier(random)}{Pattern(random, depth - 1)}",
            _ => Pattern(random, depth - 1) + Pattern(random, depth - 1),
        };
    }

    private static string Quantifier(Random random) => new[] { "", "*", "+", "?", "{2}", "{1,3}", "{0,2}?", "{2,}", "*?", "+?" }[random.Next(10)];

    [Theory]
    [InlineData(@"^\d{4}-(0[1-9]|1[0-2])-\d{2}$", "2026-11-21", "2026-13-01")]
    [InlineData(@"\w+@\w+\.com", "to: me@example.com!", "me@example.org")]
    [InlineData(@"^\p{Lu}\p{Ll}+$", "Élan", "élan")]
    [InlineData(@"^\P{L}+$", "12 #", "1a")]
    [InlineData(@"^[\u{1F600}-\u{1F64F}]$", "😀", "x")]
    [InlineData(@"^\uD83D\uDE00$", "😀", "😁")]
    [InlineData(@"^(?i)straße$", "STRAßE", "strasse")]
    [InlineData(@"^(?i:ab)c$", "aBc", "abC")]
    [InlineData(@"^(?s:.)\.$", "\n.", "..."), InlineData(@"^.$", "a", "\n")]
    [InlineData(@"^\s\S$", "\u00a0x", "xx")]
    [InlineData(@"^a{,2}$", "a{,2}", "aa"), InlineData(@"^]}$", "]}", "x")]
    [InlineData(@"^[]$|^[^]$", "x", "xx")]
    [InlineData(@"^\cJ\0[\b]$", "\n\0\b", "J0b")]
    [InlineData(@"^a{1000,5000}$", "*1000", "*999"), InlineData(@"^(ab?){500,600}$", "*600", "*601")]
    public void Patterns_read_as_in_javascript(string pattern, string match, string other)
    {
        static string Expand(string text) => text.StartsWith('*') ? new string('a', int.Parse(text[1..], null)) : text;
        CompiledGrammar grammar = CompiledGrammar.Compile(RegexGrammar.Parse(pattern, anchored: false), GrammarVocabulary.Small);
        Assert.True(grammar.Matches(Encoding.UTF8.GetBytes(Expand(match))));
        Assert.False(grammar.Matches(Encoding.UTF8.GetBytes(Expand(other))));
    }

    [Theory]
    [InlineData(@"\bword", "word boundary"), InlineData("(?=a)", "lookahead"), InlineData("(?<!a)b", "lookbehind"), InlineData(@"(a)\1", "back reference")]
    [InlineData(@"(?<n>a)\k<n>", "back reference"), InlineData("(^a)*", "anchor inside a repetition"), InlineData("(a", "does not end"), InlineData("a)", "has no '('")]
    [InlineData("[a", "does not end"), InlineData("*a", "nothing to repeat"), InlineData("a**", "nothing to repeat"), InlineData("{1}", "nothing to repeat")]
    [InlineData("a{2,1}", "impossible"), InlineData("[b-a]", "upside down"), InlineData(@"\p{Script=Greek}", "not supported"), InlineData(@"\q", "no known escape")]
    [InlineData("a{99999999999}", "more than"), InlineData("(?m)a", "not supported"), InlineData("\\", "stands at the end")]
    public void What_cannot_be_followed_is_refused_with_its_place(string pattern, string expected)
    {
        GrammarException e = Assert.Throws<GrammarException>(() => RegexGrammar.Parse(pattern, anchored: false));
        Assert.Contains(expected, e.Message, StringComparison.Ordinal);
        Assert.Contains("character", e.Message, StringComparison.Ordinal);
    }
}
