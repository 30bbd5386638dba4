using System.Globalization;
using System.Text;
using static GemmaServer.Text.GrammarParts;

namespace GemmaServer.Text;

/// <summary>JSON text: compact, with single blanks, or broken into indented lines, as models write it; never with endless white space.</summary>
internal sealed class JsonSpelling : ValueSpelling
{
    /// <summary>More levels of indentation than anybody reads.</summary>
    private const int MaxIndent = 20;

    private static readonly GrammarNode s_hex = OneOf("0-9a-fA-F");

    /// <summary>One character of a string in any of its spellings; \u never names half a surrogate pair.</summary>
    private static readonly GrammarNode s_anySpelling = Alt(
        GrammarNode.Chars(new(' ', '!'), new('#', '['), new(']', 0x10FFFF)),
        Seq(GrammarNode.Literal("\\"), Alt(
            OneOf("\"\\/bfnrt"),
            Seq(GrammarNode.Literal("u"), Alt(
                Seq(OneOf("0-9a-cA-CefEF"), s_hex, s_hex, s_hex), Seq(OneOf("dD"), OneOf("0-7"), s_hex, s_hex),
                Seq(OneOf("dD"), OneOf("89abAB"), s_hex, s_hex, GrammarNode.Literal("\\u"), OneOf("dD"), OneOf("c-fC-F"), s_hex, s_hex))))));

    private static readonly GrammarNode s_quote = GrammarNode.Literal("\"");

    private readonly GrammarNode _gap, _colon;

    public JsonSpelling(bool isCompact)
    {
        GrammarNode newLine = GrammarNode.Literal("\n");
        _gap = isCompact ? GrammarNode.Empty
            : Alt(GrammarNode.Empty, GrammarNode.Literal(" "), Seq(newLine, Maybe(newLine), Times(OneOf(" \t"), 0, MaxIndent)));
        _colon = isCompact ? GrammarNode.Literal(":") : Seq(GrammarNode.Literal(":"), Maybe(GrammarNode.Literal(" ")));
        OpenObject = Seq(GrammarNode.Literal("{"), _gap);
        OpenArray = Seq(GrammarNode.Literal("["), _gap);
        Comma = Seq(GrammarNode.Literal(","), _gap);
        // An empty object has one gap, in front of the brace that closes it too.
        CloseObject = Seq(_gap, GrammarNode.Literal("}"));
        CloseArray = Seq(_gap, GrammarNode.Literal("]"));
    }

    public override GrammarNode OpenObject { get; }

    public override GrammarNode CloseObject { get; }

    public override GrammarNode OpenArray { get; }

    public override GrammarNode CloseArray { get; }

    public override GrammarNode Comma { get; }

    public override GrammarNode Text(GrammarNode content, bool isCanonical) => Seq(s_quote, Spelled(content, isCanonical), s_quote);

    public override GrammarNode Name(string name) => Seq(Text(GrammarNode.Literal(name), isCanonical: true), _colon);

    public override GrammarNode Name(GrammarNode names) => Seq(Text(names, isCanonical: true), _colon);

    /// <summary>The content with each character spelled. Characters keep apart in it, so intersections and differences stay what they are.</summary>
    private static GrammarNode Spelled(GrammarNode node, bool isCanonical) => node switch
    {
        GrammarLiteral literal => GrammarNode.Literal(Escaped(literal.Text)),
        GrammarChars when ReferenceEquals(node, GrammarNode.AnyChar) && !isCanonical => s_anySpelling,
        GrammarChars chars => Spelled(chars),
        GrammarSequence sequence => Seq([.. sequence.Parts.Select(p => Spelled(p, isCanonical))]),
        GrammarChoice choice => Alt([.. choice.Options.Select(o => Spelled(o, isCanonical))]),
        GrammarRepeat repeat => Times(Spelled(repeat.Body, isCanonical), repeat.Min, repeat.Max),
        GrammarBoth { IsNegated: false } both => GrammarNode.Both(Spelled(both.A, isCanonical), Spelled(both.B, isCanonical)),
        GrammarBoth both => GrammarNode.Except(Spelled(both.A, isCanonical), Spelled(both.B, isCanonical)),
        GrammarRule { Body: { } body } => Spelled(body, isCanonical),
        _ => throw new GrammarException("A pattern with special tokens or recursion cannot describe a string."),
    };

    private static GrammarNode Spelled(GrammarChars chars)
    {
        List<CodePointRange> raw = [];
        List<GrammarNode> escaped = [];
        foreach (CodePointRange range in chars.Ranges)
        {
            for (int c = range.First; c <= Math.Min(range.Last, '\\'); c++)
                if (IsEscaped(c)) escaped.Add(GrammarNode.Literal(Escaped(((char)c).ToString())));
            foreach ((int first, int last) in (ReadOnlySpan<(int, int)>)[(' ', '!'), ('#', '['), (']', 0x10FFFF)])
                if (Math.Max(first, range.First) <= Math.Min(last, range.Last)) raw.Add(new(Math.Max(first, range.First), Math.Min(last, range.Last)));
        }
        return Alt([GrammarNode.Chars([.. raw]), .. escaped]);
    }

    private static bool IsEscaped(int c) => c is < ' ' or '"' or '\\';

    private static string Escaped(string text)
    {
        StringBuilder output = new(text.Length);
        foreach (char c in text)
        {
            string? name = c switch { '"' => "\\\"", '\\' => "\\\\", '\b' => "\\b", '\f' => "\\f", '\n' => "\\n", '\r' => "\\r", '\t' => "\\t", _ => null };
            if (name is not null) output.Append(name);
            else if (c < ' ') output.Append(CultureInfo.InvariantCulture, $"\\u{(int)c:x4}");
            else output.Append(c);
        }
        return output.ToString();
    }
}
