using System.Text.Json;

namespace GemmaServer.Text;

internal sealed partial class SchemaShapes
{
    /// <summary>What both allow: every branch of the one with every branch of the other.</summary>
    private SchemaShape Intersect(SchemaShape a, SchemaShape b, string path)
    {
        if (ReferenceEquals(a, SchemaShape.Anything)) return b;
        if (ReferenceEquals(b, SchemaShape.Anything)) return a;
        budget.Spend(checked(a.Branches.Count * b.Branches.Count), path);
        List<SchemaBranch> merged = [];
        foreach (SchemaBranch x in a.Branches)
        {
            foreach (SchemaBranch y in b.Branches)
            {
                if (x is FiniteBranch finite) budget.Spend(finite.Values.Count / 8, path);
                if (Merge(x, y) is not { } branch) continue;
                if (branch is ObjectBranch o) budget.Spend(o.Parts.Count + o.Required.Count, path);
                merged.Add(branch);
            }
        }
        return new(merged);
    }

    /// <summary>One branch that allows what both allow; null where that is plainly nothing.</summary>
    private SchemaBranch? Merge(SchemaBranch a, SchemaBranch b) => (a, b) switch
    {
        (FiniteBranch x, _) => Filtered(x, b),
        (_, FiniteBranch y) => Filtered(y, a),
        (NumberBranch x, NumberBranch y) => Merge(x, y),
        (StringBranch x, StringBranch y) => Merge(x, y),
        (ArrayBranch x, ArrayBranch y) => Merge(x, y),
        (ObjectBranch x, ObjectBranch y) => Merge(x, y),
        _ => null,
    };

    private FiniteBranch? Filtered(FiniteBranch finite, SchemaBranch by)
    {
        JsonElement[] kept = by is FiniteBranch other && other.Values.Count > 16 ? Common(finite, other)
            : [.. finite.Values.Where(v => Accepts(by, v))];
        return kept.Length == 0 ? null : kept.Length == finite.Values.Count ? finite : new(kept);
    }

    /// <summary>Long lists are compared by sorting out duplicates of their sum, which is quick for scalars.</summary>
    private static JsonElement[] Common(FiniteBranch a, FiniteBranch b)
    {
        int all = JsonValues.Distinct([.. a.Values, .. b.Values]).Count;
        if (all == a.Values.Count + b.Values.Count) return [];
        return [.. a.Values.Where(v => b.Values.Any(w => w.ValueKind == v.ValueKind && JsonValues.AreEqual(v, w)))];
    }

    private static NumberBranch? Merge(NumberBranch a, NumberBranch b)
    {
        NumberBranch merged = Bounded(a, b);
        if (a.Step is { } x && b.Step is { } y) merged = merged with { Step = DecimalNumber.LeastCommonMultiple(x, y) };
        else merged = merged with { Step = a.Step ?? b.Step };
        return NumberGrammar.IsEmpty(merged) ? null : merged;
    }

    /// <summary>The tighter of the bounds.</summary>
    private static NumberBranch Bounded(NumberBranch a, NumberBranch b)
    {
        if (b.Low is { } low && (a.Low is not { } l || low.CompareTo(l) is var c && (c > 0 || (c == 0 && b.IsLowOpen))))
            a = a with { Low = low, IsLowOpen = b.IsLowOpen };
        if (b.High is { } high && (a.High is not { } h || high.CompareTo(h) is var d && (d < 0 || (d == 0 && b.IsHighOpen))))
            a = a with { High = high, IsHighOpen = b.IsHighOpen };
        return a;
    }

    private static StringBranch? Merge(StringBranch a, StringBranch b)
    {
        if (a.Format is not null && b.Format is not null && a.Format != b.Format)
            throw new GrammarException($"One string cannot follow both format '{a.Format}' and '{b.Format}' here.");
        StringBranch merged = new(Math.Max(a.MinLength, b.MinLength), Smaller(a.MaxLength, b.MaxLength),
            [.. a.Patterns.Union(b.Patterns)], [.. a.Excluded.Union(b.Excluded)], a.Format ?? b.Format);
        return merged.MinLength > merged.MaxLength ? null : merged;
    }

    private static ArrayBranch? Merge(ArrayBranch a, ArrayBranch b)
    {
        ArrayBranch merged = new([.. a.Parts.Union(b.Parts)], Math.Max(a.MinItems, b.MinItems), Smaller(a.MaxItems, b.MaxItems), a.IsUnique || b.IsUnique);
        return merged.MinItems > merged.MaxItems ? null : merged;
    }

    private static ObjectBranch? Merge(ObjectBranch a, ObjectBranch b)
    {
        ObjectBranch merged = new([.. a.Parts.Union(b.Parts)], [.. a.Required.Union(b.Required)], [.. a.Forbidden.Union(b.Forbidden)],
            a.Names.With(b.Names), Math.Max(a.MinCount, b.MinCount), Smaller(a.MaxCount, b.MaxCount));
        bool isImpossible = merged.MinCount > merged.MaxCount || merged.Required.Count > merged.MaxCount || merged.Required.Intersect(merged.Forbidden).Any();
        return isImpossible ? null : merged;
    }

    private static int? Smaller(int? a, int? b) => a is null ? b : b is null ? a : Math.Min(a.Value, b.Value);
}
