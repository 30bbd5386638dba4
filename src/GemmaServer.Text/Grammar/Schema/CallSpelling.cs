using static GemmaServer.Text.GrammarParts;

namespace GemmaServer.Text;

/// <summary>
/// The arguments of a call as Gemma writes them, <c>{city:&lt;|"|>Paris&lt;|"|>,days:2}</c>: strings raw between delimiter tokens,
/// names bare where they can be, no white space.
/// </summary>
/// <param name="quoteToken">Id of the string delimiter.</param>
internal sealed class CallSpelling(int quoteToken) : ValueSpelling
{
    /// <summary>Characters of bare names: none that the argument syntax uses, that a reader trims, or that looks like a quote.</summary>
    private static readonly GrammarNode s_bareName = Times(GrammarNode.Chars(
        new('!', '!'), new('#', '&'), new('(', '+'), new('-', '9'), new(';', ';'), new('=', '='), new('?', 'Z'), new('\\', '\\'), new('^', 'z'), new('|', '|'), new('~', '~'),
        new(0xA1, 0x167F), new(0x1681, 0x1FFF), new(0x200B, 0x2027), new(0x202A, 0x202E), new(0x2030, 0x205E), new(0x2060, 0x2FFF),
        new(0x3001, 0x10FFFF)), 1, null);

    /// <summary>
    /// Any text; what no delimiter can be spelled with stands by itself, because tokens made of that alone need not be looked at one
    /// by one.
    /// </summary>
    private static readonly GrammarNode s_anyText = Times(Alt(
        GrammarNode.Chars(new(0, '<' - 1), new('=', '='), new('>' + 1, 0x10FFFF)), OneOf("<>")), 0, null);

    /// <summary>A delimiter spelled with ordinary tokens would end the string for the reader.</summary>
    private static readonly GrammarNode s_withDelimiter = Seq(s_anyText, GrammarNode.Literal(ControlTokens.Quote), s_anyText);

    private readonly GrammarNode _quote = GrammarNode.Token(quoteToken);

    public override GrammarNode OpenObject { get; } = GrammarNode.Literal("{");

    public override GrammarNode CloseObject { get; } = GrammarNode.Literal("}");

    public override GrammarNode OpenArray { get; } = GrammarNode.Literal("[");

    public override GrammarNode CloseArray { get; } = GrammarNode.Literal("]");

    public override GrammarNode Comma { get; } = GrammarNode.Literal(",");

    public override GrammarNode Text(GrammarNode content, bool isCanonical)
    {
        if (Spells(content, '<') && Spells(content, '|') && Spells(content, '"') && Spells(content, '>'))
        {
            if (content is GrammarLiteral literal) content = literal.Text.Contains(ControlTokens.Quote, StringComparison.Ordinal) ? Nothing : content;
            else content = GrammarNode.Except(content, s_withDelimiter);
        }
        return Seq(_quote, content, _quote);
    }

    public override GrammarNode Name(string name)
    {
        bool isBare = GrammarText.IsMatch(s_bareName, name);
        return isBare ? GrammarNode.Literal(name + ":") : Seq(Text(GrammarNode.Literal(name), isCanonical: true), GrammarNode.Literal(":"));
    }

    public override GrammarNode Name(GrammarNode names) => Seq(
        Alt(GrammarNode.Both(names, s_bareName), Text(GrammarNode.Except(names, s_bareName), isCanonical: true)), GrammarNode.Literal(":"));

    /// <summary>Whether a character can occur in what a grammar matches; a difference is taken for its first part.</summary>
    private static bool Spells(GrammarNode node, char c) => node switch
    {
        GrammarLiteral literal => literal.Text.Contains(c),
        GrammarChars chars => chars.Ranges.Any(r => r.First <= c && c <= r.Last),
        GrammarSequence sequence => sequence.Parts.Any(p => Spells(p, c)),
        GrammarChoice choice => choice.Options.Any(o => Spells(o, c)),
        GrammarRepeat repeat => Spells(repeat.Body, c),
        GrammarBoth { IsNegated: false } both => Spells(both.A, c) && Spells(both.B, c),
        GrammarBoth both => Spells(both.A, c),
        GrammarRule { Body: { } body } => Spells(body, c),
        _ => true,
    };
}
