namespace GemmaServer.BrowserTests;

/// <summary>Runs where a Chromium is installed; says so where it is not. No browser is ever downloaded.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class ChromiumFactAttribute : FactAttribute
{
    public ChromiumFactAttribute()
    {
        if (Path is null) Skip = "no Chromium on the PATH: install the package 'chromium', or name one in GEMMASERVER_CHROMIUM";
    }

    /// <summary>The browser's program; null where there is none.</summary>
    public static string? Path { get; } = Find();

    private static string? Find()
    {
        if (Environment.GetEnvironmentVariable("GEMMASERVER_CHROMIUM") is { Length: > 0 } named) return File.Exists(named) ? named : null;
        string[] folders = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(System.IO.Path.PathSeparator);
        return ((string[])["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"])
            .SelectMany(name => folders.Select(folder => System.IO.Path.Combine(folder, name)))
            .FirstOrDefault(File.Exists);
    }
}
