using System.Text.Json;

namespace GemmaServer.Text;

/// <summary>
/// Makes grammars of JSON schemas: every text that the grammar matches is a value that the schema allows. Where that cannot be had,
/// because a keyword is not supported, the schema contradicts itself or asks for too much, a <see cref="GrammarException"/> says so.
/// </summary>
/// <remarks>
/// Declared members come in the order of the schema, the others behind them. What only the grammar demands, to keep answers finite:
/// numbers without bounds have at most 15 digits on each side of the point, and white space is limited.
/// </remarks>
public static class JsonSchemaGrammar
{
    private static readonly JsonElement s_object = JsonDocument.Parse("""{"type":"object"}""").RootElement;

    /// <summary>The schema's values as JSON text.</summary>
    public static GrammarNode Json(JsonElement schema, JsonSchemaOptions options) =>
        Compile(schema, options, new JsonSpelling(options.IsCompact), mustBeObject: false);

    /// <summary>Any JSON object.</summary>
    public static GrammarNode AnyObject(JsonSchemaOptions options) => Json(s_object, options);

    /// <summary>The schema's objects as the arguments of a call in Gemma's own syntax, with both braces.</summary>
    /// <param name="schema">The tool's parameters.</param>
    /// <param name="quoteToken">Id of the string delimiter.</param>
    /// <param name="options">Bounds and the reader of patterns.</param>
    public static GrammarNode Arguments(JsonElement schema, int quoteToken, JsonSchemaOptions options) =>
        Compile(schema, options, new CallSpelling(quoteToken), mustBeObject: true);

    private static GrammarNode Compile(JsonElement schema, JsonSchemaOptions options, ValueSpelling spelling, bool mustBeObject)
    {
        try
        {
            SchemaBudget budget = options.Budget;
            SchemaSource source = new(schema, budget);
            SchemaSet root = SchemaSet.Of(new SchemaOperand(source.Root.Id));
            if (mustBeObject) root = root.With(SchemaSet.Of(new SchemaOperand(source.Add(s_object).Id)));
            return new SchemaGrammarWriter(new SchemaShapes(source, options, budget), spelling, budget).Write(root);
        }
        catch (SchemaLoopException e)
        {
            throw new GrammarException("The schema refers to itself without an object or array between.", e.Path);
        }
        catch (InsufficientExecutionStackException)
        {
            throw new GrammarException("The schema is nested too deeply.");
        }
    }
}
