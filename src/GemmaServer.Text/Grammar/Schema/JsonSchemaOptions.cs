namespace GemmaServer.Text;

/// <summary>How a schema becomes a grammar.</summary>
public sealed class JsonSchemaOptions
{
    private SchemaBudget? _budget;

    /// <summary>
    /// Reads a regular expression of the schema: the grammar of every whole text in which it is found somewhere, as JSON Schema
    /// has it. Throws <see cref="GrammarException"/> for one that cannot be followed.
    /// </summary>
    public required Func<string, GrammarNode> Pattern { get; init; }

    /// <summary>No white space at all between the parts of the JSON text.</summary>
    public bool IsCompact { get; init; }

    /// <summary>How much work a schema may cause, in merged branches, properties and rules. Default 100,000: some tens of milliseconds.</summary>
    public int MaxWork { get; init; } = 100_000;

    /// <summary>All schemas that are read with these options have <see cref="MaxWork"/> together, not each. One thread at a time then.</summary>
    public bool SharesWork { get; init; }

    internal SchemaBudget Budget => SharesWork ? _budget ??= new SchemaBudget(MaxWork) : new SchemaBudget(MaxWork);
}
