namespace GemmaServer.Tests;

/// <summary>
/// Finds the reference data. The full set is used where it can be reached (environment variable GEMMASERVER_GOLDEN, or a
/// folder <c>shared/golden</c> beside the checkout, as in CI); otherwise the subset that travels with the clone.
/// </summary>
internal static class GoldenData
{
    static GoldenData()
    {
        string? root = Environment.GetEnvironmentVariable("GEMMASERVER_GOLDEN");
        for (DirectoryInfo? d = new(AppContext.BaseDirectory); root is null && d is not null; d = d.Parent)
        {
            string candidate = Path.Combine(d.FullName, "shared", "golden");
            if (Directory.Exists(candidate)) root = candidate;
        }
        IsFull = root is not null;
        Root = root ?? Path.Combine(AppContext.BaseDirectory, "golden");
        Console.WriteLine(IsFull ? $"Golden data: full set at {Root}" : "Golden data: only the subset in the clone");
    }

    /// <summary>Folder that holds tiny-e, chat, tok512 and so on.</summary>
    public static string Root { get; }

    /// <summary>Whether the full set is in use.</summary>
    public static bool IsFull { get; }

    public static string At(params string[] parts) => Path.Combine([Root, .. parts]);

    public static bool Has(params string[] parts) => File.Exists(At(parts)) || Directory.Exists(At(parts));
}
