using System.Text.Json;

namespace GemmaServer.Text;

/// <summary>
/// Brings schemas into branches: reads keywords (this file), the ones that combine schemas (Combining), merges branches (Merging),
/// takes opposites (Opposites), and tells whether values fit or nothing can (Checking).
/// </summary>
internal sealed partial class SchemaShapes(SchemaSource source, JsonSchemaOptions options, SchemaBudget budget)
{
    private readonly Dictionary<SchemaOperand, SchemaShape?> _shapes = [];   // null while it is being read
    private readonly Dictionary<SchemaSet, SchemaShape> _sets = [];
    private readonly Dictionary<string, GrammarNode> _patterns = new(StringComparer.Ordinal);
    private int _depth;

    /// <summary>The branches of schemas that all apply.</summary>
    public SchemaShape Of(SchemaSet set)
    {
        if (_sets.TryGetValue(set, out SchemaShape? shape)) return shape;
        shape = SchemaShape.Anything;
        foreach (SchemaOperand operand in set.Operands) shape = Intersect(shape, Of(operand), source[operand.Id].Path);
        return _sets[set] = shape;
    }

    /// <summary>Where a message about these schemas points.</summary>
    public string PathOf(SchemaSet set) => set.Operands.Count == 0 ? "" : source[set.Operands[0].Id].Path;

    private SchemaShape Of(SchemaOperand operand)
    {
        SchemaLocation place = source[operand.Id];
        if (_shapes.TryGetValue(operand, out SchemaShape? known)) return known ?? throw new SchemaLoopException(place.Path);
        if (++_depth > SchemaBudget.MaxDepth) throw new GrammarException("Schemas are nested or refer to each other too deeply.", place.Path);
        budget.Spend(1, place.Path);
        _shapes[operand] = null;
        try
        {
            SchemaShape shape = operand.IsNegated ? Opposite(Of(operand with { IsNegated = false }), place.Path) : Read(place);
            return _shapes[operand] = shape;
        }
        catch
        {
            _shapes.Remove(operand);
            throw;
        }
        finally
        {
            _depth--;
        }
    }

    private SchemaShape Read(SchemaLocation place)
    {
        if (place.Json.ValueKind == JsonValueKind.True) return SchemaShape.Anything;
        if (place.Json.ValueKind == JsonValueKind.False) return SchemaShape.Nothing;
        if (place.Json.ValueKind != JsonValueKind.Object) throw new GrammarException("A schema is an object, true or false.", place.Path);
        SchemaKeywords keywords = new(place, source);
        return Combine(new(Typed(keywords)), keywords);
    }

    private List<SchemaBranch> Typed(SchemaKeywords keywords)
    {
        HashSet<string>? types = Types(keywords);
        List<SchemaBranch> branches = [];
        if (Allows("object")) branches.Add(ReadObject(keywords));
        if (Allows("array")) branches.Add(ReadArray(keywords));
        if (Allows("string")) branches.Add(ReadString(keywords));
        if (Allows("number") || Allows("integer")) branches.Add(ReadNumber(keywords, isInteger: !Allows("number")));
        if (Allows("boolean")) branches.Add(new FiniteBranch([JsonValues.True, JsonValues.False]));
        if (Allows("null")) branches.Add(new FiniteBranch([JsonValues.Null]));
        return branches;

        bool Allows(string type) => types is null || types.Contains(type);
    }

    private static HashSet<string>? Types(SchemaKeywords keywords)
    {
        if (keywords.Value("type") is not { } value) return null;
        List<string> types = value.ValueKind == JsonValueKind.String ? [JsonText.StringOf(value)] : keywords.Texts("type");
        foreach (string type in types)
        {
            if (type is not ("object" or "array" or "string" or "number" or "integer" or "boolean" or "null"))
                throw keywords.Bad("type", "object, array, string, number, integer, boolean, null, or a list of these");
        }
        return [.. types];
    }

    private NumberBranch ReadNumber(SchemaKeywords keywords, bool isInteger)
    {
        NumberBranch number = new(keywords.Number("minimum"), false, keywords.Number("maximum"), false, isInteger ? new(1, 0) : null);
        // The oldest drafts have flags here, which make the other bound exclusive.
        if (keywords.Value("exclusiveMinimum") is { ValueKind: JsonValueKind.True or JsonValueKind.False } low)
            number = number with { IsLowOpen = low.ValueKind == JsonValueKind.True };
        else if (keywords.Number("exclusiveMinimum") is { } bound)
            number = Bounded(number, new NumberBranch(Low: bound, IsLowOpen: true));
        if (keywords.Value("exclusiveMaximum") is { ValueKind: JsonValueKind.True or JsonValueKind.False } high)
            number = number with { IsHighOpen = high.ValueKind == JsonValueKind.True };
        else if (keywords.Number("exclusiveMaximum") is { } bound)
            number = Bounded(number, new NumberBranch(High: bound, IsHighOpen: true));
        if (keywords.Number("multipleOf") is not { } step) return number;
        if (step.Sign <= 0) throw keywords.Bad("multipleOf", "a number greater than zero");
        return number with { Step = number.Step is { } other ? DecimalNumber.LeastCommonMultiple(step, other) : step };
    }

    private StringBranch ReadString(SchemaKeywords keywords)
    {
        List<GrammarNode> patterns = [];
        if (keywords.Text("pattern") is { } pattern) patterns.Add(PatternOf(pattern, keywords.PathOf("pattern")));
        string? format = keywords.Text("format");
        if (format is null || FormatGrammar.Find(format) is null) format = null;
        return new(keywords.Count("minLength") ?? 0, keywords.Count("maxLength"), patterns, [], format);
    }

    private ArrayBranch ReadArray(SchemaKeywords keywords)
    {
        if (keywords.Has("contains") && keywords.Count("minContains") != 0) throw keywords.Unsupported("contains", "is not supported");
        if (keywords.Has("maxContains") && keywords.Has("contains")) throw keywords.Unsupported("maxContains", "is not supported");
        List<SchemaSet> prefix = [];
        SchemaSet? rest = null;
        if (keywords.Value("items") is { ValueKind: JsonValueKind.Array } items)
        {
            if (items.GetArrayLength() > 0) prefix = keywords.Schemas("items")!;
            rest = keywords.Schema("additionalItems");
        }
        else
        {
            prefix = keywords.Schemas("prefixItems") ?? [];
            rest = keywords.Schema("items");
        }
        if (keywords.Has("unevaluatedItems") && rest is null) rest = Unevaluated(keywords, "unevaluatedItems");
        budget.Spend(prefix.Count, keywords.Path);
        ArrayPart[] parts = prefix.Count == 0 && rest is null ? [] : [new(prefix, rest ?? SchemaSet.Any)];
        return new(parts, keywords.Count("minItems") ?? 0, keywords.Count("maxItems"), keywords.Flag("uniqueItems"));
    }

    private ObjectBranch ReadObject(SchemaKeywords keywords)
    {
        List<KeyValuePair<string, SchemaSet>> properties = keywords.SchemaMap("properties");
        List<PatternPart> patterns = [];
        foreach ((string pattern, SchemaSet value) in keywords.SchemaMap("patternProperties"))
            patterns.Add(new(pattern, PatternOf(pattern, keywords.PathOf("patternProperties")), value));
        SchemaSet? additional = keywords.Schema("additionalProperties");
        if (additional is null && keywords.Has("unevaluatedProperties")) additional = Unevaluated(keywords, "unevaluatedProperties");
        budget.Spend(properties.Count + patterns.Count, keywords.Path);
        ObjectPart[] parts = properties.Count + patterns.Count == 0 && additional is null ? []
            : [new(properties.ToDictionary(StringComparer.Ordinal), [.. properties.Select(p => p.Key)], patterns, additional ?? SchemaSet.Any)];
        List<string> required = keywords.Value("required") is { ValueKind: JsonValueKind.True or JsonValueKind.False } ? [] : keywords.Texts("required");
        budget.Spend(required.Count, keywords.Path);
        return new(parts, [.. required.Distinct()], [], keywords.Schema("propertyNames") ?? SchemaSet.Any,
            keywords.Count("minProperties") ?? 0, keywords.Count("maxProperties"));
    }

    /// <summary>Without other schemas beside it, what was not evaluated is what was not declared here.</summary>
    private static SchemaSet? Unevaluated(SchemaKeywords keywords, string keyword)
    {
        if (keywords.Value(keyword) is { ValueKind: JsonValueKind.True }) return null;
        foreach (string beside in (ReadOnlySpan<string>)["$ref", "allOf", "anyOf", "oneOf", "if", "not", "dependentSchemas", "contains"])
            if (keywords.Has(beside)) throw keywords.Unsupported(keyword, $"beside '{beside}' is not supported");
        return keywords.Schema(keyword);
    }

    private GrammarNode PatternOf(string pattern, string path)
    {
        if (_patterns.TryGetValue(pattern, out GrammarNode? node)) return node;
        budget.Spend(1, path);
        try
        {
            return _patterns[pattern] = options.Pattern(pattern);
        }
        catch (GrammarException e) when (e.Path is null)
        {
            throw new GrammarException(e.Message, path);
        }
    }
}

/// <summary>A schema was needed to read itself. An error, unless it was only looked at to tell other schemas apart.</summary>
internal sealed class SchemaLoopException(string path) : Exception
{
    public string Path { get; } = path;
}
