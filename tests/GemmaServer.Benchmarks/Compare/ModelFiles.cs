namespace GemmaServer.Benchmarks;

/// <summary>The random checkpoints that are compared on, made once and kept.</summary>
/// <param name="folder">Where they lie.</param>
internal sealed class ModelFiles(string folder)
{
    private sealed record Recipe(string Shape, string Type, int? Layers);

    private readonly Dictionary<string, Recipe> _recipes = [];

    /// <summary>E2B with all layers and tokens.</summary>
    public string E2B(string type) => Add($"e2b-{type}.gguf", new("e2b", type, null));

    /// <summary>26B-A4B cut to six layers.</summary>
    public string Moe(string type) => Add($"26b6-{type}.gguf", new("26b-a4b", type, 6));

    /// <summary>Makes what is missing of <paramref name="files"/>.</summary>
    public async Task MakeAsync(IEnumerable<string> files, OurProgram ours, Action<string> say, CancellationToken cancellation)
    {
        Directory.CreateDirectory(folder);
        foreach (string file in files.Where(static f => !File.Exists(f)))
        {
            Recipe recipe = _recipes[file];
            say($"making {file}");
            await ours.MakeRandomAsync(file, recipe.Shape, recipe.Type, recipe.Layers, cancellation);
        }
    }

    /// <summary>Reads a file from front to back, so that it lies in the page cache before anything is measured.</summary>
    public static void Warm(string file)
    {
        byte[] buffer = new byte[1 << 20];
        using FileStream stream = new(file, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0, FileOptions.SequentialScan);
        while (stream.Read(buffer) > 0)
        {
        }
    }

    private string Add(string name, Recipe recipe)
    {
        string path = Path.Combine(folder, name);
        _recipes[path] = recipe;
        return path;
    }
}
