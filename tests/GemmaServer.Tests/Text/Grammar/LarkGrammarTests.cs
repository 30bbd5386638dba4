using GemmaServer.Text;

namespace GemmaServer.Tests;

/// <summary>The subset of Lark's notation that servers of models take, and what is refused.</summary>
public sealed class LarkGrammarTests
{
    private const string Arithmetic = """
        // What the manual has.
        %import common.NUMBER
        %import common.WS_INLINE -> SPACE
        ?start: sum
              | NAME "=" sum    -> assign_var
        ?sum: product
            | sum "+" product   -> add
            | sum "-" product   -> sub
        ?product.2: atom | product "*" atom -> mul   # left recursion
        ?atom: NUMBER | "-" atom | NAME | "(" sum ")"
        NAME.-1: /[a-z]\w*/i
        %ignore SPACE
        """;

    private const string Sql = """
        start: select_statement
        select_statement: "SELECT" " " column " from " table (" where " condition)?
        column: "col_1" | "col_2"
        table: 'table_1' | 'table_2'
        condition: column "=" NUMBER
        NUMBER: DIGIT~1..3
        %import common (DIGIT, WS)
        """;

    [Theory]
    [InlineData(Arithmetic, "x1 = 3.5e2* (a+ -b)  -2", "x1 = 3..5"), InlineData(Arithmetic, "1+2", "1+ +"), InlineData(Arithmetic, "a\t-\tb ", " a"), InlineData(Arithmetic, "Ab", "a b")]
    [InlineData(Sql, "SELECT col_1 from table_2 where col_2=123", "SELECT col_1 from table_2 where col_2=1234"), InlineData(Sql, "SELECT col_2 from table_1", "select col_2 from table_1")]
    [InlineData("start: \"yes\"i | \"straße\"i", "YeS", "yess"), InlineData("start: \"yes\"i | \"é\"i", "É", "E")]
    [InlineData("start: \"\\\"\\\\\\n\\x41\\u00e9\\ud83d\\ude00\\U0001F600\"", "\"\\\nAé😀😀", "\"\\\nAé")]
    [InlineData("start: \"a\"..\"f\" (\"0\"..\"9\")+", "c12", "g1"), InlineData("start: \"α\"..\"γ\"", "β", "δ")]
    [InlineData("start: /a.b/", "aéb", "a\nb"), InlineData("start: /a.b/s", "a\nb", "ab"), InlineData("start: /A\\/[^\\/]/i", "a/b", "a//"), InlineData("start: /(?:ab|c)+/", "abc", "a")]
    [InlineData("start: [\"a\"] \"b\"", "b", "aa"), InlineData("start: [\"a\" | \"c\"] \"b\"", "cb", "acb"), InlineData("start: (\"a\"\n  | \"b\")~2 \"c\"?", "abc", "abb")]
    [InlineData("start: \"a\"~2..3 \"b\"{2} \"c\"{,1} \"d\"{1,}", "aabbd", "abbd"), InlineData("start: A* B+ A?\nA: \"a\"\nB: \"b\"", "aabba", "aa")]
    [InlineData("start: item*\nitem: \"x\" |\n      | \"y\" -> why\n", "xyx", "xz"), InlineData("start: | \"a\" start \"b\"", "aabb", "aab")]
    [InlineData("?start: _list\n_list: \"[\" (start (\",\" start)*)? \"]\"", "[[],[[]]]", "[[],]")]
    [InlineData("start: empty \"a\"\nempty:\nother: \"b\"", "a", "ba"), InlineData("start:\n  \"a\"\n  \"b\"", "ab", "a")]
    // Between the words of a rule, never inside a terminal, not before the first one.
    [InlineData("start: \"a\" PAIR\nPAIR: \"b\" \"c\"\n%ignore \" \"", "a  bc ", "ab c"), InlineData("start: \"a\" \"b\"\n%ignore / /\n%ignore \"#\" /[a-z]/*", "a #xy b#", " ab")]
    [InlineData("start: \"a\" | \"b\"\n%import common.WS\n%ignore WS\n%ignore /;+/ | \"--\"", "a ;;--\t", "a-")]
    [InlineData("%llguidance {}\nstart: first-rule // not first\nfirst-rule: \"a\"->x", "a", "b"), InlineData("start: a b\na: \"x\"? \n!b.3 : \"y\"", "xy", "x")]
    public void Grammars_match(string text, string match, string other)
    {
        GrammarNode grammar = LarkGrammar.Parse(text);
        Assert.True(GrammarVocabulary.Matches(grammar, match), match);
        Assert.False(GrammarVocabulary.Matches(grammar, other), other);
    }

    [Theory]
    [InlineData("DIGIT", "7", "77"), InlineData("HEXDIGIT", "F", "g"), InlineData("INT", "007", "-7"), InlineData("SIGNED_INT", "-7", "--7"), InlineData("DECIMAL", ".5", "5"), InlineData("DECIMAL", "5.", ".")]
    [InlineData("FLOAT", "1e5", "15"), InlineData("FLOAT", "1.5E-3", "1.5e"), InlineData("SIGNED_FLOAT", "+.5e1", "+5"), InlineData("NUMBER", "12", "-12"), InlineData("SIGNED_NUMBER", "-1.5", "1.5.")]
    [InlineData("ESCAPED_STRING", "\"a\\\"é\\\\\"", "\"a\\\""), InlineData("ESCAPED_STRING", "\"\"", "\"a\nb\""), InlineData("WORD", "Ab", "a1"), InlineData("CNAME", "_a1", "1a"), InlineData("LETTER", "Z", "ZZ")]
    [InlineData("LCASE_LETTER", "a", "A"), InlineData("UCASE_LETTER", "A", "a"), InlineData("WS", " \t\r\n\f", "a"), InlineData("WS_INLINE", " \t", "\n"), InlineData("NEWLINE", "\r\n\n", "\r"), InlineData("CR", "\r", "\n"), InlineData("LF", "\n", "\r")]
    [InlineData("SH_COMMENT", "# a", "# a\n"), InlineData("CPP_COMMENT", "// a", "/ a"), InlineData("C_COMMENT", "/* * **/", "/* */ */"), InlineData("SQL_COMMENT", "--", "-"), InlineData("_EXP", "e+5", "e")]
    public void The_common_terminals_are_there(string name, string match, string other)
    {
        foreach (string text in (string[])[$"%import common.{name}\nstart: {name}", $"start: {name}\n%import common ({name}, {(name == "INT" ? "CR" : "INT")})", $"%import common.{name} -> X\nstart: X"])
        {
            GrammarNode grammar = LarkGrammar.Parse(text);
            Assert.True(GrammarVocabulary.Matches(grammar, match), text);
            Assert.False(GrammarVocabulary.Matches(grammar, other), text);
        }
    }

    [Fact]
    public void A_token_may_always_come()
    {
        CompiledGrammar grammar = CompiledGrammar.Compile(
            GrammarNode.Sequence(LarkGrammar.Parse(Arithmetic), GrammarNode.Token(GrammarVocabulary.Special)), GrammarVocabulary.Make(3_000, 5, ["a", "1", "+", "(", ")", " ", ".", "=", "e", "*"]));
        for (int seed = 0; seed < 20; seed++)
        {
            Random random = new(seed);
            GrammarMatcher matcher = new(grammar);
            for (int step = 0; step < 60 && !matcher.IsFinished; step++)
            {
                int[] allowed = [.. Enumerable.Range(0, 3_000).Where(t => GrammarVocabulary.Has(matcher.Allowed!, t))];
                Assert.NotEmpty(allowed);
                Assert.True(matcher.TryPush(allowed[random.Next(allowed.Length)]));
            }
        }
    }

    [Theory]
    [InlineData("begin: \"a\"", "no rule 'start'"), InlineData("start: a", "rule 'a' is not defined"), InlineData("start: A", "terminal 'A' is not defined"), InlineData("start: \"a\nb: \"c\"", "Line 1 of the grammar: a text does not end")]
    [InlineData("start: \"a\"\nstart: \"b\"", "Line 2 of the grammar: 'start' is defined twice"), InlineData("start: (\"a\"", "')' is missing"), InlineData("start: [\"a\")", "']' is missing"), InlineData("start \"a\"", "':' is missing")]
    [InlineData("_sep{x, s}: x (s x)*\nstart: \"a\"", "templates"), InlineData("start: _sep{a, \",\"}\na: \"x\"", "templates"), InlineData("%declare A\nstart: A", "'%declare' is not supported"), InlineData("start: \"a\"\n%override start: \"b\"", "Line 2 of the grammar: '%override' is not supported")]
    [InlineData("%extend a: \"b\"", "'%extend' is not supported"), InlineData("%import python.NAME", "'common'"), InlineData("%import .other.NAME", "'common'"), InlineData("%import common.NAME", "has no 'NAME'"), InlineData("%import common.INT -> int", "no terminal's name")]
    [InlineData("start: %json {}", "'%json' is not supported"), InlineData("start: <|tool|>", "not supported"), InlineData("start: @other", "not supported"), InlineData("start[capture]: \"a\"", "attributes"), InlineData("start: A\nA: b\nb: \"x\"", "a terminal cannot use the rule 'b'")]
    [InlineData("start: /(/", "/(/: The regular expression cannot be followed"), InlineData("start: /a(?=b)/", "lookahead"), InlineData("start: /a/x", "flags"), InlineData("start: /a", "does not end"), InlineData("start: \"a\"~3..2", "impossible"), InlineData("start: \"a\"~", "a number"), InlineData("start: \"a\"~9999999", "a number")]
    [InlineData("start: \"ab\"..\"c\"", "one character"), InlineData("start: \"c\"..\"a\"", "upside down"), InlineData("start: \"a\"..b", "two texts"), InlineData("start: \"\\q\"", "no escape"), InlineData("start: \"\\ud800\"", "hexadecimal"), InlineData("start: \"a\" ) ", "')' is not expected")]
    public void What_is_not_supported_is_refused(string text, string expected) =>
        Assert.Contains(expected, Assert.Throws<GrammarException>(() => LarkGrammar.Parse(text)).Message, StringComparison.Ordinal);

    [Fact]
    public void Hostile_grammars_end()
    {
        Assert.Contains("nested", Assert.Throws<GrammarException>(() => LarkGrammar.Parse("start: " + new string('(', 100_000))).Message, StringComparison.Ordinal);
        Assert.Throws<GrammarException>(() => LarkGrammar.Parse("start: " + string.Concat(Enumerable.Repeat("a ", 50_000))));
        Assert.Throws<GrammarException>(() => CompiledGrammar.Compile(LarkGrammar.Parse("start: start \"a\""), GrammarVocabulary.Small));
        // What is ignored may be the empty text.
        Assert.True(GrammarVocabulary.Matches(LarkGrammar.Parse("start: \"a\" \"b\"\n%ignore / */"), "a   b"));
    }

    [Theory]
    [InlineData("start: \"a\"", true), InlineData("?start: \"a\"", true), InlineData("// root ::= x\n\nstart.2 : \"::=\"", true), InlineData("%import common.INT\nstart: INT", true), InlineData("# Lark\nA: \"b\"", true)]
    [InlineData("root ::= \"a:\"", false), InlineData("# a: b\nroot ::= x\nx ::= \"y\"", false), InlineData("root\n  ::= \"a\"", false), InlineData("root := 1", false), InlineData("", false), InlineData("root", false)]
    public void Lark_is_told_from_Gbnf_by_its_form(string text, bool isLark) => Assert.Equal(isLark, LarkGrammar.IsLikely(text));
}
