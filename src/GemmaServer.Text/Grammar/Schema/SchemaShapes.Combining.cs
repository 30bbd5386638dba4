using System.Text.Json;

namespace GemmaServer.Text;

internal sealed partial class SchemaShapes
{
    /// <summary>The keywords that bring other schemas to the same value.</summary>
    private SchemaShape Combine(SchemaShape shape, SchemaKeywords keywords)
    {
        foreach (string keyword in (ReadOnlySpan<string>)["$dynamicRef", "$recursiveRef"])
            if (keywords.Has(keyword)) throw keywords.Unsupported(keyword, "is not supported");

        if (keywords.Value("const") is { } constant) Narrow(new([new FiniteBranch([constant])]), "const");
        if (keywords.List("enum") is { } values) Narrow(new([new FiniteBranch(Counted(values, keywords))]), "enum");
        if (keywords.Text("$ref") is { } reference)
            Narrow(Of(new SchemaOperand(source.Resolve(keywords.Place, reference).Id)), "$ref");
        foreach (SchemaSet part in keywords.Schemas("allOf") ?? []) Narrow(Of(part), "allOf");
        if (keywords.Schemas("anyOf") is { } any) Narrow(new([.. any.SelectMany(a => Of(a).Branches)]), "anyOf");
        if (keywords.Schemas("oneOf") is { } one) Narrow(ExactlyOne([.. one.Select(Of)], shape, keywords.PathOf("oneOf")), "oneOf");
        if (keywords.Schema("not") is { } not) Narrow(Of(Negated(not)), "not");
        if (keywords.Schema("if") is { } condition) Narrow(Conditional(condition, keywords), "if");
        foreach ((string name, SchemaSet dependent) in keywords.SchemaMap("dependentSchemas")) Narrow(Dependent(name, dependent), "dependentSchemas");
        foreach ((string name, JsonElement names) in keywords.Members("dependentRequired"))
            Narrow(Dependent(name, names, keywords.PathOf("dependentRequired")), "dependentRequired");
        foreach ((string name, JsonElement value) in keywords.Members("dependencies"))
        {
            Narrow(value.ValueKind == JsonValueKind.Array ? Dependent(name, value, keywords.PathOf("dependencies"))
                : Dependent(name, SchemaSet.Of(new SchemaOperand(source.Child(keywords.Place, "dependencies", name).Id))), "dependencies");
        }
        return shape;

        void Narrow(SchemaShape other, string keyword) => shape = Intersect(shape, other, keywords.PathOf(keyword));
    }

    private List<JsonElement> Counted(List<JsonElement> values, SchemaKeywords keywords)
    {
        budget.Spend(values.Count, keywords.PathOf("enum"));
        return JsonValues.Distinct(values);
    }

    /// <summary>if, then and else: the condition with the one, or its opposite with the other.</summary>
    private SchemaShape Conditional(SchemaSet condition, SchemaKeywords keywords)
    {
        SchemaSet? then = keywords.Schema("then"), otherwise = keywords.Schema("else");
        if (then is null && otherwise is null) return SchemaShape.Anything;
        SchemaShape held = Of(then is null ? condition : condition.With(then));
        SchemaShape missed = Of(otherwise is null ? Negated(condition) : Negated(condition).With(otherwise));
        return new([.. held.Branches, .. missed.Branches]);
    }

    /// <summary>The member is not there, or the schema holds.</summary>
    private SchemaShape Dependent(string name, SchemaSet schema) => new([.. Without(name).Branches, .. Of(schema).Branches]);

    private SchemaShape Dependent(string name, JsonElement names, string path)
    {
        if (names.ValueKind != JsonValueKind.Array || names.EnumerateArray().Any(n => n.ValueKind != JsonValueKind.String))
            throw new GrammarException("It must be an array of strings.", path);
        return new([.. Without(name).Branches, ObjectBranch.Any with { Required = [name, .. names.EnumerateArray().Select(JsonText.StringOf).Where(n => n != name)] }]);
    }

    private static SchemaShape Without(string name) => new(
        [.. SchemaShape.Anything.Branches.Select(b => b is ObjectBranch any ? any with { Forbidden = [name] } : b)]);

    private static SchemaSet Negated(SchemaSet set) => SchemaSet.Of(set.Operands.Select(o => o with { IsNegated = !o.IsNegated }));

    /// <summary>Each option narrowed until no value fits another one too. That may ask for a little more than the schema does.</summary>
    /// <param name="options">The schemas of which exactly one must hold.</param>
    /// <param name="beside">What the schemas around them say; a branch that it rules out needs no telling apart.</param>
    /// <param name="path">For messages.</param>
    private SchemaShape ExactlyOne(SchemaShape[] options, SchemaShape beside, string path)
    {
        if (options.Length == 1) return options[0];
        SchemaShape[] merged = [.. options.Select(o => Intersect(beside, o, path))];
        List<SchemaBranch> kept = [];
        for (int i = 0; i < merged.Length; i++)
        {
            IReadOnlyList<SchemaBranch> mine = merged[i].Branches;
            for (int j = 0; j < merged.Length && mine.Count > 0; j++)
            {
                if (j == i) continue;
                foreach (SchemaBranch other in merged[j].Branches) mine = [.. mine.SelectMany(m => Separate(m, other, path))];
            }
            kept.AddRange(mine);
        }
        return new(kept);
    }

    /// <summary>What of one branch cannot be in the other.</summary>
    private IReadOnlyList<SchemaBranch> Separate(SchemaBranch branch, SchemaBranch other, string path)
    {
        budget.Spend(1, path);
        if (Merge(branch, other) is not { } common || IsEmpty(common, ProbeDepth)) return [branch];
        if (branch is ObjectBranch mine && other is ObjectBranch theirs)
            return Separate(mine, theirs) is { } apart ? [apart]
                : throw new GrammarException("It cannot be told that at most one option of 'oneOf' holds; a property with different constants tells objects apart, and 'anyOf' needs no telling.", path);
        try
        {
            return Intersect(new([branch]), OppositeOf(other, path), path).Branches;
        }
        catch (GrammarException)
        {
            throw new GrammarException("It cannot be told that at most one option of 'oneOf' holds; 'anyOf' needs no telling.", path);
        }
    }

    /// <summary>Objects are told apart by a member: one that cannot be in both, or one that only one of them must have.</summary>
    private ObjectBranch? Separate(ObjectBranch mine, ObjectBranch theirs)
    {
        string[] names = [.. mine.Required, .. theirs.Required, .. mine.Parts.SelectMany(p => p.Names)];
        foreach (string name in names.Distinct())
        {
            SchemaSet value = ValueOf(mine, name);
            if (!IsEmpty(value.With(ValueOf(theirs, name)), ProbeDepth)) continue;
            if (theirs.Required.Contains(name)) return mine;   // Without it they differ too.
            if (!IsEmpty(value, ProbeDepth)) return mine with { Required = [.. mine.Required.Union([name])] };
        }
        string? only = theirs.Required.FirstOrDefault(r => !mine.Required.Contains(r));
        return only is null ? null : mine with { Forbidden = [.. mine.Forbidden.Union([only])] };
    }
}
