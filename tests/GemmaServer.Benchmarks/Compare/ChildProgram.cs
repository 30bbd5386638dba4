using System.Diagnostics;
using System.Text;

namespace GemmaServer.Benchmarks;

/// <summary>A program that was started for a measurement did not do its work; the message has the end of what it said.</summary>
internal sealed class ProgramFailedException(string message) : Exception(message);

/// <summary>A program that runs beside this one, ended by its own process id at the latest when this object is disposed.</summary>
internal sealed class ChildProgram : IDisposable
{
    private const int KeptErrors = 4000;

    private readonly Process _process;
    private readonly StringBuilder _said = new();
    private readonly string _name;

    /// <summary>Starts it. Its output is read, so that it never waits for a reader.</summary>
    /// <param name="file">The program.</param>
    /// <param name="arguments">As they are; nothing is quoted or split.</param>
    /// <param name="environment">Added to ours.</param>
    /// <param name="output">Receives standard output; null keeps its end for messages.</param>
    public ChildProgram(string file, IEnumerable<string> arguments, IEnumerable<KeyValuePair<string, string>> environment, StringBuilder? output = null)
    {
        _name = Path.GetFileName(file);
        ProcessStartInfo start = new(file, arguments) { RedirectStandardOutput = true, RedirectStandardError = true, RedirectStandardInput = true };
        foreach ((string name, string value) in environment) start.Environment[name] = value;
        _process = new Process { StartInfo = start };
        _process.OutputDataReceived += (_, line) => Keep(output ?? _said, line.Data, isBounded: output is null);
        _process.ErrorDataReceived += (_, line) => Keep(_said, line.Data, isBounded: true);
        _process.Start();
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    public bool HasExited => _process.HasExited;

    /// <summary>For an exception: the program's name and the end of what it said.</summary>
    public ProgramFailedException Failed(string what)
    {
        lock (_said) return new($"{_name} {what}:\n{_said.ToString().Trim()}");
    }

    /// <summary>Everything that a program says, on either stream; empty when it cannot be run.</summary>
    public static async Task<string> SaysAsync(string file, IEnumerable<string> arguments, IEnumerable<KeyValuePair<string, string>> environment, CancellationToken cancellation)
    {
        try
        {
            using ChildProgram program = new(file, arguments, environment);
            await program._process.WaitForExitAsync(cancellation);
            program._process.WaitForExit();
            lock (program._said) return program._said.ToString();
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return "";
        }
    }

    /// <summary>Runs a program to its end.</summary>
    /// <returns>Its standard output.</returns>
    /// <exception cref="ProgramFailedException">It cannot be started, or its exit code is not 0.</exception>
    public static async Task<string> OutputAsync(
        string file, IEnumerable<string> arguments, IEnumerable<KeyValuePair<string, string>> environment, CancellationToken cancellation)
    {
        StringBuilder output = new();
        try
        {
            using ChildProgram program = new(file, arguments, environment, output);
            await program._process.WaitForExitAsync(cancellation);
            program._process.WaitForExit();     // and for the last line
            if (program._process.ExitCode != 0) throw program.Failed($"ended with exit code {program._process.ExitCode}");
            return output.ToString();
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new ProgramFailedException($"{file}: {e.Message}");
        }
    }

    public void Dispose()
    {
        try
        {
            if (!_process.HasExited) _process.Kill();
            _process.WaitForExit();
        }
        catch (InvalidOperationException)
        {
            // It ended by itself meanwhile.
        }
        _process.Dispose();
    }

    private static void Keep(StringBuilder text, string? line, bool isBounded)
    {
        if (line is null) return;
        lock (text)
        {
            text.Append(line).Append('\n');
            if (isBounded && text.Length > 2 * KeptErrors) text.Remove(0, text.Length - KeptErrors);
        }
    }
}
