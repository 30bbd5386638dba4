using System.Globalization;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>The grammars that <c>bench-grammar</c> measures: shapes of JSON as requests have them, regular expressions, a GBNF grammar.</summary>
internal static class BenchGrammars
{
    private static readonly GrammarNode s_safe = GrammarNode.Chars(new CodePointRange(' ', '!'), new CodePointRange('#', '['), new CodePointRange(']', 0x10FFFF));
    private static readonly GrammarNode s_hex = GrammarNode.Chars(new CodePointRange('0', '9'), new CodePointRange('A', 'F'), new CodePointRange('a', 'f'));
    private static readonly GrammarNode s_escape = GrammarNode.Sequence(Text("\\"), GrammarNode.Choice(
        RegexGrammar.Parse("[\"\\\\/bfnrt]", anchored: true), GrammarNode.Sequence(Text("u"), GrammarNode.Repeat(s_hex, 4, 4))));
    private static readonly GrammarNode s_character = GrammarNode.Choice(s_safe, s_escape);
    private static readonly GrammarNode s_string = String(0, null);
    private static readonly GrammarNode s_number = RegexGrammar.Parse("-?(0|[1-9][0-9]{0,15})(\\.[0-9]{1,16})?([eE][+-]?[0-9]{1,3})?", anchored: true);
    private static readonly GrammarNode s_integer = RegexGrammar.Parse("-?(0|[1-9][0-9]{0,15})", anchored: true);
    private static readonly GrammarNode s_bool = GrammarNode.Choice(Text("true"), Text("false"));
    private static readonly GrammarNode s_space = RegexGrammar.Parse("[ \\n\\r\\t]{0,20}", anchored: true);

    /// <summary>By name, each without the end of the answer.</summary>
    public static IEnumerable<(string Name, GrammarNode Node)> All()
    {
        yield return ("flat object", Object(("name", s_string), ("age", s_integer), ("email", s_string), ("active", s_bool), ("score", s_number)));
        GrammarNode address = Object(("street", s_string), ("city", s_string), ("zip", Quoted("[0-9]{5}(-[0-9]{4})?")));
        GrammarNode item = Object(("sku", s_string), ("quantity", s_integer), ("price", s_number), ("state", Enum("new", "used", "refurbished")));
        yield return ("nested, arrays, enums", Object(("id", s_integer), ("customer", Object(("name", s_string), ("address", address))), ("items", Array(item, 0, 50)),
            ("tags", Array(s_string, 0, null)), ("priority", Enum("low", "medium", "high")), ("note", GrammarNode.Choice(s_string, Text("null")))));
        yield return ("bounded strings", Object(("title", String(1, 60)), ("summary", String(20, 2_000)), ("code", String(3, 12)), ("labels", Array(String(1, 30), 1, 8))));
        GrammarRule tree = new("tree");
        tree.Body = Object(("label", s_string), ("children", Array(tree, 0, null)));
        yield return ("recursive tree", tree);
        yield return ("date and e-mail", Object(
            ("date", Quoted("(19|20)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])")),
            ("time", Quoted("([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z")),
            ("email", Quoted("[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\\.[A-Za-z]{2,10}"))));
        yield return ("json_object", JsonObject());
        yield return ("any of constants or text", Object(("kind", GrammarNode.Choice(Enum("alpha", "beta", "gamma"), s_string)), ("value", GrammarNode.Choice(s_string, s_number, s_bool, Text("null")))));
        yield return ("GBNF arithmetic", GbnfGrammar.Parse("""
            root  ::= expr "=" ws term "\n"
            expr  ::= expr ws [-+*/] ws term | term
            term  ::= ident | num | "(" ws expr ")" ws
            ident ::= [a-z] [a-z0-9_]* ws
            num   ::= [0-9]+ ws
            ws    ::= [ \t]*
            """));
        yield return ("choice of 1,000 strings", GrammarNode.Choice([.. Enumerable.Range(0, 1000).Select(i => Text(Phrase(i)))]));
        yield return ("free text to a token", GrammarNode.Repeat(GrammarNode.AnyChar, 0, null));
    }

    private static string Phrase(int i) => string.Create(CultureInfo.InvariantCulture, $"{(i % 7 == 0 ? "order" : i % 3 == 0 ? "customer" : "product")} {i * 37 % 1000}{(i % 5 == 0 ? " (archived)" : "")}");

    private static GrammarNode Text(string text) => GrammarNode.Literal(text);

    private static GrammarNode String(int min, int? max) => GrammarNode.Sequence(Text("\""), GrammarNode.Repeat(s_character, min, max), Text("\""));

    private static GrammarNode Quoted(string pattern) => GrammarNode.Sequence(Text("\""), RegexGrammar.Parse(pattern, anchored: true), Text("\""));

    private static GrammarNode Enum(params string[] values) => GrammarNode.Choice([.. values.Select(v => Text($"\"{v}\""))]);

    private static GrammarNode Comma => GrammarNode.Sequence(Text(","), s_space);

    private static GrammarNode Array(GrammarNode item, int min, int? max)
    {
        GrammarNode more = GrammarNode.Sequence(item, GrammarNode.Repeat(GrammarNode.Sequence(Comma, item), Math.Max(0, min - 1), max - 1));
        return GrammarNode.Sequence(Text("["), s_space, min == 0 ? GrammarNode.Optional(more) : more, s_space, Text("]"));
    }

    private static GrammarNode Object(params (string Name, GrammarNode Value)[] members)
    {
        List<GrammarNode> parts = [Text("{"), s_space];
        foreach ((string name, GrammarNode value) in members)
        {
            if (parts.Count > 2) parts.Add(Comma);
            parts.AddRange([Text($"\"{name}\":"), s_space, value]);
        }
        return GrammarNode.Sequence([.. parts, s_space, Text("}")]);
    }

    private static GrammarNode JsonObject()
    {
        GrammarRule value = new("value");
        GrammarNode member = GrammarNode.Sequence(s_string, s_space, Text(":"), s_space, value);
        GrammarNode members = GrammarNode.Sequence(member, GrammarNode.Repeat(GrammarNode.Sequence(Comma, member), 0, null), s_space);
        GrammarNode json = GrammarNode.Sequence(Text("{"), s_space, GrammarNode.Optional(members), Text("}"));
        value.Body = GrammarNode.Choice(json, Array(value, 0, null), s_string, s_number, s_bool, Text("null"));
        return json;
    }
}
