namespace GemmaServer;

/// <summary>Model names as Ollama has them: with a tag, which is "latest" where a client names none.</summary>
internal static class OllamaNames
{
    private const string Latest = ":latest";

    /// <summary>The name with a tag.</summary>
    public static string Tagged(string name) => name.IndexOf(':', name.LastIndexOf('/') + 1) < 0 ? name + Latest : name;

    /// <summary>The served name that a client means, with or without ":latest"; null when there is none.</summary>
    public static string? Served(ServedModel model, string name)
    {
        if (model.Serves(name)) return name;
        string other = name.EndsWith(Latest, StringComparison.Ordinal) ? name[..^Latest.Length] : name + Latest;
        return model.Serves(other) ? other : null;
    }
}
