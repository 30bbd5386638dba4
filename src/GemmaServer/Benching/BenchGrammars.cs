using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>What <c>bench-grammar</c> measures.</summary>
/// <param name="Name">Shown.</param>
/// <param name="Answer">The whole answer, with the token that ends it.</param>
/// <param name="Texts">Answers as models give them; control tokens by their names.</param>
internal sealed record BenchGrammar(string Name, GrammarNode Answer, string[] Texts);

/// <summary>The grammars that <c>bench-grammar</c> measures: schemas and texts as requests have them, made by what makes them for requests.</summary>
internal static class BenchGrammars
{
    public static IEnumerable<BenchGrammar> All(SpecialTokens special, int end)
    {
        foreach ((string name, string schema, string[] texts) in BenchSchemas.All())
            yield return Bound(name, JsonSchemaGrammar.Json(Parsed(schema), AnswerFormatReader.SchemaOptions()), texts);
        yield return Bound("json_object", JsonSchemaGrammar.AnyObject(AnswerFormatReader.SchemaOptions()), [BenchSchemas.Order, BenchSchemas.Tree, BenchSchemas.Profile]);
        yield return Tools("strict tools", CallMode.Allowed);
        yield return Tools("strict tools, required", CallMode.Required);
        yield return Bound("regex date and e-mail", RegexGrammar.Parse(
            "(19|20)[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01]) [A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\\.[A-Za-z]{2,10}", anchored: true),
            ["2026-11-21 jane.doe+orders@mail.example.com", "1999-01-31 tram@north-station.example.org"]);
        yield return Bound("GBNF arithmetic", GbnfGrammar.Parse("""
            root  ::= expr "=" ws term "\n"
            expr  ::= expr ws [-+*/] ws term | term
            term  ::= ident | num | "(" ws expr ")" ws
            ident ::= [a-z] [a-z0-9_]* ws
            num   ::= [0-9]+ ws
            ws    ::= [ \t]*
            """), ["(price + 12) * quantity - (3 * (discount / 100)) = total\n", "a+b*c-d/e= 42\n"]);
        yield return Bound("choice of 1,000 strings", GrammarNode.Choice([.. Enumerable.Range(0, 1000).Select(static i => GrammarNode.Literal(BenchSchemas.Phrase(i)))]),
            [BenchSchemas.Phrase(7), BenchSchemas.Phrase(500), BenchSchemas.Phrase(999)]);
        yield return Bound("any text", GrammarNode.Repeat(GrammarNode.AnyChar, 0, null), ["The order left the warehouse on Monday.\n\nIt should arrive \"soon\" — 明日 perhaps.\n"]);

        BenchGrammar Bound(string name, GrammarNode content, string[] texts) =>
            new(name, new AnswerGrammar { Special = special, EndTokens = [end], Content = content }.Build(), texts);

        BenchGrammar Tools(string name, CallMode mode)
        {
            AnswerGrammar answer = new()
            {
                Special = special,
                EndTokens = [end, special.ToolResponseStart],
                MayThink = true,
                Calls = mode,
                Tools = [.. BenchSchemas.Tools().Select(tool => new CallableTool(
                    tool.Name, JsonSchemaGrammar.Arguments(Parsed(tool.Schema), special.Quote, AnswerFormatReader.SchemaOptions())))],
            };
            string[] texts = mode == CallMode.Required ? [BenchSchemas.Calls] : [BenchSchemas.Calls, "I shall look at the weather first. " + BenchSchemas.Calls];
            return new BenchGrammar(name, answer.Build(), texts);
        }
    }

    private static JsonElement Parsed(string schema) => JsonDocument.Parse(schema).RootElement;
}

/// <summary>Schemas as requests have them, each with values as models write them.</summary>
internal static class BenchSchemas
{
    /// <summary>An order, indented.</summary>
    public const string Order = """
        {
          "id": 48213,
          "placed": "2026-11-21",
          "customer": { "name": "Ada Lindström", "email": "ada@example.com", "address": { "street": "12 Station Road", "city": "Göteborg", "zip": "41103" } },
          "items": [
            { "sku": "TR-1002", "quantity": 2, "price": 19.95, "state": "new" },
            { "sku": "ST-77", "quantity": 1, "price": 249, "state": "refurbished" },
            { "sku": "PL-5", "quantity": 12, "price": 0.5, "state": "used" }
          ],
          "tags": ["gift", "express delivery", "rückgabe möglich"],
          "priority": "high",
          "note": "Please ring twice.\nThe \"blue\" door, second floor."
        }
        """;

    /// <summary>A tree without white space.</summary>
    public const string Tree = """{"label":"root","children":[{"label":"plants","children":[{"label":"trees","children":[]},{"label":"grasses","children":[{"label":"barley","children":[]}]}]},{"label":"stones","children":[]}]}""";

    /// <summary>A flat object.</summary>
    public const string Profile = """{"name": "Jane Doe", "age": 42, "email": "jane.doe@example.com", "active": true, "score": 87.25}""";

    /// <summary>Two calls behind each other, as Gemma spells them.</summary>
    public const string Calls = """<|tool_call>call:get_weather{city:<|"|>San Francisco, California<|"|>,days:3,unit:<|"|>celsius<|"|>}<tool_call|><|tool_call>call:search{query:<|"|>umbrella "storm proof"<|"|>,filters:{max_price:49.5,brands:[<|"|>Northern<|"|>,<|"|>Trent<|"|>]},page:1}<tool_call|><|tool_response>""";

    private const string BoundedText = """{"title": "A quiet week at the station", "summary": "The trains were on time from Monday to Thursday. On Friday a storm took the line north of the bridge down, and the last two services were replaced by buses.\nPassengers were told in time; 明日 everything should run again.", "code": "STN-0417", "labels": ["railway", "storm", "replacement service"]}""";

    public static string Phrase(int i) => string.Create(CultureInfo.InvariantCulture, $"{(i % 7 == 0 ? "order" : i % 3 == 0 ? "customer" : "product")} {i}{(i % 5 == 0 ? " (archived)" : "")}");

    public static IEnumerable<(string Name, string Schema, string[] Texts)> All()
    {
        yield return ("flat object", Object("""{"name":{"type":"string"},"age":{"type":"integer"},"email":{"type":"string"},"active":{"type":"boolean"},"score":{"type":"number"}}"""),
            [Profile, """{"name":"Åsa \"Bo\" Ek","age":7,"email":"","active":false,"score":-1.5e3}"""]);
        string address = Object("""{"street":{"type":"string"},"city":{"type":"string"},"zip":{"type":"string","pattern":"^[0-9]{5}(-[0-9]{4})?$"}}""");
        string customer = Object($$"""{"name":{"type":"string"},"email":{"type":"string","format":"email"},"address":{{address}} }""");
        string item = Object("""{"sku":{"type":"string"},"quantity":{"type":"integer","minimum":1,"maximum":999},"price":{"type":"number"},"state":{"enum":["new","used","refurbished"]}}""");
        yield return ("nested order", Object($$"""{"id":{"type":"integer"},"placed":{"type":"string","format":"date"},"customer":{{customer}},"items":{"type":"array","items":{{item}},"maxItems":50},"tags":{"type":"array","items":{"type":"string"} },"priority":{"enum":["low","medium","high"]},"note":{"type":["string","null"]} }"""),
            [Order, JsonNode.Parse(Order)!.ToJsonString(new JsonSerializerOptions { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping })]);
        yield return ("bounded strings", Object("""{"title":{"type":"string","minLength":1,"maxLength":60},"summary":{"type":"string","minLength":20,"maxLength":2000},"code":{"type":"string","pattern":"^[A-Z]{3}-[0-9]{4}$"},"labels":{"type":"array","items":{"type":"string","minLength":1,"maxLength":30},"minItems":1,"maxItems":8}}"""),
            [BoundedText, BoundedText.Replace("station", "harbour", StringComparison.Ordinal).Replace("[\"", "[\n  \"", StringComparison.Ordinal)]);
        yield return ("recursive tree", """{"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"label":{"type":"string"},"children":{"type":"array","items":{"$ref":"#/$defs/node"}}},"required":["label","children"],"additionalProperties":false}}}""", [Tree]);
        yield return ("30 properties", Extraction(), [Extracted("The committee met twice in October."), Extracted("Ein Bericht über den Fluß, 120 Seiten.")]);
        yield return ("enum of 1,000", Object($$"""{"kind":{"enum":{{new JsonArray([.. Enumerable.Range(0, 1000).Select(static i => (JsonNode)Phrase(i))]).ToJsonString()}} },"confidence":{"type":"number","minimum":0,"maximum":1} }"""),
            [$$"""{"kind": "{{Phrase(123)}}", "confidence": 0.87}""", $$"""{"kind":"{{Phrase(995)}}","confidence":1}"""]);
        yield return ("any of", Object("""{"value":{"anyOf":[{"type":"string","format":"date-time"},{"type":"string","maxLength":200},{"type":"number"},{"type":"null"},{"type":"array","items":{"type":"integer"}}]},"kind":{"anyOf":[{"const":"alpha"},{"type":"string"}]}}"""),
            ["""{"value": "2026-11-21T10:15:00Z", "kind": "alpha"}""", """{"value": "2026 was a good year", "kind": "beta"}""", """{"value": [1, 20, 300], "kind": "alphabet"}"""]);
    }

    public static IEnumerable<(string Name, string Schema)> Tools()
    {
        yield return ("get_weather", Object("""{"city":{"type":"string"},"days":{"type":"integer","minimum":1,"maximum":14},"unit":{"enum":["celsius","fahrenheit"]}}"""));
        string filters = Object("""{"max_price":{"type":"number"},"brands":{"type":"array","items":{"type":"string"}}}""");
        yield return ("search", Object($$"""{"query":{"type":"string","maxLength":400},"filters":{{filters}},"page":{"type":"integer"} }"""));
    }

    /// <summary>What documents are mined for: a schema as OpenAI's guides have it.</summary>
    private static string Extraction() => Object(string.Concat("{", string.Join(",", Enumerable.Range(0, 30).Select(static i => $"\"{Property(i)}\":{Kind(i)}")), "}"));

    private static string Extracted(string text) => string.Concat("{", string.Join(", ", Enumerable.Range(0, 30).Select(i => $"\"{Property(i)}\": {Sample(i, text)}")), "}");

    private static string Property(int i) => string.Create(CultureInfo.InvariantCulture, $"{(i % 2 == 0 ? "document" : "section")}_{(i % 3) switch { 0 => "title", 1 => "author", _ => "number" }}_{i}");

    private static string Kind(int i) => (i % 6) switch
    {
        0 => """{"type":"string","description":"As it stands in the text."}""",
        1 => """{"type":["string","null"]}""",
        2 => """{"type":"integer"}""",
        3 => """{"type":"string","enum":["report","letter","minutes","other"]}""",
        4 => """{"type":"array","items":{"type":"string"}}""",
        _ => """{"type":"string","format":"date"}""",
    };

    private static string Sample(int i, string text) => (i % 6) switch
    {
        0 => $"\"{text}\"",
        1 => i % 4 == 1 ? "null" : "\"M. Trent\"",
        2 => (i * 37).ToString(CultureInfo.InvariantCulture),
        3 => i % 4 == 1 ? "\"minutes\"" : "\"report\"",
        4 => """["first part", "second"]""",
        _ => "\"2026-02-28\"",
    };

    private static string Object(string properties)
    {
        JsonObject members = JsonNode.Parse(properties)!.AsObject();
        JsonArray required = [.. members.Select(static m => (JsonNode)m.Key)];
        return new JsonObject { ["type"] = "object", ["properties"] = members, ["required"] = required, ["additionalProperties"] = false }.ToJsonString();
    }
}
