namespace GemmaServer.Text;

/// <summary>The terminals of Lark's library <c>common</c>, as regular expressions.</summary>
internal static class LarkCommon
{
    private const string Int = "[0-9]+";
    private const string Exponent = "[eE][+-]?[0-9]+";
    private const string Decimal = @"([0-9]+\.[0-9]*|\.[0-9]+)";
    private const string Float = $"([0-9]+{Exponent}|{Decimal}({Exponent})?)";
    private const string Number = $"({Float}|{Int})";

    private static readonly Dictionary<string, string> s_patterns = new(StringComparer.Ordinal)
    {
        ["DIGIT"] = "[0-9]",
        ["HEXDIGIT"] = "[0-9a-fA-F]",
        ["INT"] = Int,
        ["SIGNED_INT"] = "[+-]?" + Int,
        ["DECIMAL"] = Decimal,
        ["_EXP"] = Exponent,
        ["FLOAT"] = Float,
        ["SIGNED_FLOAT"] = "[+-]?" + Float,
        ["NUMBER"] = Number,
        ["SIGNED_NUMBER"] = "[+-]?" + Number,
        ["ESCAPED_STRING"] = """
            "([^"\\\n]|\\[^\n])*"
            """,
        ["LCASE_LETTER"] = "[a-z]",
        ["UCASE_LETTER"] = "[A-Z]",
        ["LETTER"] = "[a-zA-Z]",
        ["WORD"] = "[a-zA-Z]+",
        ["CNAME"] = "[a-zA-Z_][a-zA-Z_0-9]*",
        ["WS_INLINE"] = @"[ \t]+",
        ["WS"] = @"[ \t\f\r\n]+",
        ["CR"] = @"\r",
        ["LF"] = @"\n",
        ["NEWLINE"] = @"(\r?\n)+",
        ["SH_COMMENT"] = @"#[^\n]*",
        ["CPP_COMMENT"] = @"\/\/[^\n]*",
        ["C_COMMENT"] = @"\/\*([^*]|\*+[^*\/])*\*+\/",
        ["SQL_COMMENT"] = @"--[^\n]*",
    };

    /// <summary>The terminal of that name; null where there is none.</summary>
    public static GrammarNode? Find(string name) => s_patterns.TryGetValue(name, out string? pattern) ? RegexGrammar.Parse(pattern, anchored: true) : null;
}
