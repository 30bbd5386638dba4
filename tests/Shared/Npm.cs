using System.Diagnostics;

namespace GemmaServer.Tests;

/// <summary>Runs where Node and the packages of <c>tests/clients/npm</c> are installed (<c>npm ci</c> there, as .ci/run does).</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class NpmFactAttribute : FactAttribute
{
    public NpmFactAttribute()
    {
        if (Npm.Folder is null) Skip = Npm.NotInstalled;
    }
}

/// <summary>As <see cref="NpmFactAttribute"/>, with cases.</summary>
[AttributeUsage(AttributeTargets.Method)]
public sealed class NpmTheoryAttribute : TheoryAttribute
{
    public NpmTheoryAttribute()
    {
        if (Npm.Folder is null) Skip = Npm.NotInstalled;
    }
}

/// <summary>Scripts of <c>tests/clients/npm</c>.</summary>
internal static class Npm
{
    public const string NotInstalled = "the npm packages are not installed: run 'npm ci' in tests/clients/npm";

    /// <summary>The folder in the checkout that holds node_modules; null where it is not installed.</summary>
    public static string? Folder { get; } = Find();

    /// <summary>Runs a script to its end and returns what it printed.</summary>
    /// <param name="script">Its file name.</param>
    /// <param name="input">What it reads on standard input.</param>
    /// <param name="arguments">Its arguments.</param>
    public static async Task<string> RunAsync(string script, string input, params string[] arguments)
    {
        ProcessStartInfo start = new("node", [script, .. arguments])
        {
            WorkingDirectory = Folder,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using Process node = Process.Start(start)!;
        using CancellationTokenSource patience = new(TimeSpan.FromMinutes(2));
        try
        {
            Task<string> errors = node.StandardError.ReadToEndAsync(patience.Token), lines = node.StandardOutput.ReadToEndAsync(patience.Token);
            await GiveAsync(node.StandardInput, input, patience.Token);
            await node.WaitForExitAsync(patience.Token);
            Assert.True(node.ExitCode == 0, await lines + await errors);
            return await lines;
        }
        finally
        {
            if (!node.HasExited) node.Kill();
        }
    }

    private static async Task GiveAsync(StreamWriter writer, string input, CancellationToken patience)
    {
        try
        {
            await writer.WriteAsync(input.AsMemory(), patience);
            writer.Close();
        }
        catch (IOException)
        {
            // It ended before it had read everything; its own words say why.
        }
    }

    private static string? Find()
    {
        for (DirectoryInfo? d = new(AppContext.BaseDirectory); d is not null; d = d.Parent)
        {
            string folder = Path.Combine(d.FullName, "tests", "clients", "npm");
            if (Directory.Exists(Path.Combine(folder, "node_modules", "ai"))) return folder;
        }
        return null;
    }
}
