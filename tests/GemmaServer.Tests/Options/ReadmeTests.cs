using GemmaServer;

namespace GemmaServer.Tests.Options;

public class ReadmeTests
{
    [Fact]
    public void The_readme_describes_every_setting_and_no_other()
    {
        DirectoryInfo folder = new(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(folder.FullName, "GemmaServer.sln"))) folder = folder.Parent!;
        string[] described = [.. File.ReadLines(Path.Combine(folder.FullName, "README.md"))
            .Where(l => l.StartsWith("| `--", StringComparison.Ordinal)).Select(l => l[5..l.IndexOf('`', 5)])];
        Assert.Equal(OptionsReader.Settings.Select(s => s.Flag.Name).Order(), described.Order());
    }
}
