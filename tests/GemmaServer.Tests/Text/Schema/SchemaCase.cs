using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using GemmaServer.Text;

namespace GemmaServer.Tests;

/// <summary>A schema compiled in both spellings, ready to be asked about values.</summary>
internal sealed class SchemaCase
{
    /// <summary>The string delimiter's id in these tests.</summary>
    public const int QuoteToken = 52;

    private readonly GrammarOracle _json, _call;

    public SchemaCase(string schema)
    {
        Json = JsonSchemaGrammar.Json(Parse(schema), Options);
        Call = JsonSchemaGrammar.Arguments(Parse(Wrapped(schema)), QuoteToken, Options);
        (_json, _call) = (new(Json), new(Call));
    }

    public static JsonSchemaOptions Options { get; } = new() { Pattern = TestPattern.Read };

    public GrammarNode Json { get; }

    /// <summary>Arguments of which <c>v</c> is the value.</summary>
    public GrammarNode Call { get; }

    public static JsonElement Parse(string json) => JsonDocument.Parse(json).RootElement;

    /// <summary>The schema as that of a parameter. Its references stay its own because it is a resource of its own.</summary>
    public static string Wrapped(string schema)
    {
        JsonNode inner = JsonNode.Parse(schema)!;
        if (inner is JsonObject o && !o.ContainsKey("$id")) o.Insert(0, "$id", "https://example.com/inner.json");
        return $$"""{"type":"object","properties":{"v":{{inner.ToJsonString()}} },"required":["v"],"additionalProperties":false}""";
    }

    public bool AcceptsJson(string json) => _json.Matches(json);

    public bool AcceptsCall(string json) => _call.Matches(CallOf($$"""{"v":{{json}}}"""));

    /// <summary>A JSON value as Gemma writes arguments; names as bare as the reader takes them.</summary>
    public static List<int> CallOf(string json)
    {
        List<int> output = [];
        Write(Parse(json), output);
        return output;
    }

    private static void Write(JsonElement value, List<int> output)
    {
        switch (value.ValueKind)
        {
            case JsonValueKind.String:
                Quoted(value.GetString()!, output);
                break;
            case JsonValueKind.Array:
                output.Add('[');
                foreach ((int i, JsonElement item) in value.EnumerateArray().Index())
                {
                    if (i > 0) output.Add(',');
                    Write(item, output);
                }
                output.Add(']');
                break;
            case JsonValueKind.Object:
                output.Add('{');
                foreach ((int i, JsonProperty member) in value.EnumerateObject().Index())
                {
                    if (i > 0) output.Add(',');
                    bool isBare = member.Name.Length > 0 && member.Name.All(c => char.IsLetterOrDigit(c) || c is '_' or '-' or '.' or '$' or '/' or '~' or '%' or '^' or '\\' or '|');
                    if (isBare) output.AddRange(GrammarOracle.Symbols(member.Name));
                    else Quoted(member.Name, output);
                    output.Add(':');
                    Write(member.Value, output);
                }
                output.Add('}');
                break;
            default:
                output.AddRange(GrammarOracle.Symbols(value.GetRawText()));
                break;
        }
    }

    private static void Quoted(string text, List<int> output)
    {
        output.Add(GrammarOracle.Token(QuoteToken));
        output.AddRange(GrammarOracle.Symbols(text));
        output.Add(GrammarOracle.Token(QuoteToken));
    }

    /// <summary>What the reader of calls makes of arguments.</summary>
    public static string Reread(List<int> symbols)
    {
        ArgumentParser parser = new();
        parser.Begin();
        for (int i = 1; i < symbols.Count; i++)
        {
            if (parser.IsClosed) throw new InvalidOperationException($"the arguments ended too early: {Shown(symbols)}");
            if (symbols[i] < 0) parser.Delimiter();
            else parser.Push(new Rune(symbols[i]).ToString());
        }
        return parser.IsClosed ? parser.Json.ToString() : throw new InvalidOperationException($"the arguments did not end: {Shown(symbols)}");
    }

    private static string Shown(List<int> symbols) => GrammarWalker.TextOf(symbols, _ => "¦");
}
