using System.Numerics;
using static GemmaServer.Text.GrammarParts;

namespace GemmaServer.Text;

internal sealed partial class SchemaGrammarWriter
{
    /// <summary>With so few different items every order of them is allowed, with more the schema's order only.</summary>
    private const int MaxPermuted = 6;

    /// <summary>Optional places of a tuple nest in the grammar.</summary>
    private const int MaxPlaces = 256;

    private GrammarNode Array(ArrayBranch array, string path)
    {
        int places = array.PrefixLength;
        int? max = array.MaxItems;
        if (array.IsUnique && !(max <= 1)) return Unique(array, path);

        // A place where nothing can stand ends the array in front of it.
        List<GrammarNode> prefix = [];
        for (int i = 0; i < places && !(i >= max); i++)
        {
            GrammarNode item = Item(array, i);
            if (IsNothing(item)) max = i;
            else prefix.Add(item);
        }
        GrammarNode rest = max <= places ? Nothing : Item(array, places);
        if (IsNothing(rest)) max = Math.Min(max ?? int.MaxValue, prefix.Count);
        if (array.MinItems > max) return Nothing;
        if (prefix.Count > MaxPlaces) throw new GrammarException($"'prefixItems' has more than {MaxPlaces} places.", path);
        return Seq(spelling.OpenArray, Items(prefix, rest, array.MinItems, max), spelling.CloseArray);
    }

    private GrammarNode Item(ArrayBranch array, int index) => shapes.IsEmpty(array.At(index), 0) ? Nothing : Value(array.At(index));

    /// <summary>The items with their commas; the tail behind each place nests, from the last place to the first.</summary>
    private GrammarNode Items(List<GrammarNode> prefix, GrammarNode rest, int min, int? max)
    {
        if (max == 0) return GrammarNode.Empty;
        int places = prefix.Count;
        if (places == 0)
        {
            GrammarNode items = Seq(rest, Times(Seq(spelling.Comma, rest), Math.Max(0, min - 1), max - 1));
            return min == 0 ? Maybe(items) : items;
        }
        GrammarNode tail = IsNothing(rest) ? GrammarNode.Empty : Times(Seq(spelling.Comma, rest), Math.Max(0, min - places), max - places);
        for (int i = places - 1; i >= 0; i--)
        {
            GrammarNode here = Seq(i == 0 ? prefix[i] : Seq(spelling.Comma, prefix[i]), tail);
            tail = i < min ? here : Maybe(here);
        }
        return tail;
    }

    /// <summary>Different items can be had where they come from a list: each is written at most once.</summary>
    private GrammarNode Unique(ArrayBranch array, string path)
    {
        SchemaSet set = array.At(0);
        bool isListed = array.PrefixLength == 0 && shapes.Of(set).Branches.All(b => b is FiniteBranch);
        if (!isListed) throw new GrammarException("'uniqueItems' is supported only with items from an enum, or at most one item.", path);
        List<GrammarNode> items = [.. JsonValues.Distinct(shapes.Of(set).Branches.SelectMany(b => ((FiniteBranch)b).Values)).Select(spelling.Value).Where(i => !IsNothing(i))];
        int max = Math.Min(array.MaxItems ?? int.MaxValue, items.Count);
        if (array.MinItems > max) return Nothing;
        GrammarNode content = items.Count <= MaxPermuted ? AnyOrder(items, array.MinItems, max, path) : InOrder(items, array.MinItems, max, path);
        return Seq(spelling.OpenArray, content, spelling.CloseArray);
    }

    /// <summary>One rule for each set of items that are already there.</summary>
    private GrammarNode AnyOrder(List<GrammarNode> items, int min, int max, string path)
    {
        GrammarNode[] after = new GrammarNode[1 << items.Count];
        for (int used = after.Length - 1; used >= 0; used--)
        {
            budget.Spend(items.Count, path);
            int count = BitOperations.PopCount((uint)used);
            List<GrammarNode> options = count >= min ? [GrammarNode.Empty] : [];
            for (int i = 0; i < items.Count && count < max; i++)
                if ((used & 1 << i) == 0) options.Add(Seq(count == 0 ? GrammarNode.Empty : spelling.Comma, items[i], after[used | 1 << i]));
            after[used] = Shared(Alt([.. options]));
        }
        return after[0];
    }

    private GrammarNode InOrder(List<GrammarNode> items, int min, int max, string path)
    {
        // after[count]: what may follow when so many were written, from some item on.
        budget.Spend((int)Math.Min((long)items.Count * (max + 1), int.MaxValue), path);
        GrammarNode[] after = [.. Enumerable.Range(0, max + 1).Select(count => count >= min ? GrammarNode.Empty : Nothing)];
        for (int i = items.Count - 1; i >= 0; i--)
        {
            GrammarNode[] before = new GrammarNode[max + 1];
            for (int count = max; count >= 0; count--)
            {
                GrammarNode written = count == max ? Nothing : Seq(count == 0 ? GrammarNode.Empty : spelling.Comma, items[i], after[count + 1]);
                before[count] = Shared(Alt(written, after[count]));
            }
            after = before;
        }
        return after[0];
    }

    /// <summary>A node that several others lead to; as a rule it is there once.</summary>
    private static GrammarNode Shared(GrammarNode node) =>
        node is GrammarRule || IsNothing(node) || ReferenceEquals(node, GrammarNode.Empty) ? node : new GrammarRule("rest") { Body = node };
}
