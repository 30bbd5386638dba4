using System.Collections.Concurrent;
using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using GemmaServer.Tests;
using GemmaServer.Text;
using Xunit.Abstractions;

namespace GemmaServer.GoldenTests;

/// <summary>
/// Random schemas and regular expressions against random weights, over HTTP. A finished answer satisfies its schema by ajv, or its expression by
/// .NET's own engine; one that the token limit cut is the beginning of an answer that would.
/// </summary>
/// <remarks>
/// GEMMASERVER_SCHEMAS is the number of schemas and of expressions, GEMMASERVER_SCHEMAS_SEED repeats a run. Tokens that close
/// something are favoured, or noise would hardly ever come to an end.
/// </remarks>
public sealed class RandomSchemaTests(RandomModelServer server, ITestOutputHelper output) : IClassFixture<RandomModelServer>
{
    private const double LeastFinished = 0.6;
    private static readonly JsonSchemaOptions s_options = new() { Pattern = static p => RegexGrammar.Parse(p, anchored: false) };

    private readonly int _count = Setting("GEMMASERVER_SCHEMAS", 50);
    private readonly int _seed = Setting("GEMMASERVER_SCHEMAS_SEED", Environment.TickCount & 0xFFFFFF);
    private readonly JsonObject _bias = new() { ["106"] = 10 };    // the end of the turn, where a grammar allows it

    [NpmFact]
    public async Task Answers_satisfy_random_schemas()
    {
        ConcurrentBag<(string Schema, string Text, bool IsFinished)> answers = [];
        await FavourAsync("\"", "}", "]");
        await Parallel.ForAsync(_seed, _seed + _count, new ParallelOptions { MaxDegreeOfParallelism = 16 }, async (seed, _) =>
        {
            JsonObject schema = RandomSchema.Make(seed);
            JsonNode choice = await server.AskAsync(Request(seed, "response_format",
                new JsonObject { ["type"] = "json_schema", ["json_schema"] = new JsonObject { ["name"] = "random", ["schema"] = schema.DeepClone() } }));
            answers.Add((schema.ToJsonString(), (string)choice["message"]!["content"]!, (string?)choice["finish_reason"] == "stop"));
        });

        StringBuilder finished = new();
        foreach ((string schema, string text, bool isFinished) in answers)
        {
            if (isFinished) finished.AppendLine(JsonSerializer.Serialize(new { schema = JsonNode.Parse(schema), instance = text }));
            else AssertBegins(text, schema);
        }
        int count = answers.Count(static a => a.IsFinished);
        output.WriteLine($"GEMMASERVER_SCHEMAS={_count} GEMMASERVER_SCHEMAS_SEED={_seed}: {count} of {answers.Count} answers finished");
        string said = (await Npm.RunAsync("validate.mjs", finished.ToString())).Trim();
        Assert.True(said == $"{count} validated", said);
        Assert.True(count >= LeastFinished * _count, $"Only {count} of {_count} answers came to an end.");
    }

    [Fact]
    public async Task Answers_match_random_expressions()
    {
        int finished = 0, all = 0;
        await FavourAsync("a", "1");
        await Parallel.ForAsync(_seed, _seed + _count, new ParallelOptions { MaxDegreeOfParallelism = 16 }, async (seed, _) =>
        {
            string pattern = MakePattern(new Random(seed));
            JsonNode choice = await server.AskAsync(Request(seed, "structured_outputs", new JsonObject { ["regex"] = pattern }));
            string text = (string)choice["message"]!["content"]!;
            Interlocked.Increment(ref all);
            if ((string?)choice["finish_reason"] != "stop")
            {
                Assert.True(new GrammarOracle(RegexGrammar.Parse(pattern, anchored: true)).MayBegin(text), $"/{pattern}/ cannot begin with '{text}'");
                return;
            }
            Interlocked.Increment(ref finished);
            // .NET reads UTF-16 units where the grammar reads characters, and its $ also stands before a last line end.
            if (!text.Any(char.IsSurrogate))
                Assert.True(Regex.IsMatch(text, $@"\A(?:{pattern.Replace("$", @"\z")})\z", RegexOptions.CultureInvariant | RegexOptions.NonBacktracking), $"/{pattern}/ does not match '{text}'");
        });
        output.WriteLine($"GEMMASERVER_SCHEMAS={_count} GEMMASERVER_SCHEMAS_SEED={_seed}: {finished} of {all} answers finished");
        Assert.True(finished >= LeastFinished * _count, $"Only {finished} of {_count} answers came to an end.");
    }

    /// <summary>A pattern that can be followed and matches more than nothing.</summary>
    private static string MakePattern(Random random)
    {
        while (true)
        {
            string pattern = RandomPattern.Make(random, 3);
            try
            {
                CompiledGrammar.Compile(RegexGrammar.Parse(pattern, anchored: true), s_vocabulary.Value);
                return pattern;
            }
            catch (GrammarException)
            {
                // An anchor in the middle: nothing matches.
            }
        }
    }

    private static readonly Lazy<TokenTrie> s_vocabulary = new(static () =>
    {
        using FileStream json = File.OpenRead(GoldenData.At("tok512", "tokenizer.json"));
        Tokenizer tokenizer = Tokenizer.FromJson(json);
        return new TokenTrie(tokenizer, tokenizer.VocabularySize);
    });

    private async Task FavourAsync(params string[] closers)
    {
        foreach (string text in closers) _bias[(await server.TokenAsync(text)).ToString(CultureInfo.InvariantCulture)] = 6;
    }

    private string Request(int seed, string field, JsonObject value) => new JsonObject
    {
        ["messages"] = new JsonArray(new JsonObject { ["role"] = "user", ["content"] = $"{seed}" }),
        ["seed"] = seed,
        ["temperature"] = 1,
        ["top_k"] = 0,
        ["top_p"] = 1,
        ["max_tokens"] = 200,
        ["logit_bias"] = _bias.DeepClone(),
        [field] = value,
    }.ToJsonString();

    /// <summary>By the platform's JSON reader, and by derivatives of the schema's grammar.</summary>
    private static void AssertBegins(string text, string schema)
    {
        Utf8JsonReader reader = new(Encoding.UTF8.GetBytes(text), isFinalBlock: false, new JsonReaderState(new JsonReaderOptions { MaxDepth = 1000 }));
        while (reader.Read())
        {
        }
        GrammarOracle oracle = new(JsonSchemaGrammar.Json(JsonDocument.Parse(schema).RootElement, s_options));
        Assert.True(oracle.MayBegin(text), $"{schema} cannot begin with {text}");
    }

    private static int Setting(string name, int fallback) =>
        Environment.GetEnvironmentVariable(name) is { Length: > 0 } text ? int.Parse(text, CultureInfo.InvariantCulture) : fallback;
}
