using System.Diagnostics;

namespace GemmaServer.GoldenTests.Demo;

/// <summary>Runs a script of <c>tests/clients/npm</c> to its end.</summary>
internal static class NodeScript
{
    /// <summary>Returns what it printed; fails with all of it when the exit code is not 0.</summary>
    /// <param name="arguments">The script and what follows it.</param>
    /// <param name="input">Lines for its standard input; null for none.</param>
    public static async Task<string> RunAsync(IEnumerable<string> arguments, IEnumerable<string>? input = null)
    {
        ProcessStartInfo start = new("node", arguments)
        {
            WorkingDirectory = NpmFactAttribute.ClientsFolder,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using Process node = Process.Start(start)!;
        using CancellationTokenSource patience = new(TimeSpan.FromMinutes(3));
        Task<string> lines = node.StandardOutput.ReadToEndAsync(), errors = node.StandardError.ReadToEndAsync();
        try
        {
            await GiveAsync(node.StandardInput, input ?? []);
            await node.WaitForExitAsync(patience.Token);
        }
        finally
        {
            if (!node.HasExited) node.Kill();
        }
        string all = await lines + await errors;
        Assert.True(node.ExitCode == 0, all);
        return all;
    }

    private static async Task GiveAsync(StreamWriter writer, IEnumerable<string> lines)
    {
        try
        {
            foreach (string line in lines) await writer.WriteLineAsync(line);
            writer.Close();
        }
        catch (IOException)
        {
            // It ended before it had read everything; its own words say why.
        }
    }
}
