using System.Collections.Concurrent;
using System.Globalization;
using System.Reflection;
using System.Text;

namespace GemmaServer.Compute;

/// <summary>
/// One program: a source file in the common dialect (docs/kernels.md), what it includes, and constants. Two with the same text
/// are the same program.
/// </summary>
internal sealed class KernelSource
{
    private static readonly ConcurrentDictionary<string, string> s_files = new();

    private readonly string _body;

    /// <param name="file">An embedded file's name: "rows.cl".</param>
    /// <param name="headers">Embedded files that come before it, in order.</param>
    /// <param name="constants">Names defined for the preprocessor.</param>
    public KernelSource(string file, ReadOnlySpan<string> headers = default, params ReadOnlySpan<(string Name, int Value)> constants)
    {
        File = file;
        StringBuilder text = new();
        foreach ((string name, int value) in constants) text.Append(CultureInfo.InvariantCulture, $"#define {name} {value}\n");
        foreach (string header in headers) text.Append(Read(header)).Append('\n');
        _body = text.Append(Read(file)).ToString();
    }

    private KernelSource(string file, string body) => (File, _body) = (file, body);

    /// <summary>A program whose text is no embedded file: tests' own kernels.</summary>
    public static KernelSource FromText(string name, string text, params ReadOnlySpan<string> headers)
    {
        StringBuilder body = new();
        foreach (string header in headers) body.Append(Read(header)).Append('\n');
        return new KernelSource(name, body.Append(text).ToString());
    }

    /// <summary>For messages.</summary>
    public string File { get; }

    /// <summary>The whole text for one compiler: its prelude first.</summary>
    public string Text(GpuApi api) => Read(api == GpuApi.Cuda ? "prelude_cuda.h" : "prelude_opencl.h") + "\n" + Read("prelude.h") + "\n" + _body;

    private static string Read(string file) => s_files.GetOrAdd(file, static name =>
    {
        using Stream stream = Assembly.GetExecutingAssembly().GetManifestResourceStream(name)
            ?? throw new ArgumentException($"No kernel source is called {name}.");
        using StreamReader reader = new(stream);
        return reader.ReadToEnd();
    });
}
