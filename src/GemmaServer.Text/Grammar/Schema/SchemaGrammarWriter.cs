using System.Text.Json;
using static GemmaServer.Text.GrammarParts;

namespace GemmaServer.Text;

/// <summary>Writes branches as grammar. Schemas with objects or arrays become rules, whose bodies are written one after another: no recursion.</summary>
internal sealed partial class SchemaGrammarWriter(SchemaShapes shapes, ValueSpelling spelling, SchemaBudget budget)
{
    private readonly Dictionary<SchemaSet, GrammarNode> _values = [];
    private readonly Queue<(GrammarRule Rule, SchemaSet Set)> _open = new();

    /// <exception cref="GrammarException">No value satisfies the schema, or it cannot be followed.</exception>
    public GrammarNode Write(SchemaSet root)
    {
        GrammarNode start = Value(root);
        List<GrammarRule> rules = [];
        while (_open.TryDequeue(out (GrammarRule Rule, SchemaSet Set) next))
        {
            next.Rule.Body = Branches(next.Set);
            rules.Add(next.Rule);
        }
        start = GrammarPruning.Prune(start, rules);
        return IsNothing(start) ? throw new GrammarException("No value satisfies the schema.", "") : start;
    }

    /// <summary>Any value that all these schemas allow.</summary>
    private GrammarNode Value(SchemaSet set)
    {
        if (_values.TryGetValue(set, out GrammarNode? node)) return node;
        string path = shapes.PathOf(set);
        budget.Spend(1, path);
        if (!shapes.Of(set).Branches.Any(b => b is ObjectBranch or ArrayBranch)) return _values[set] = Branches(set);
        GrammarRule rule = new(path.Length == 0 ? "#" : path);
        _open.Enqueue((rule, set));
        return _values[set] = rule;
    }

    private GrammarNode Branches(SchemaSet set)
    {
        string path = shapes.PathOf(set);
        List<GrammarNode> options = [];
        foreach (SchemaBranch branch in shapes.Of(set).Branches)
        {
            budget.Spend(1, path);
            options.Add(branch switch
            {
                FiniteBranch finite => Finite(finite),
                NumberBranch number => NumberGrammar.Write(number, budget, path),
                StringBranch text => Text(text),
                ArrayBranch array => Array(array, path),
                _ => Object((ObjectBranch)branch, path),
            });
        }
        return Alt([.. options]);
    }

    private GrammarNode Finite(FiniteBranch finite)
    {
        budget.Spend(finite.Values.Count, "");
        GrammarNode texts = Words(finite.Values.Where(v => v.ValueKind == JsonValueKind.String).Select(JsonText.StringOf));
        GrammarNode[] others = [.. finite.Values.Where(v => v.ValueKind != JsonValueKind.String).Select(spelling.Value)];
        return Alt([IsNothing(texts) ? Nothing : spelling.Text(texts, isCanonical: true), .. others]);
    }

    private GrammarNode Text(StringBranch text)
    {
        (GrammarNode content, bool isFree) = Content(text);
        return IsNothing(content) ? Nothing : spelling.Text(content, isCanonical: !isFree);
    }

    /// <summary>The decoded text of strings; free where only its length matters, so that its spelling does not.</summary>
    private static (GrammarNode Content, bool IsFree) Content(StringBranch text)
    {
        if (text.MinLength > text.MaxLength) return (Nothing, false);
        List<GrammarNode> all = [.. text.Patterns];
        if (text.Format is { } format) all.Add(FormatGrammar.Find(format)!);
        bool isFree = all.Count + text.Excluded.Count == 0;
        if (text.MinLength > 0 || text.MaxLength is not null || all.Count == 0) all.Add(Times(GrammarNode.AnyChar, text.MinLength, text.MaxLength));
        GrammarNode content = all.Aggregate(GrammarNode.Both);
        return (text.Excluded.Count == 0 ? content : GrammarNode.Except(content, Alt([.. text.Excluded])), isFree);
    }
}
