using System.Diagnostics;
using Xunit.Abstractions;

namespace GemmaServer.GoldenTests.Demo;

/// <summary>Runs where Node and the packages of <c>tests/clients/npm</c> are installed (<c>npm ci</c> there, as .ci/run does).</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class NpmFactAttribute : FactAttribute
{
    public NpmFactAttribute()
    {
        if (ClientsFolder is null) Skip = "the npm packages are not installed: run 'npm ci' in tests/clients/npm";
    }

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

[Collection(DemoServerCollection.Name)]
public class NpmClientTests(DemoServer server, ITestOutputHelper output)
{
    [NpmFact]
    public Task The_official_npm_client_chats_streams_calls_tools_and_sees_its_error_classes() => RunAsync("openai-demo.mjs", checks: 6);

    [NpmFact]
    public Task Anthropics_npm_client_does_so_too() => RunAsync("anthropic-demo.mjs", checks: 7);

    [NpmFact]
    public Task Ollamas_npm_client_does_so_too() => RunAsync("ollama-demo.mjs", checks: 7);

    private async Task RunAsync(string script, int checks)
    {
        ProcessStartInfo start = new("node", [script, server.Url.ToString().TrimEnd('/')])
        {
            WorkingDirectory = NpmFactAttribute.ClientsFolder,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using Process node = Process.Start(start)!;
        using CancellationTokenSource patience = new(TimeSpan.FromMinutes(2));
        Task<string> errors = node.StandardError.ReadToEndAsync();
        string lines = await node.StandardOutput.ReadToEndAsync();
        try
        {
            await node.WaitForExitAsync(patience.Token);
        }
        finally
        {
            if (!node.HasExited) node.Kill();
        }
        output.WriteLine(lines);
        Assert.True(node.ExitCode == 0, lines + await errors);
        Assert.Equal(checks, lines.Split('\n').Count(l => l.StartsWith("ok ", StringComparison.Ordinal)));
    }
}
