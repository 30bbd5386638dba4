using System.Text;
using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer.Tests;

public class SchemaRandomTests
{
    private const int Schemas = 300, TextsEach = 12;

    [Fact]
    public void Whatever_a_random_schema_lets_through_is_valid_by_an_independent_reading()
    {
        int written = 0, missed = 0;
        foreach ((string schema, string value) in Values(0, Schemas))
        {
            if (value.Length == 0)
            {
                missed++;
                continue;
            }
            written++;
            SchemaValidator validator = new(SchemaCase.Parse(schema));
            Assert.True(validator.IsValid(SchemaCase.Parse(value)), $"{schema} let through {value}");
        }
        Assert.True(written > 20 * missed, $"{missed} of {written + missed} texts were not found by chance");
    }

    [NpmFact]
    public async Task Whatever_a_random_schema_lets_through_is_valid_by_ajv()
    {
        StringBuilder lines = new();
        int count = 0;
        foreach ((string schema, string value) in Values(1000, 200).Where(v => v.Value.Length > 0))
        {
            lines.AppendLine(JsonSerializer.Serialize(new { schema = SchemaCase.Parse(schema), instance = value }));
            count++;
        }
        string answer = (await Npm.RunAsync("validate.mjs", lines.ToString())).Trim();
        Assert.True(answer == $"{count} validated", answer);
    }

    /// <summary>Texts that walks through the grammars of random schemas gave, in both spellings, as JSON; empty where a walk got stuck.</summary>
    private static IEnumerable<(string Schema, string Value)> Values(int firstSeed, int count)
    {
        for (int seed = firstSeed; seed < firstSeed + count; seed++)
        {
            string schema = RandomSchema.Make(seed).ToJsonString();
            SchemaCase compiled;
            try
            {
                compiled = new(schema);
            }
            catch (GrammarException e)
            {
                throw new InvalidOperationException($"seed {seed}: {e.Message} {e.Path} in {schema}", e);
            }
            GrammarWalker walker = new(new Random(seed));
            for (int i = 0; i < TextsEach; i++)
            {
                List<int>? json = walker.Walk(compiled.Json), call = walker.Walk(compiled.Call);
                yield return (schema, json is null ? "" : GrammarWalker.TextOf(json, _ => throw new InvalidOperationException("a token in JSON")));
                yield return (schema, call is null ? "" : SchemaCase.Parse(SchemaCase.Reread(call)).GetProperty("v").GetRawText());
            }
        }
    }
}
