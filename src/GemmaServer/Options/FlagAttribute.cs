namespace GemmaServer;

/// <summary>A setting's name as a flag; environment variable and file key follow from it.</summary>
/// <param name="name">Kebab case, without the dashes: <c>max-model-len</c>.</param>
/// <param name="help">One line for <c>--help</c>.</param>
[AttributeUsage(AttributeTargets.Property)]
public sealed class FlagAttribute(string name, string help) : Attribute
{
    /// <summary><c>max-model-len</c>.</summary>
    public string Name => name;

    /// <summary>One line for <c>--help</c>.</summary>
    public string Help => help;

    /// <summary>Shown and logged only as "set".</summary>
    public bool Secret { get; init; }

    /// <summary>Bytes, written as a number with an optional suffix K, M or G (powers of 1024).</summary>
    public bool Bytes { get; init; }

    /// <summary><c>GEMMASERVER_MAX_MODEL_LEN</c>.</summary>
    public string Variable => "GEMMASERVER_" + name.Replace('-', '_').ToUpperInvariant();
}
