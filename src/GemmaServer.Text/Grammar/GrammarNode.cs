namespace GemmaServer.Text;

/// <summary>A range of Unicode code points, both ends included.</summary>
public readonly record struct CodePointRange(int First, int Last);

/// <summary>
/// What an answer may look like: a context-free grammar whose terminals are Unicode text and special tokens. JSON schemas, regular
/// expressions, GBNF and the frame of a chat answer (thoughts, calls, end of turn) are all put together from these.
/// </summary>
/// <remarks>Nodes are immutable but for the body of a <see cref="GrammarRule"/>, and may be shared between grammars.</remarks>
public abstract class GrammarNode
{
    private protected GrammarNode()
    {
    }

    /// <summary>The empty text.</summary>
    public static GrammarNode Empty { get; } = new GrammarSequence([]);

    /// <summary>Any one code point.</summary>
    public static GrammarNode AnyChar { get; } = Chars(new CodePointRange(0, 0x10FFFF));

    /// <summary>Exactly this text, spelled by ordinary tokens.</summary>
    public static GrammarNode Literal(string text) => new GrammarLiteral(text);

    /// <summary>One code point of these ranges; surrogates in them are nothing. No range at all matches nothing.</summary>
    public static GrammarNode Chars(params ReadOnlySpan<CodePointRange> ranges) => new GrammarChars(ranges.ToArray());

    /// <summary>A special token, which no text can spell: a channel, a call, the end of a turn.</summary>
    public static GrammarNode Token(int id) => new GrammarToken(id);

    /// <summary>One after another.</summary>
    public static GrammarNode Sequence(params ReadOnlySpan<GrammarNode> parts) => new GrammarSequence(parts.ToArray());

    /// <summary>One of them. None at all matches nothing.</summary>
    public static GrammarNode Choice(params ReadOnlySpan<GrammarNode> options) => new GrammarChoice(options.ToArray());

    /// <summary>So many times.</summary>
    /// <param name="body">What is repeated.</param>
    /// <param name="min">At least so often.</param>
    /// <param name="max">At most so often; null for any number.</param>
    public static GrammarNode Repeat(GrammarNode body, int min, int? max) => new GrammarRepeat(body, min, max);

    /// <summary>Once or not at all.</summary>
    public static GrammarNode Optional(GrammarNode body) => Repeat(body, 0, 1);

    /// <summary>What both match. Both must be regular: no rule that reaches itself, and no special token, in either.</summary>
    public static GrammarNode Both(GrammarNode a, GrammarNode b) => new GrammarBoth(a, b, isNegated: false);

    /// <summary>What the first matches and the second does not. Both must be regular.</summary>
    public static GrammarNode Except(GrammarNode a, GrammarNode b) => new GrammarBoth(a, b, isNegated: true);
}

/// <summary>A node with a name, whose body is set once it is there: the way to recursion.</summary>
public sealed class GrammarRule(string name) : GrammarNode
{
    /// <summary>For messages.</summary>
    public string Name { get; } = name;

    /// <summary>Set before the grammar is compiled.</summary>
    public GrammarNode? Body { get; set; }
}

internal sealed class GrammarLiteral(string text) : GrammarNode
{
    public string Text { get; } = text;
}

internal sealed class GrammarChars(CodePointRange[] ranges) : GrammarNode
{
    public IReadOnlyList<CodePointRange> Ranges { get; } = ranges;
}

internal sealed class GrammarToken(int id) : GrammarNode
{
    public int Id { get; } = id;
}

internal sealed class GrammarSequence(GrammarNode[] parts) : GrammarNode
{
    public IReadOnlyList<GrammarNode> Parts { get; } = parts;
}

internal sealed class GrammarChoice(GrammarNode[] options) : GrammarNode
{
    public IReadOnlyList<GrammarNode> Options { get; } = options;
}

internal sealed class GrammarRepeat(GrammarNode body, int min, int? max) : GrammarNode
{
    public GrammarNode Body { get; } = body;

    public int Min { get; } = min;

    public int? Max { get; } = max;
}

internal sealed class GrammarBoth(GrammarNode a, GrammarNode b, bool isNegated) : GrammarNode
{
    public GrammarNode A { get; } = a;

    public GrammarNode B { get; } = b;

    public bool IsNegated { get; } = isNegated;
}
