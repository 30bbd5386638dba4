using System.Text;
using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer.Tests;

/// <summary>What cannot be followed is refused with its place; hostile schemas too, before they cost much.</summary>
public class SchemaRefusalTests
{
    [Theory]
    [InlineData("""{"type":"strin"}""", "/type")]
    [InlineData("""{"type":1}""", "/type")]
    [InlineData("""{"minLength":"3"}""", "/minLength")]
    [InlineData("""{"minLength":-1}""", "/minLength")]
    [InlineData("""{"maxItems":1.5}""", "/maxItems")]
    [InlineData("""{"minimum":"3"}""", "/minimum")]
    [InlineData("""{"multipleOf":0}""", "/multipleOf")]
    [InlineData("""{"required":"a"}""", "/required")]
    [InlineData("""{"properties":[]}""", "/properties")]
    [InlineData("""{"type":"object","properties":{"a/b":{"type":"x"}}}""", "/properties/a~1b/type")]
    [InlineData("""{"properties":{"a":3}}""", "/properties/a")]
    [InlineData("""{"items":"x"}""", "/items")]
    [InlineData("""{"enum":"x"}""", "/enum")]
    [InlineData("""{"anyOf":[]}""", "/anyOf")]
    [InlineData("""{"anyOf":{}}""", "/anyOf")]
    [InlineData("""{"$ref":"https://example.com/other.json"}""", "/$ref")]
    [InlineData("""{"$ref":"#/$defs/none"}""", "/$ref")]
    [InlineData("""{"$ref":"#none"}""", "/$ref")]
    [InlineData("""{"$dynamicRef":"#a"}""", "/$dynamicRef")]
    [InlineData("""{"contains":{"type":"integer"}}""", "/contains")]
    [InlineData("""{"type":"array","items":{"type":"string"},"uniqueItems":true}""", "")]
    [InlineData("""{"oneOf":[{"type":"integer"},{"type":"number"}]}""", "/oneOf")]
    [InlineData("""{"oneOf":[{"type":"object"},{"type":"object","properties":{"a":{}}}]}""", "/oneOf")]
    [InlineData("""{"oneOf":[{"type":"string","format":"email"},{"type":"string","pattern":"x"}]}""", "/oneOf")]
    [InlineData("""{"not":{"type":"integer"}}""", "/not")]
    [InlineData("""{"not":{"properties":{"a":{}},"additionalProperties":false}}""", "/not")]
    [InlineData("""{"type":"object","minProperties":3}""", "")]
    [InlineData("""{"type":"object","unevaluatedProperties":false,"allOf":[{"properties":{"a":{}}}]}""", "/unevaluatedProperties")]
    [InlineData("""{"type":"string","pattern":"(a"}""", "/pattern")]
    [InlineData("""{"type":"integer","multipleOf":123456789}""", "")]
    [InlineData("3", "")]
    [InlineData("\"x\"", "")]
    [InlineData("""{"$ref":"#"}""", "")]
    [InlineData("""{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"allOf":[{"$ref":"#/$defs/a"}]}},"$ref":"#/$defs/a"}""", "/$defs/a")]
    [InlineData("""{"not":{"$ref":"#"}}""", "")]
    public void What_is_wrong_or_not_supported_is_refused_with_its_place(string schema, string path)
    {
        GrammarException refused = Assert.Throws<GrammarException>(() => JsonSchemaGrammar.Json(SchemaCase.Parse(schema), SchemaCase.Options));
        Assert.Equal(path, refused.Path);
        Assert.EndsWith(".", refused.Message);
    }

    [Theory]
    [InlineData("false")]
    [InlineData("""{"enum":[]}""")]
    [InlineData("""{"enum":["a"],"type":"integer"}""")]
    [InlineData("""{"type":"array","minItems":3,"maxItems":2}""")]
    [InlineData("""{"type":"array","items":false,"minItems":1}""")]
    [InlineData("""{"type":"object","properties":{"a":false},"required":["a"]}""")]
    [InlineData("""{"type":"object","required":["a"],"additionalProperties":false}""")]
    [InlineData("""{"type":"object","required":["a","b"],"maxProperties":1}""")]
    [InlineData("""{"type":"string","minLength":3,"maxLength":2}""")]
    [InlineData("""{"type":"integer","minimum":3,"maximum":2}""")]
    [InlineData("""{"type":"integer","minimum":1.2,"maximum":1.8}""")]
    [InlineData("""{"allOf":[{"type":"string"},{"type":"integer"}]}""")]
    [InlineData("""{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}""")]
    [InlineData("""{"type":"array","items":{"$ref":"#"},"minItems":1}""")]
    [InlineData("""{"not":{}}""")]
    [InlineData("""{"oneOf":[true,true]}""")]
    public void A_schema_that_nothing_satisfies_is_refused(string schema)
    {
        GrammarException refused = Assert.Throws<GrammarException>(() => JsonSchemaGrammar.Json(SchemaCase.Parse(schema), SchemaCase.Options));
        if (schema.Contains("oneOf", StringComparison.Ordinal)) return;   // there it is the telling apart that fails first
        Assert.Equal("No value satisfies the schema.", refused.Message);
    }

    [Fact]
    public void A_branch_without_an_end_is_left_out()
    {
        SchemaCase compiled = new("""
            {"type":"object","properties":{"a":{"$ref":"#/$defs/endless"},"b":{"anyOf":[{"$ref":"#/$defs/endless"},{"type":"null"}]}},"required":["b"],
            "$defs":{"endless":{"type":"object","properties":{"x":{"$ref":"#/$defs/endless"}},"required":["x"]}}}
            """);
        Assert.True(compiled.AcceptsJson("""{"b":null}"""));
        for (int seed = 0; seed < 50; seed++)
        {
            List<int>? walk = new GrammarWalker(new Random(seed)).Walk(compiled.Json);
            Assert.NotNull(walk);
            Assert.False(SchemaCase.Parse(GrammarWalker.TextOf(walk, _ => "")).TryGetProperty("a", out _));
        }
    }

    public static TheoryData<string> Hostile { get; } = new()
    {
        // Every combination of 40 choices.
        "{\"allOf\":[" + Joined(40, i => $$"""{"anyOf":[{"type":"object","required":["a{{i}}"]},{"type":"object","required":["b{{i}}"]}]}""") + "]}",
        // A chain of references that is deeper than any stack.
        "{\"$ref\":\"#/$defs/d0\",\"$defs\":{" + Joined(20_000, i => $$"""
            "d{{i}}":{"$ref":"#/$defs/d{{i + 1}}"}
            """) + ",\"d20000\":{}}}",
        // Each level refers to the next twice.
        "{\"$ref\":\"#/$defs/d0\",\"$defs\":{" + Joined(60, i => $$"""
            "d{{i}}":{"anyOf":[{"$ref":"#/$defs/d{{i + 1}}"},{"$ref":"#/$defs/d{{i + 1}}"}]}
            """) + ",\"d60\":{}}}",
        "{\"type\":\"object\",\"properties\":{" + Joined(200_000, i => $"\"p{i}\":true") + "}}",
        "{\"enum\":[" + Joined(200_000, i => $"{i}") + "]}",
        "{\"oneOf\":[" + Joined(2_000, i => $$$"""{"type":"object","properties":{"k":{"const":{{{i}}}}},"required":["k"]}""") + "]}",
        "{\"type\":\"object\",\"patternProperties\":{" + Joined(30, i => $"\"^a{i}\":{{}}") + "}}",
        """{"type":"integer","multipleOf":999983}""",
        "{\"type\":\"object\",\"minProperties\":1000,\"properties\":{" + Joined(2_000, i => $"\"p{i}\":true") + "}}",
        """{"enum":["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"],"pattern":"^((((a*)*)*)*)*((a{0,99999999}){0,99999999}){0,99999999}b$"}""",
        """{"minimum":1e999999999}""",
    };

    [Theory]
    [MemberData(nameof(Hostile))]
    public void A_hostile_schema_is_refused_before_it_costs_much(string schema)
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Throws<GrammarException>(() => JsonSchemaGrammar.Json(SchemaCase.Parse(schema), SchemaCase.Options));
        long spent = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.True(spent < 1L << 30, $"{spent / (1 << 20)} MiB");
    }

    [Fact]
    public void Large_schemas_that_are_not_hostile_pass()
    {
        _ = JsonSchemaGrammar.Json(SchemaCase.Parse("{\"enum\":[" + Joined(5_000, i => $"\"value {i}\"") + "]}"), SchemaCase.Options);
        _ = JsonSchemaGrammar.Json(SchemaCase.Parse("{\"type\":\"object\",\"properties\":{" + Joined(1_000, i => $"\"p{i}\":{{\"type\":\"string\"}}") + "}}"), SchemaCase.Options);
        _ = JsonSchemaGrammar.Json(SchemaCase.Parse("{\"oneOf\":[" + Joined(60, i => $$$"""{"type":"object","properties":{"k":{"const":"k{{{i}}}"},"v":{"type":"integer"}},"required":["k"]}""") + "]}"), SchemaCase.Options);
        StringBuilder nested = new();
        for (int i = 0; i < 50; i++) nested.Append("{\"type\":\"object\",\"properties\":{\"a\":");
        nested.Append("{}");
        for (int i = 0; i < 50; i++) nested.Append("}}");
        _ = JsonSchemaGrammar.Json(JsonDocument.Parse(nested.ToString(), new JsonDocumentOptions { MaxDepth = 500 }).RootElement, SchemaCase.Options);
    }

    private static string Joined(int count, Func<int, string> item) => string.Join(',', Enumerable.Range(0, count).Select(item));
}
