using System.Text;
using System.Text.RegularExpressions;
using GemmaServer.Text;

namespace GemmaServer.Tests;

/// <summary>Structural tags as grammars, against a plain search for triggers, and what their free text may be.</summary>
public sealed class TagFormatTests
{
    private static TagFormat Regex(string pattern) => TagFormat.Of(RegexGrammar.Parse(pattern, anchored: true));

    private static TagFormat Text(string text) => TagFormat.Of(GrammarNode.Literal(text));

    private static FormatTag Tag(string begin, TagFormat content, params string[] ends) => new(begin, content, ends);

    private static TriggeredFormat Triggered(string[] triggers, FormatTag[] tags, bool first = false, bool stop = false, params string[] excluded) =>
        new() { Triggers = triggers, Tags = tags, AtLeastOne = first, StopAfterFirst = stop, Excluded = excluded };

    /// <summary>What the tables of <see cref="Texts_match"/> are about.</summary>
    private static TagFormat Named(string name) => name switch
    {
        "thought" => TagFormat.Sequence([Tag("<think>", TagFormat.AnyText([]), "</think>").AsFormat(), Text("ok")]),
        "two ends" => Tag("[", TagFormat.AnyText(["!"]), "]]", ")").AsFormat(),
        "overlap" => Tag("", TagFormat.AnyText([]), "aba").AsFormat(),
        "excluded end" => Tag("<t>", TagFormat.AnyText(["</t>"]), "</t>\n").AsFormat(),
        "text" => TagFormat.AnyText(["no", "never"]),
        "or" => Tag("(", TagFormat.Choice([TagFormat.AnyText([]), Text(")1")]), ")").AsFormat(),
        "calls" => Triggered(["<f="], [Tag("<f=a>", Regex("[0-9]+"), "</f>"), Tag("<f=b>", TagFormat.AnyText([]), "</f>", "</g>")]),
        "calls first" => Triggered(["<f="], [Tag("<f=a>", Regex("[0-9]+"), "</f>")], first: true),
        "one call" => Triggered(["<f="], [Tag("<f=a>", Regex("[0-9]+"), "</f>")], stop: true),
        "exactly one call" => Triggered(["<f="], [Tag("<f=a>", Regex("[0-9]+"), "</f>")], first: true, stop: true),
        "calls inside" => TagFormat.Sequence([Tag("<a>", Triggered(["<f="], [Tag("<f=", Regex("[0-9]+"), ">")], false, false, "x"), "</a>").AsFormat(), Text(".")]),
        "list" => new SeparatedFormat { Tags = [Tag("<", Regex("[a-z]"), ">"), Tag("{", Regex("[0-9]"), "}")], Separator = ", " },
        "list of one or more" => new SeparatedFormat { Tags = [Tag("<", Regex("[a-z]"), ">")], Separator = "", AtLeastOne = true },
        "list of one" => new SeparatedFormat { Tags = [Tag("<", Regex("[a-z]"), ">")], Separator = ",", StopAfterFirst = true },
        "repeated" => TagFormat.Sequence([TagFormat.Repeat(Text("a"), 2, 3), TagFormat.Repeat(Text("b"), 0, 1), TagFormat.Repeat(Text("c"), 1, null)]),
        "optional" => Tag("<", TagFormat.Repeat(TagFormat.AnyText([]), 0, 1), ">").AsFormat(),
        "endless tag" => Triggered(["#"], [Tag("#", TagFormat.Of(GbnfGrammar.Parse("root ::= \"(\" root? \")\"")))]),
        _ => throw new ArgumentOutOfRangeException(nameof(name)),
    };

    [Theory]
    [InlineData("thought", true, "<think>a < b</thin</think>ok"), InlineData("thought", false, "<think>a</think>b</think>ok"), InlineData("thought", false, "<think>a</think>")]
    [InlineData("two ends", true, "[a]b]]"), InlineData("two ends", true, "[a)"), InlineData("two ends", false, "[a)]]"), InlineData("two ends", false, "[a!)")]
    [InlineData("overlap", true, "abba" + "ba"), InlineData("overlap", true, "aba"), InlineData("overlap", false, "ababa")]
    [InlineData("excluded end", true, "<t>a</t>\n"), InlineData("excluded end", false, "<t>a</t> </t>\n"), InlineData("excluded end", false, "<t>a</t>")]
    [InlineData("text", true, ""), InlineData("text", true, "neve日n"), InlineData("text", false, "I know"), InlineData("text", false, "never")]
    [InlineData("or", true, "()"), InlineData("or", true, "(日)"), InlineData("or", true, "()1)"), InlineData("or", false, "()2)")]
    [InlineData("calls", true, ""), InlineData("calls", true, "a <f <f=a>12</f> b <f=b>x<f=a></g><"), InlineData("calls", true, "<f=a>1</f><f=a>2</f>")]
    [InlineData("calls", false, "<f=c>"), InlineData("calls", false, "a <f=a>x</f>"), InlineData("calls", false, "<f=a>1</g>"), InlineData("calls", false, "<f=a>1"), InlineData("calls", false, "so <f=")]
    [InlineData("calls first", true, "<f=a>1</f> and <f=a>2</f>."), InlineData("calls first", false, "a <f=a>1</f>"), InlineData("calls first", false, "")]
    [InlineData("one call", true, "a <f=a>1</f>"), InlineData("one call", true, "none"), InlineData("one call", false, "<f=a>1</f> b")]
    [InlineData("exactly one call", true, "<f=a>1</f>"), InlineData("exactly one call", false, "<f=a>1</f> "), InlineData("exactly one call", false, "none")]
    [InlineData("calls inside", true, "<a>b<f=1>c<f=2></a>."), InlineData("calls inside", true, "<a></a>."), InlineData("calls inside", false, "<a><f=1></a></a>."), InlineData("calls inside", false, "<a>x</a>."), InlineData("calls inside", false, "<a><f=</a>.")]
    [InlineData("list", true, ""), InlineData("list", true, "<a>, {1}, <b>"), InlineData("list", false, "<a>,{1}"), InlineData("list", false, "<a>, "), InlineData("list", false, "text <a>")]
    [InlineData("list of one or more", true, "<a><b>"), InlineData("list of one or more", false, "")]
    [InlineData("list of one", true, ""), InlineData("list of one", true, "<a>"), InlineData("list of one", false, "<a>,<b>")]
    [InlineData("repeated", true, "aac"), InlineData("repeated", true, "aaabccc"), InlineData("repeated", false, "ac"), InlineData("repeated", false, "aabbc")]
    [InlineData("optional", true, "<>"), InlineData("optional", true, "<ab>"), InlineData("optional", false, "<ab>>")]
    [InlineData("endless tag", true, "a #(()) b #() c"), InlineData("endless tag", false, "a #((b"), InlineData("endless tag", false, "a # b")]
    public void Texts_match(string name, bool isMatch, string text)
    {
        // The special token behind it is what tells the empty text.
        GrammarNode node = GrammarNode.Sequence(Named(name).ToGrammar(), GrammarNode.Token(GrammarVocabulary.Special));
        GrammarMatcher matcher = new(CompiledGrammar.Compile(node, GrammarVocabulary.Small));
        Assert.Equal(isMatch, GrammarVocabulary.TryPushText(matcher, text) && matcher.TryPush(GrammarVocabulary.Special));
    }

    /// <summary>Every text of up to eight characters that mixes beginnings, triggers and ends.</summary>
    [Theory]
    [InlineData(false, false, ""), InlineData(true, false, ""), InlineData(false, true, ""), InlineData(true, true, ""), InlineData(false, false, "fa"), InlineData(true, false, "a>")]
    public void Triggered_tags_are_what_a_search_for_triggers_finds(bool first, bool stop, string excluded)
    {
        string[] triggers = ["<f", "<<a", "f>a"];
        (string Begin, string Content, string End)[] tags = [("<fa", "a*", ">"), ("<f", "f", "<"), ("<<a", "[af]?", ">>")];
        CompiledGrammar grammar = CompiledGrammar.Compile(GrammarNode.Sequence(
            Triggered(triggers, [.. tags.Select(t => Tag(t.Begin, Regex(t.Content), t.End))], first, stop, excluded.Length == 0 ? [] : [excluded]).ToGrammar(),
            GrammarNode.Literal("$")), GrammarVocabulary.Small);
        const string letters = "<fa>";
        int matches = 0;
        for (int length = 0; length <= 8; length++)
        {
            for (int number = 0; number < 1 << (2 * length); number++)
            {
                string text = string.Create(length, number, static (span, n) =>
                {
                    for (int i = 0; i < span.Length; i++) span[i] = letters[(n >> (2 * i)) & 3];
                });
                bool expected = first ? AnyTag(text, 0, "").Any(Rest) : Rest(0) || (stop && Search(text, 0).Any(end => end == text.Length));
                Assert.True(expected == grammar.Matches(Encoding.ASCII.GetBytes(text + "$")), $"'{text}': expected {expected}");
                if (expected) matches++;

                bool Rest(int at) => first && stop ? at == text.Length : IsFree(text[at..]) || (!stop && Search(text, at).Any(Rest));
            }
        }
        Assert.True(matches > 5, $"only {matches} texts matched");

        bool IsFree(string text) => !triggers.Any(t => text.Contains(t, StringComparison.Ordinal)) && (excluded.Length == 0 || !text.Contains(excluded, StringComparison.Ordinal));

        // Where tags end that follow the trigger that is complete first.
        IEnumerable<int> Search(string text, int start)
        {
            for (int end = start + 1; end <= text.Length; end++)
            {
                string[] complete = [.. triggers.Where(t => text.AsSpan(start, end - start).EndsWith(t, StringComparison.Ordinal))];
                if (complete.Length == 0) continue;
                foreach (string trigger in complete)
                {
                    if (excluded.Length > 0 && text[start..(end - trigger.Length)].Contains(excluded, StringComparison.Ordinal)) continue;
                    foreach (int behind in AnyTag(text, end - trigger.Length, trigger)) yield return behind;
                }
                yield break;
            }
        }

        IEnumerable<int> AnyTag(string text, int at, string trigger) => tags.Where(t => t.Begin.StartsWith(trigger, StringComparison.Ordinal)).SelectMany(tag =>
            Enumerable.Range(at, text.Length - at + 1).Where(end =>
                System.Text.RegularExpressions.Regex.IsMatch(text[at..end], $"^{tag.Begin}({tag.Content}){tag.End}$", RegexOptions.CultureInvariant)));
    }

    [Theory]
    [InlineData("thought"), InlineData("two ends"), InlineData("calls"), InlineData("one call"), InlineData("calls inside"), InlineData("list"), InlineData("endless tag"), InlineData("excluded end")]
    public void A_token_may_always_come(string name)
    {
        CompiledGrammar grammar = CompiledGrammar.Compile(
            GrammarNode.Sequence(Named(name).ToGrammar(), GrammarNode.Token(GrammarVocabulary.Special)), GrammarVocabulary.Make(3_000, 11, ["<", "f", "=", "a", ">", "/", "1", "]", "(", ")", "#", "t"]));
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

    [Fact]
    public void Many_tools_stay_within_the_limits()
    {
        FormatTag[] tags = [.. Enumerable.Range(0, 200).Select(static i => Tag($"<function=tool_{i}>", Regex("[0-9]{1,9}"), "</function>"))];
        CompiledGrammar one = CompiledGrammar.Compile(Triggered(["<function="], tags).ToGrammar(), GrammarVocabulary.Small);
        Assert.True(one.Matches("Well, <function=tool_199>7</function> <function=tool_3>1</function>."u8));
        Assert.False(one.Matches("Well, <function=tool_200>7</function>"u8));
        CompiledGrammar many = CompiledGrammar.Compile(Triggered([.. tags.Take(60).Select(static t => t.Begin)], tags[..60]).ToGrammar(), GrammarVocabulary.Small);
        Assert.True(many.Matches("<function=tool_1234 <function=tool_59>7</function>"u8));
        Assert.False(many.Matches("<function=tool_59>x"u8));
    }

    [Fact]
    public void Tags_within_tags_grow_with_their_depth_alone()
    {
        TagFormat format = Text("x");
        for (int depth = 0; depth < 30; depth++)
            format = TagFormat.Sequence([Triggered(["#"], [Tag("#(", format, ")")], first: true), Text(";")]);
        CompiledGrammar grammar = CompiledGrammar.Compile(format.ToGrammar(), GrammarVocabulary.Small);
        Assert.True(grammar.Matches(Encoding.ASCII.GetBytes(string.Concat(Enumerable.Repeat("#(", 30)) + "x" + string.Concat(Enumerable.Repeat(");", 30)))));
        Assert.True(grammar.AutomatonStates < 5_000, $"{grammar.AutomatonStates} states");
    }
}
