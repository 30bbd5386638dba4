using System.Globalization;
using System.Text;

namespace GemmaServer.Text;

/// <summary>Sets of characters by Unicode's general categories, and pairs of upper and lower case.</summary>
internal static class UnicodeSets
{
    // In the order of UnicodeCategory.
    private static readonly string[] s_short =
    [
        "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd", "Nl", "No", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co",
        "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm", "Sc", "Sk", "So", "Cn",
    ];

    private static readonly Dictionary<string, string> s_long = new(StringComparer.Ordinal)
    {
        ["Letter"] = "L", ["Cased_Letter"] = "LC", ["Uppercase_Letter"] = "Lu", ["Lowercase_Letter"] = "Ll", ["Titlecase_Letter"] = "Lt",
        ["Modifier_Letter"] = "Lm", ["Other_Letter"] = "Lo", ["Mark"] = "M", ["Combining_Mark"] = "M", ["Nonspacing_Mark"] = "Mn",
        ["Spacing_Mark"] = "Mc", ["Enclosing_Mark"] = "Me", ["Number"] = "N", ["Decimal_Number"] = "Nd", ["digit"] = "Nd",
        ["Letter_Number"] = "Nl", ["Other_Number"] = "No", ["Punctuation"] = "P", ["punct"] = "P", ["Connector_Punctuation"] = "Pc",
        ["Dash_Punctuation"] = "Pd", ["Open_Punctuation"] = "Ps", ["Close_Punctuation"] = "Pe", ["Initial_Punctuation"] = "Pi",
        ["Final_Punctuation"] = "Pf", ["Other_Punctuation"] = "Po", ["Symbol"] = "S", ["Math_Symbol"] = "Sm", ["Currency_Symbol"] = "Sc",
        ["Modifier_Symbol"] = "Sk", ["Other_Symbol"] = "So", ["Separator"] = "Z", ["Space_Separator"] = "Zs", ["Line_Separator"] = "Zl",
        ["Paragraph_Separator"] = "Zp", ["Other"] = "C", ["Control"] = "Cc", ["cntrl"] = "Cc", ["Format"] = "Cf", ["Surrogate"] = "Cs",
        ["Private_Use"] = "Co", ["Unassigned"] = "Cn",
    };

    private static readonly Lazy<CodePointRange[][]> s_byCategory = new(ReadCategories);
    private static readonly Lazy<(int Upper, int Lower)[]> s_casePairs = new(ReadCasePairs);

    /// <summary>A property as <c>\p{...}</c> names it; null where it is none of these.</summary>
    public static CodePointRange[]? Find(string name)
    {
        foreach (string prefix in (ReadOnlySpan<string>)["General_Category=", "gc="])
            if (name.StartsWith(prefix, StringComparison.Ordinal)) name = name[prefix.Length..];
        switch (name)
        {
            case "Any": return CodePointSet.Normalize([new(0, CodePointSet.Last)]);
            case "ASCII": return [new(0, 0x7F)];
            case "Assigned": return CodePointSet.Complement(s_byCategory.Value[^1]);
        }
        name = s_long.GetValueOrDefault(name, name);
        List<CodePointRange> ranges = [];
        bool isKnown = false;
        for (int i = 0; i < s_short.Length; i++)
        {
            bool isMember = name == s_short[i] || (name.Length == 1 && s_short[i][0] == name[0]) || (name == "LC" && i <= (int)UnicodeCategory.TitlecaseLetter);
            if (!isMember) continue;
            isKnown = true;
            ranges.AddRange(s_byCategory.Value[i]);
        }
        return isKnown ? CodePointSet.Normalize(ranges) : null;
    }

    /// <summary>A set with the other cases of its letters.</summary>
    public static CodePointRange[] WithOtherCases(CodePointRange[] ranges)
    {
        CodePointRange[] sorted = CodePointSet.Normalize(ranges);
        List<CodePointRange> all = [.. sorted];
        foreach ((int upper, int lower) in s_casePairs.Value)
        {
            bool hasUpper = Contains(sorted, upper), hasLower = Contains(sorted, lower);
            if (hasUpper && !hasLower) all.Add(new(lower, lower));
            if (hasLower && !hasUpper) all.Add(new(upper, upper));
        }
        return CodePointSet.Normalize(all);
    }

    private static bool Contains(CodePointRange[] sorted, int codePoint)
    {
        int low = 0, high = sorted.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            if (codePoint < sorted[middle].First) high = middle - 1;
            else if (codePoint > sorted[middle].Last) low = middle + 1;
            else return true;
        }
        return false;
    }

    private static CodePointRange[][] ReadCategories()
    {
        List<CodePointRange>[] lists = new List<CodePointRange>[s_short.Length];
        for (int i = 0; i < lists.Length; i++) lists[i] = [];
        for (int c = 0; c <= CodePointSet.Last; c++)
        {
            List<CodePointRange> list = lists[(int)CharUnicodeInfo.GetUnicodeCategory(c)];
            if (list.Count > 0 && list[^1].Last == c - 1) list[^1] = list[^1] with { Last = c };
            else list.Add(new(c, c));
        }
        return [.. lists.Select(CodePointSet.Normalize)];
    }

    private static (int Upper, int Lower)[] ReadCasePairs()
    {
        List<(int, int)> pairs = [];
        for (int c = 0; c <= CodePointSet.Last; c++)
        {
            if (!Rune.TryCreate(c, out Rune rune)) continue;
            Rune lower = Rune.ToLowerInvariant(rune), upper = Rune.ToUpperInvariant(rune);
            if (lower != rune) pairs.Add((c, lower.Value));
            if (upper != rune) pairs.Add((upper.Value, c));
        }
        return [.. pairs.Distinct()];
    }
}
