using Xunit.Abstractions;

namespace GemmaServer.GoldenTests.Demo;

/// <summary>Runs where Node and the packages of <c>tests/clients/npm</c> are installed (<c>npm ci</c> there, as .ci/run does).</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class NpmFactAttribute : FactAttribute
{
    public NpmFactAttribute()
    {
        if (ClientsFolder is null) Skip = NotInstalled;
    }

    public const string NotInstalled = "the npm packages are not installed: run 'npm ci' in tests/clients/npm";

    /// <summary>The folder in the checkout that holds node_modules; null where it is not installed.</summary>
    public static string? ClientsFolder { get; } = Find();

    private static string? Find()
    {
        for (DirectoryInfo? d = new(AppContext.BaseDirectory); d is not null; d = d.Parent)
        {
            string folder = Path.Combine(d.FullName, "tests", "clients", "npm");
            if (Directory.Exists(Path.Combine(folder, "node_modules", "openai"))) return folder;
        }
        return null;
    }
}

/// <summary>As <see cref="NpmFactAttribute"/>, with cases.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class NpmTheoryAttribute : TheoryAttribute
{
    public NpmTheoryAttribute()
    {
        if (NpmFactAttribute.ClientsFolder is null) Skip = NpmFactAttribute.NotInstalled;
    }
}

/// <summary>Clients that people use, unchanged, against the demo model.</summary>
[Collection(DemoServerCollection.Name)]
public class NpmClientTests(DemoServer server, ITestOutputHelper output)
{
    [NpmTheory]
    [InlineData("openai-demo.mjs", 6)]
    [InlineData("ai-sdk-demo.mjs", 6)]
    [InlineData("langchain-demo.mjs", 4)]
    [InlineData("anthropic-demo.mjs", 7)]
    [InlineData("ollama-demo.mjs", 7)]
    public async Task The_client_gets_what_it_expects(string script, int checks)
    {
        string lines = await NodeScript.RunAsync([script, server.Url.ToString().TrimEnd('/')]);
        output.WriteLine(lines);
        Assert.Equal(checks, lines.Split('\n').Count(l => l.StartsWith("ok ", StringComparison.Ordinal)));
    }
}
