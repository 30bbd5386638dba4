namespace GemmaServer.Tests;

/// <summary>Random regular expressions of few letters, that texts meet by chance.</summary>
internal static class RandomPattern
{
    /// <param name="random">Where chance comes from.</param>
    /// <param name="depth">Levels of nesting.</param>
    public static string Make(Random random, int depth)
    {
        string[] atoms = ["a", "b", "c", "1", "[ab]", "[^a]", "[a-c1]", "\\d", "[\\d_]", ".", "\\-", "\\x61", "\\u0062", "é", "(?:)", "[^\\n-]"];
        string atom = atoms[random.Next(atoms.Length)];
        if (depth == 0) return atom;
        return random.Next(9) switch
        {
            0 => $"{Make(random, depth - 1)}|{Make(random, depth - 1)}",
            1 => $"({Make(random, depth - 1)}){Quantifier(random)}",
            2 => $"(?:{Make(random, depth - 1)}|{Make(random, depth - 1)}){Quantifier(random)}",
            3 => $"(?<n{depth}>{Make(random, depth - 1)})",
            4 => $"^{Make(random, depth - 1)}",
            5 => $"{Make(random, depth - 1)}$",
            6 => $"(^|{atom}){Make(random, depth - 1)}({atom}|$)",
            7 => $"{atom}{Quantifier(random)}{Make(random, depth - 1)}",
            _ => Make(random, depth - 1) + Make(random, depth - 1),
        };
    }

    private static string Quantifier(Random random) => new[] { "", "*", "+", "?", "{2}", "{1,3}", "{0,2}?", "{2,}", "*?", "+?" }[random.Next(10)];
}
