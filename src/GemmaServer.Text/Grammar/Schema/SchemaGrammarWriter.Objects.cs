using static GemmaServer.Text.GrammarParts;

namespace GemmaServer.Text;

internal sealed partial class SchemaGrammarWriter
{
    /// <summary>Names may match any subset of these many patterns, and each subset is a kind of member of its own.</summary>
    private const int MaxPatterns = 5;

    private readonly record struct Member(GrammarNode Node, bool IsRequired);

    private GrammarNode Object(ObjectBranch o, string path)
    {
        HashSet<string> required = [.. o.Required];
        List<string> listed = [.. o.Parts.SelectMany(p => p.Names).Concat(o.Required).Distinct()];
        (GrammarNode names, IReadOnlyList<string> onlyNames) = NamesOf(o, path);
        listed = [.. listed.Union(onlyNames)];
        List<Member> members = [];
        foreach (string name in listed)
        {
            budget.Spend(1, path);
            SchemaSet value = shapes.ValueOf(o, name);
            bool isPossible = shapes.AllowsName(o, name) && !shapes.IsEmpty(value, 0);
            if (isPossible) members.Add(new(Seq(spelling.Name(name), Value(value)), required.Contains(name)));
            else if (required.Contains(name)) return Nothing;
        }
        GrammarNode others = Others(o, names, [.. listed, .. o.Forbidden], path);
        GrammarNode? content = Counted(members, others, o.MinCount, o.MaxCount, path);
        return content is null ? Nothing : Seq(spelling.OpenObject, content, spelling.CloseObject);
    }

    /// <summary>What propertyNames leaves for names that are not declared: a grammar, or a list.</summary>
    private (GrammarNode Names, IReadOnlyList<string> Only) NamesOf(ObjectBranch o, string path)
    {
        if (o.Names.Operands.Count == 0) return (AnyText, []);
        List<GrammarNode> grammars = [];
        List<string> only = [];
        foreach (SchemaBranch branch in shapes.Of(o.Names).Branches)
        {
            if (branch is StringBranch text) grammars.Add(Content(text).Content);
            else if (branch is FiniteBranch finite) only.AddRange(finite.Values.Where(v => v.ValueKind == System.Text.Json.JsonValueKind.String).Select(JsonText.StringOf));
        }
        budget.Spend(only.Count, path);
        return (Alt([.. grammars]), only);
    }

    /// <summary>Members whose names are not declared, by the patterns that their names match.</summary>
    private GrammarNode Others(ObjectBranch o, GrammarNode names, List<string> taken, string path)
    {
        if (IsNothing(names)) return Nothing;
        List<PatternPart> patterns = [.. o.Parts.SelectMany(p => p.Patterns).DistinctBy(p => p.Source)];
        if (patterns.Count > MaxPatterns) throw new GrammarException($"'patternProperties' with more than {MaxPatterns} patterns for one object is not supported.", path);
        List<GrammarNode> kinds = [];
        GrammarNode[] takenNames = [.. taken.Distinct().Select(GrammarNode.Literal)];
        for (int subset = 0; subset < 1 << patterns.Count; subset++)
        {
            budget.Spend(1, path);
            HashSet<string> matched = [.. patterns.Where((_, i) => (subset & 1 << i) != 0).Select(p => p.Source)];
            SchemaSet value = SchemaSet.Any;
            foreach (ObjectPart part in o.Parts)
            {
                PatternPart[] mine = [.. part.Patterns.Where(p => matched.Contains(p.Source))];
                value = mine.Length == 0 ? value.With(part.Additional) : mine.Aggregate(value, (all, p) => all.With(p.Value));
            }
            if (shapes.IsEmpty(value, 0)) continue;
            GrammarNode name = patterns.Where(p => matched.Contains(p.Source)).Select(p => p.Pattern)
                .Aggregate(names, (all, pattern) => ReferenceEquals(all, AnyText) ? pattern : GrammarNode.Both(all, pattern));
            GrammarNode not = Alt([.. takenNames, .. patterns.Where(p => !matched.Contains(p.Source)).Select(p => p.Pattern)]);
            if (!IsNothing(not)) name = GrammarNode.Except(name, not);
            kinds.Add(Seq(spelling.Name(name), Value(value)));
        }
        return Alt([.. kinds]);
    }

    /// <summary>The members with their commas, in order, so many of them; null where that cannot be.</summary>
    private GrammarNode? Counted(List<Member> members, GrammarNode others, int min, int? max, string path)
    {
        int requiredCount = members.Count(m => m.IsRequired), optional = members.Count - requiredCount;
        bool isOpen = !IsNothing(others);
        if (requiredCount > max) return null;
        if (!isOpen && max >= members.Count) max = null;
        if (!isOpen && min > members.Count) return null;
        // Free names may come twice, which counts once: at most one of them is relied on.
        if (isOpen && min > members.Count + 1)
            throw new GrammarException("'minProperties' is supported only up to one more than the declared properties.", path);
        if (min <= requiredCount && max is null) return Uncounted(members, others);
        if (optional == 0)
        {
            GrammarNode more = Seq(spelling.Comma, others);
            int least = Math.Max(0, min - members.Count);
            int? most = isOpen ? max - members.Count : 0;
            if (members.Count > 0) return Seq(Row(members.Select(m => m.Node)), Times(isOpen ? more : Nothing, least, most));
            if (most == 0) return GrammarNode.Empty;
            GrammarNode some = Seq(others, Times(more, 0, most - 1));
            return least == 0 ? Maybe(some) : some;
        }
        return CountedOptional(members, others, min, max, path);
    }

    private GrammarNode Row(IEnumerable<GrammarNode> members) =>
        Seq([.. members.SelectMany((m, i) => i == 0 ? new[] { m } : [spelling.Comma, m])]);

    /// <summary>
    /// Optional members, as many as one likes. Up to the first required one each brings a comma behind it, after that in front. Without
    /// a required one, some member begins; halving keeps the grammar small: left half and perhaps the right, or the right alone.
    /// </summary>
    private GrammarNode Uncounted(List<Member> members, GrammarNode others)
    {
        GrammarNode more = IsNothing(others) ? GrammarNode.Empty : Times(Seq(spelling.Comma, others), 0, null);
        int first = members.FindIndex(m => m.IsRequired);
        if (first < 0)
        {
            GrammarNode some = Alt(Seq(Some(members, 0, members.Count), more), IsNothing(others) ? Nothing : Seq(others, more));
            return Maybe(some);
        }
        List<GrammarNode> parts = [];
        for (int i = 0; i < first; i++) parts.Add(Maybe(Seq(members[i].Node, spelling.Comma)));
        parts.Add(members[first].Node);
        for (int i = first + 1; i < members.Count; i++)
        {
            GrammarNode next = Seq(spelling.Comma, members[i].Node);
            parts.Add(members[i].IsRequired ? next : Maybe(next));
        }
        return Seq([.. parts, more]);
    }

    private GrammarNode Some(List<Member> members, int from, int to)
    {
        if (from >= to) return Nothing;
        if (to - from == 1) return members[from].Node;
        int middle = (from + to) / 2;
        GrammarNode left = Some(members, from, middle), right = Some(members, middle, to);
        return Alt(Seq(left, Maybe(Seq(spelling.Comma, right))), right);
    }

    /// <summary>A rule for each place in the row and number of members before it, as far as the number matters.</summary>
    private GrammarNode? CountedOptional(List<Member> members, GrammarNode others, int min, int? max, string path)
    {
        int top = max ?? min;   // beyond the minimum nobody counts
        bool isOpen = !IsNothing(others);
        int states = Math.Min(top, members.Count) + 1;
        budget.Spend((int)Math.Min((long)members.Count * states, int.MaxValue), path);
        GrammarNode?[] after = new GrammarNode?[states];
        for (int count = 0; count < states; count++)
        {
            GrammarNode? end = count >= min ? GrammarNode.Empty : null;
            int? room = max is null ? null : max - count;
            GrammarNode many = isOpen && room != 0
                ? Seq(count == 0 ? others : Seq(spelling.Comma, others), Times(Seq(spelling.Comma, others), 0, room - 1)) : Nothing;
            bool isEnough = count + 1 >= min;
            after[count] = IsNothing(many) || !isEnough ? end : end is null ? many : Maybe(many);
        }
        for (int i = members.Count - 1; i >= 0; i--)
        {
            GrammarNode?[] before = new GrammarNode?[states];
            for (int count = 0; count < states; count++)
            {
                int next = max is null ? Math.Min(count + 1, states - 1) : count + 1;
                GrammarNode? rest = next < states ? after[next] : null;
                GrammarNode written = rest is null ? Nothing : Seq(count == 0 ? GrammarNode.Empty : spelling.Comma, members[i].Node, rest);
                GrammarNode node = Alt(written, members[i].IsRequired ? Nothing : after[count] ?? Nothing);
                before[count] = IsNothing(node) ? null : Shared(node);
            }
            after = before;
        }
        return after[0];
    }
}
