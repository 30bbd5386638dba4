namespace GemmaServer.Text;

/// <summary>How much work one schema may cause: merged branches, properties, rules. A hostile one ends here, not in a stalled server.</summary>
internal sealed class SchemaBudget(int units)
{
    /// <summary>Schemas that apply to the same value may refer to each other this deeply.</summary>
    public const int MaxDepth = 200;

    private int _left = units;

    /// <exception cref="GrammarException">The budget is spent.</exception>
    public void Spend(int amount, string path)
    {
        if (amount < 0 || amount > _left) throw new GrammarException("The schema is too large or its combinations are too many.", path);
        _left -= amount;
    }
}
