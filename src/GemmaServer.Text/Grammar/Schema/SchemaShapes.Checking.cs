using System.Text.Json;

namespace GemmaServer.Text;

internal sealed partial class SchemaShapes
{
    /// <summary>How deep below a value it is looked for something that cannot be.</summary>
    private const int ProbeDepth = 3;

    /// <summary>All schemas that apply to a member with this name.</summary>
    public SchemaSet ValueOf(ObjectBranch branch, string name)
    {
        SchemaSet all = SchemaSet.Any;
        foreach (ObjectPart part in branch.Parts)
        {
            bool isDeclared = part.Properties.TryGetValue(name, out SchemaSet? value);
            if (isDeclared) all = all.With(value!);
            foreach (PatternPart pattern in part.Patterns)
            {
                budget.Spend(1 + name.Length, pattern.Source);
                if (!GrammarText.IsMatch(pattern.Pattern, name)) continue;
                all = all.With(pattern.Value);
                isDeclared = true;
            }
            if (!isDeclared) all = all.With(part.Additional);
        }
        return all;
    }

    /// <summary>Whether a member with this name may be in the object, as far as the name goes.</summary>
    public bool AllowsName(ObjectBranch branch, string name) =>
        !branch.Forbidden.Contains(name) && (branch.Names.Operands.Count == 0 || Accepts(branch.Names, JsonSerializer.SerializeToElement(name)));

    /// <summary>Whether plainly no value satisfies the schemas, looking so many levels down. False may mean that it was not found out.</summary>
    public bool IsEmpty(SchemaSet set, int depth)
    {
        try
        {
            return set.Operands.Count > 0 && Of(set).Branches.All(b => IsEmpty(b, depth));
        }
        catch (SchemaLoopException)
        {
            return false;   // It is being read just now; if it loops for good, reading it says so.
        }
    }

    private bool IsEmpty(SchemaBranch branch, int depth)
    {
        budget.Spend(1, "");
        switch (branch)
        {
            case FiniteBranch finite: return finite.Values.Count == 0;
            case NumberBranch number: return NumberGrammar.IsEmpty(number);
            case StringBranch text: return text.MinLength > text.MaxLength;
            case ArrayBranch array:
                if (array.MinItems > array.MaxItems) return true;
                for (int i = 0; depth > 0 && i < Math.Min(array.MinItems, array.PrefixLength + 1); i++)
                    if (IsEmpty(array.At(i), depth - 1)) return true;
                return false;
            case ObjectBranch o:
                return o.MinCount > o.MaxCount
                    || o.Required.Any(r => o.Forbidden.Contains(r) || (depth > 0 && IsEmpty(ValueOf(o, r), depth - 1)));
            default: return false;
        }
    }

    private bool Accepts(SchemaSet set, JsonElement value) => set.Operands.Count == 0 || Of(set).Branches.Any(b => Accepts(b, value));

    private bool Accepts(SchemaBranch branch, JsonElement value) => (branch, value.ValueKind) switch
    {
        (FiniteBranch finite, _) => finite.Values.Any(v => v.ValueKind == value.ValueKind && JsonValues.AreEqual(v, value)),
        (NumberBranch number, JsonValueKind.Number) => DecimalNumber.TryParse(value.GetRawText()) is { } x && NumberGrammar.Accepts(number, x),
        (StringBranch text, JsonValueKind.String) => Accepts(text, JsonText.StringOf(value)),
        (ArrayBranch array, JsonValueKind.Array) => Accepts(array, [.. value.EnumerateArray()]),
        (ObjectBranch o, JsonValueKind.Object) => Accepts(o, value),
        _ => false,
    };

    /// <summary>A format counts as annotation for values that the schema itself lists.</summary>
    private static bool Accepts(StringBranch branch, string text)
    {
        int length = text.EnumerateRunes().Count();
        return length >= branch.MinLength && !(length > branch.MaxLength)
            && branch.Patterns.All(p => GrammarText.IsMatch(p, text)) && !branch.Excluded.Any(p => GrammarText.IsMatch(p, text));
    }

    private bool Accepts(ArrayBranch branch, List<JsonElement> items)
    {
        if (items.Count < branch.MinItems || items.Count > branch.MaxItems) return false;
        if (branch.IsUnique && JsonValues.Distinct(items).Count != items.Count) return false;
        budget.Spend(items.Count, "");
        return !items.Where((item, i) => !Accepts(branch.At(i), item)).Any();
    }

    private bool Accepts(ObjectBranch branch, JsonElement value)
    {
        Dictionary<string, JsonElement> members = new(StringComparer.Ordinal);
        foreach (JsonProperty member in value.EnumerateObject()) members[JsonText.NameOf(member)] = member.Value;
        budget.Spend(members.Count, "");
        if (members.Count < branch.MinCount || members.Count > branch.MaxCount || !branch.Required.All(members.ContainsKey)) return false;
        return members.All(m => AllowsName(branch, m.Key) && Accepts(ValueOf(branch, m.Key), m.Value));
    }
}
