using System.Text.Json;

namespace GemmaServer.Text;

internal sealed partial class SchemaShapes
{
    /// <summary>What a schema does not allow.</summary>
    private SchemaShape Opposite(SchemaShape shape, string path)
    {
        SchemaShape rest = SchemaShape.Anything;
        foreach (SchemaBranch branch in shape.Branches) rest = Intersect(rest, OppositeOf(branch, path), path);
        return rest;
    }

    private SchemaShape OppositeOf(SchemaBranch branch, string path)
    {
        if (branch is FiniteBranch finite) return OppositeOf(finite, path);
        List<SchemaBranch> all = [.. SchemaShape.Anything.Branches.Where(b => b.GetType() != branch.GetType())];
        all.AddRange(branch switch
        {
            StringBranch text => OppositeOf(text, path),
            NumberBranch number => OppositeOf(number, path),
            ArrayBranch array => OppositeOf(array, path),
            _ => OppositeOf((ObjectBranch)branch, path),
        });
        return new(all);
    }

    private static SchemaShape OppositeOf(FiniteBranch finite, string path)
    {
        List<SchemaBranch> all = [.. SchemaShape.Anything.Branches.Where(b => b is ObjectBranch or ArrayBranch)];
        if (finite.Values.Any(v => !JsonValues.IsScalar(v))) throw CannotNegate("objects and arrays that are given whole", path);
        GrammarNode[] texts = [.. finite.Values.Where(v => v.ValueKind == JsonValueKind.String).Select(v => GrammarNode.Literal(JsonText.StringOf(v)))];
        all.Add(new StringBranch(Excluded: texts));

        // Numbers between the listed ones.
        SortedSet<DecimalNumber> numbers = [];
        foreach (JsonElement value in finite.Values.Where(v => v.ValueKind == JsonValueKind.Number))
            numbers.Add(DecimalNumber.TryParse(value.GetRawText()) ?? throw new GrammarException("The number has too many digits.", path));
        DecimalNumber? low = null;
        foreach (DecimalNumber number in numbers)
        {
            all.Add(new NumberBranch(low, low is not null, number, true));
            low = number;
        }
        all.Add(new NumberBranch(low, low is not null));

        JsonElement[] others = [.. new[] { JsonValues.True, JsonValues.False, JsonValues.Null }
            .Where(o => finite.Values.All(v => v.ValueKind != o.ValueKind))];
        if (others.Length > 0) all.Add(new FiniteBranch(others));
        return new(all);
    }

    private static IEnumerable<SchemaBranch> OppositeOf(StringBranch text, string path)
    {
        if (text.Format is not null) throw CannotNegate("formats", path);
        if (text.MinLength > 0) yield return new StringBranch(0, text.MinLength - 1);
        if (text.MaxLength is { } max) yield return new StringBranch(max + 1);
        foreach (GrammarNode pattern in text.Patterns) yield return new StringBranch(Excluded: [pattern]);
        foreach (GrammarNode excluded in text.Excluded) yield return new StringBranch(Patterns: [excluded]);
    }

    private static IEnumerable<SchemaBranch> OppositeOf(NumberBranch number, string path)
    {
        if (number.Step is not null) throw CannotNegate("integers and multiples", path);
        if (number.Low is { } low) yield return new NumberBranch(High: low, IsHighOpen: !number.IsLowOpen);
        if (number.High is { } high) yield return new NumberBranch(Low: high, IsLowOpen: !number.IsHighOpen);
    }

    private static IEnumerable<SchemaBranch> OppositeOf(ArrayBranch array, string path)
    {
        if (array.Parts.Count > 0 || array.IsUnique) throw CannotNegate("items of arrays", path);
        if (array.MinItems > 0) yield return new ArrayBranch([], 0, array.MinItems - 1);
        if (array.MaxItems is { } max) yield return new ArrayBranch([], max + 1);
    }

    /// <summary>A required member is missing, a forbidden one is there, or one that is declared has a value that it must not have.</summary>
    private static IEnumerable<SchemaBranch> OppositeOf(ObjectBranch o, string path)
    {
        if (o.Names.Operands.Count > 0) throw CannotNegate("names of members", path);
        if (o.MinCount > 0) yield return ObjectBranch.Any with { MaxCount = o.MinCount - 1 };
        if (o.MaxCount is { } max) yield return ObjectBranch.Any with { MinCount = max + 1 };
        foreach (string name in o.Required) yield return ObjectBranch.Any with { Forbidden = [name] };
        foreach (string name in o.Forbidden) yield return ObjectBranch.Any with { Required = [name] };
        foreach (ObjectPart part in o.Parts)
        {
            if (part.Patterns.Count > 0 || part.Additional.Operands.Count > 0) throw CannotNegate("members without a declared name", path);
            foreach (string name in part.Names)
            {
                foreach (SchemaOperand operand in part.Properties[name].Operands)
                {
                    SchemaSet opposite = SchemaSet.Of(operand with { IsNegated = !operand.IsNegated });
                    ObjectPart violated = new(new Dictionary<string, SchemaSet> { [name] = opposite }, [name], [], SchemaSet.Any);
                    yield return ObjectBranch.Any with { Parts = [violated], Required = [name] };
                }
            }
        }
    }

    private static GrammarException CannotNegate(string what, string path) => new($"The opposite of a schema with {what} is not supported.", path);
}
