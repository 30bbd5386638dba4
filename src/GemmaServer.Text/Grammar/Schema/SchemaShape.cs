using System.Text.Json;

namespace GemmaServer.Text;

/// <summary>A schema of the document by its number, or its opposite.</summary>
internal readonly record struct SchemaOperand(int Id, bool IsNegated = false) : IComparable<SchemaOperand>
{
    public int CompareTo(SchemaOperand other) => (Id, IsNegated).CompareTo((other.Id, other.IsNegated));
}

/// <summary>Schemas that all apply to one value, each once and in order; none at all allows any value. Equal sets are equal.</summary>
internal sealed class SchemaSet : IEquatable<SchemaSet>
{
    private readonly string _key;

    private SchemaSet(IEnumerable<SchemaOperand> operands)
    {
        Operands = [.. new SortedSet<SchemaOperand>(operands)];
        _key = string.Join(',', Operands.Select(o => o.IsNegated ? -o.Id - 1 : o.Id));
    }

    public static SchemaSet Any { get; } = new([]);

    public IReadOnlyList<SchemaOperand> Operands { get; }

    public static SchemaSet Of(params IEnumerable<SchemaOperand> operands) => new(operands);

    public SchemaSet With(SchemaSet other) => other.Operands.Count == 0 ? this : Operands.Count == 0 ? other : new([.. Operands, .. other.Operands]);

    public bool Equals(SchemaSet? other) => other is not null && _key == other._key;

    public override bool Equals(object? obj) => Equals(obj as SchemaSet);

    public override int GetHashCode() => _key.GetHashCode(StringComparison.Ordinal);
}

/// <summary>
/// Values of one type under constraints. A schema is a list of these, any of which may hold: the form in which schemas are merged,
/// compared and written as grammar.
/// </summary>
internal abstract record SchemaBranch;

/// <summary>These values and no others: enum, const, null and the booleans.</summary>
internal sealed record FiniteBranch(IReadOnlyList<JsonElement> Values) : SchemaBranch;

/// <summary>Numbers between bounds, perhaps multiples of a step; integers are multiples of one.</summary>
internal sealed record NumberBranch(DecimalNumber? Low = null, bool IsLowOpen = false, DecimalNumber? High = null, bool IsHighOpen = false,
    DecimalNumber? Step = null) : SchemaBranch;

/// <summary>Strings with a length in code points that match every one of some grammars and none of others.</summary>
/// <param name="MinLength">At least so many code points.</param>
/// <param name="MaxLength">At most so many.</param>
/// <param name="Patterns">What the decoded text must match.</param>
/// <param name="Excluded">What it must not match.</param>
/// <param name="Format">A format by name. Our grammars are narrower than a format's definition, so nothing may be concluded from them.</param>
internal sealed record StringBranch(int MinLength = 0, int? MaxLength = null, IReadOnlyList<GrammarNode>? Patterns = null,
    IReadOnlyList<GrammarNode>? Excluded = null, string? Format = null) : SchemaBranch
{
    public IReadOnlyList<GrammarNode> Patterns { get; } = Patterns ?? [];

    public IReadOnlyList<GrammarNode> Excluded { get; } = Excluded ?? [];
}

/// <summary>What one schema says about an array's items, by place.</summary>
internal sealed record ArrayPart(IReadOnlyList<SchemaSet> Prefix, SchemaSet Rest)
{
    public SchemaSet At(int index) => index < Prefix.Count ? Prefix[index] : Rest;
}

/// <summary>Arrays; every part applies.</summary>
internal sealed record ArrayBranch(IReadOnlyList<ArrayPart> Parts, int MinItems = 0, int? MaxItems = null, bool IsUnique = false) : SchemaBranch
{
    public int PrefixLength => Parts.Count == 0 ? 0 : Parts.Max(p => p.Prefix.Count);

    public SchemaSet At(int index) => Parts.Aggregate(SchemaSet.Any, (all, part) => all.With(part.At(index)));
}

/// <summary>A member of patternProperties.</summary>
internal sealed record PatternPart(string Source, GrammarNode Pattern, SchemaSet Value);

/// <summary>What one schema says about an object's members, by name.</summary>
internal sealed record ObjectPart(IReadOnlyDictionary<string, SchemaSet> Properties, IReadOnlyList<string> Names,
    IReadOnlyList<PatternPart> Patterns, SchemaSet Additional);

/// <summary>Objects; every part applies.</summary>
/// <param name="Parts">Constraints on members.</param>
/// <param name="Required">Names that must be there, in the order in which they were asked for.</param>
/// <param name="Forbidden">Names that must not.</param>
/// <param name="Names">What every name must be, as a string.</param>
/// <param name="MinCount">At least so many members.</param>
/// <param name="MaxCount">At most so many.</param>
internal sealed record ObjectBranch(IReadOnlyList<ObjectPart> Parts, IReadOnlyList<string> Required, IReadOnlyList<string> Forbidden,
    SchemaSet Names, int MinCount = 0, int? MaxCount = null) : SchemaBranch
{
    public static ObjectBranch Any { get; } = new([], [], [], SchemaSet.Any);
}

/// <summary>Any of some branches; none is the schema that nothing satisfies.</summary>
internal sealed class SchemaShape(IReadOnlyList<SchemaBranch> branches)
{
    public static SchemaShape Nothing { get; } = new([]);

    public static SchemaShape Anything { get; } = new(
    [
        ObjectBranch.Any, new ArrayBranch([]), new StringBranch(), new NumberBranch(),
        new FiniteBranch([JsonValues.True, JsonValues.False]), new FiniteBranch([JsonValues.Null]),
    ]);

    public IReadOnlyList<SchemaBranch> Branches { get; } = branches;
}
