using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer.Tests;

public class SchemaTests
{
    public static TheoryData<string, string[], string[]> Rows => SchemaTable.Rows;

    [Theory]
    [MemberData(nameof(Rows))]
    public void A_schema_allows_what_it_should_and_nothing_else_in_both_spellings(string schema, string[] accepted, string[] rejected)
    {
        SchemaCase compiled = new(schema);
        SchemaValidator validator = new(SchemaCase.Parse(schema));
        foreach (string value in accepted)
        {
            Assert.True(validator.IsValid(SchemaCase.Parse(value)), $"the test's own validator refuses {value}");
            Assert.True(compiled.AcceptsJson(value), $"{value} as JSON");
            Assert.True(compiled.AcceptsCall(value), $"{value} as argument");
            string reread = SchemaCase.Reread(SchemaCase.CallOf($$"""{"v":{{value}}}"""));
            Assert.True(JsonElement.DeepEquals(SchemaCase.Parse(value), SchemaCase.Parse(reread).GetProperty("v")), $"{value} was read back as {reread}");
        }
        foreach (string value in rejected)
        {
            Assert.False(compiled.AcceptsJson(value), $"{value} as JSON");
            if (IsJson(value)) Assert.False(compiled.AcceptsCall(value), $"{value} as argument");
        }
    }

    [Theory]
    [InlineData("{\"a\": 1, \"b\": [1, 2]}", true)]
    [InlineData("{ \"a\": 1, \"b\": [ 1, 2 ] }", true)]
    [InlineData("{\n  \"a\": 1,\n  \"b\": [\n    1,\n    2\n  ]\n}", true)]
    [InlineData("{\n\n\t\"a\":1,\"b\":[]\n}", true)]
    [InlineData("{\"a\":1,\"b\":[\n]}", true)]
    [InlineData("{\"a\" : 1,\"b\":[]}", false)]
    [InlineData("{\"a\":  1,\"b\":[]}", false)]
    [InlineData("{\"a\":1,  \"b\":[]}", false)]
    [InlineData("{\"a\":1,\n\n\n\"b\":[]}", false)]
    [InlineData("{\"a\":1,\n                     \"b\":[]}", false)]
    [InlineData(" {\"a\":1,\"b\":[]}", false)]
    [InlineData("{\"a\":1,\"b\":[]} ", false)]
    [InlineData("{\"a\":1,\"b\":[]}\n", false)]
    public void White_space_stays_within_what_models_write(string text, bool isAllowed)
    {
        JsonElement schema = SchemaCase.Parse("""{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"array","items":{"type":"integer"}}},"required":["a","b"]}""");
        Assert.Equal(isAllowed, new GrammarOracle(JsonSchemaGrammar.Json(schema, SchemaCase.Options)).Matches(text));
        JsonSchemaOptions compact = new() { Pattern = TestPattern.Read, IsCompact = true };
        GrammarOracle oracle = new(JsonSchemaGrammar.Json(schema, compact));
        Assert.False(oracle.Matches(text));
        Assert.True(oracle.Matches("{\"a\":1,\"b\":[1,2]}"));
    }

    [Theory]
    [InlineData("""{"type":"string","maxLength":2}""", "\"\\u0061\\n\"", true)]
    [InlineData("""{"type":"string","maxLength":1}""", "\"\\ud83d\\uDE00\"", true)]
    [InlineData("""{"type":"string"}""", "\"\\/\\b\\f\\r\\t\\\"\\\\\"", true)]
    [InlineData("""{"type":"string"}""", "\"\\ud83d\"", false)]
    [InlineData("""{"type":"string"}""", "\"\\ude00\\ud83d\"", false)]
    [InlineData("""{"type":"string"}""", "\"\\x\"", false)]
    [InlineData("""{"type":"string"}""", "\"\\u12g4\"", false)]
    [InlineData("""{"type":"string"}""", "\"a\nb\"", false)]
    [InlineData("""{"type":"string"}""", "\"\u001f\"", false)]
    [InlineData("""{"type":"string"}""", "\"\u007f\"", true)]
    [InlineData("""{"const":"a"}""", "\"\\u0061\"", false)]
    [InlineData("""{"pattern":"^a\nb$","type":"string"}""", "\"a\\nb\"", true)]
    [InlineData("""{"type":"object","properties":{"a":{"type":"integer"}}}""", "{\"\\u0061\":\"x\"}", false)]
    public void Strings_are_spelled_as_JSON_allows_and_names_in_one_way_only(string schema, string text, bool isAllowed) =>
        Assert.Equal(isAllowed, new SchemaCase(schema).AcceptsJson(text));

    [Fact]
    public void A_delimiter_in_letters_cannot_end_an_argument()
    {
        SchemaCase free = new("""{"type":"string"}""");
        Assert.True(free.AcceptsCall("\"<|\\\"\""));
        Assert.True(free.AcceptsCall("\"<<|<|\\\" |>\""));
        Assert.False(free.AcceptsCall("\"a<|\\\"|>b\""));
        SchemaCase listed = new("""{"enum":["a<|\"|>b","c"]}""");
        Assert.True(listed.AcceptsCall("\"c\""));
        Assert.False(listed.AcceptsCall("\"a<|\\\"|>b\""));
        Assert.True(listed.AcceptsJson("\"a<|\\\"|>b\""));
    }

    [Fact]
    public void Arguments_are_objects_whatever_the_schema_says()
    {
        GrammarOracle oracle = new(JsonSchemaGrammar.Arguments(SchemaCase.Parse("{}"), SchemaCase.QuoteToken, SchemaCase.Options));
        Assert.True(oracle.Matches(SchemaCase.CallOf("""{"a":{"b c":["x",1,null]}}""")));
        Assert.False(oracle.Matches("1"));
        Assert.False(oracle.Matches("{a: 1}"));
        Assert.Throws<GrammarException>(() => JsonSchemaGrammar.Arguments(SchemaCase.Parse("""{"type":"string"}"""), SchemaCase.QuoteToken, SchemaCase.Options));
    }

    [Fact]
    public void A_schema_within_the_schema_has_an_address_of_its_own()
    {
        SchemaCase compiled = new("""
            {"$id":"https://example.com/root.json","$ref":"other.json","$defs":{"x":{"$id":"other.json","type":"array","items":{"$ref":"#/$defs/y"},
            "$defs":{"y":{"type":"integer"}}},"y":{"type":"string"}}}
            """);
        Assert.True(compiled.AcceptsJson("[1]") && compiled.AcceptsCall("[1]"));
        Assert.False(compiled.AcceptsJson("[\"a\"]") || compiled.AcceptsCall("[\"a\"]"));
    }

    [Fact]
    public void Any_JSON_object_is_an_object_of_anything()
    {
        GrammarOracle oracle = new(JsonSchemaGrammar.AnyObject(SchemaCase.Options));
        Assert.True(oracle.Matches("""{"a": [1, {"b": "c\u00e9\n"}], "d": -1.5e+3}""".Replace("\n", "\\n")));
        Assert.True(oracle.Matches("{}"));
        Assert.False(oracle.Matches("[]"));
        Assert.False(oracle.Matches("""{"a":1"""));
    }

    private static bool IsJson(string text)
    {
        try
        {
            JsonDocument.Parse(text).Dispose();
            return true;
        }
        catch (JsonException)
        {
            return false;
        }
    }
}
