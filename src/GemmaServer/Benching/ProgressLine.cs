using System.Diagnostics;
using System.Globalization;

namespace GemmaServer;

/// <summary>One line on a terminal that is written over; nothing where standard error is not a terminal.</summary>
internal sealed class ProgressLine : IDisposable
{
    private const int Width = 30;
    private static readonly TimeSpan s_interval = TimeSpan.FromMilliseconds(100);

    private readonly bool _shown = !Console.IsErrorRedirected;
    private readonly Lock _writing = new();
    private long _last;
    private int _length;

    /// <summary>Shows a bar and a text. From any thread.</summary>
    /// <param name="share">0 … 1.</param>
    /// <param name="text">Behind the bar.</param>
    public void Show(double share, string text)
    {
        if (!_shown) return;
        lock (_writing)
        {
            if (share < 1 && _last != 0 && Stopwatch.GetElapsedTime(_last) < s_interval) return;
            _last = Stopwatch.GetTimestamp();
            int full = (int)(Math.Clamp(share, 0, 1) * Width);
            string line = string.Create(CultureInfo.InvariantCulture, $"[{new string('#', full)}{new string('.', Width - full)}] {share,4:P0} {text}");
            Console.Error.Write("\r" + line.PadRight(_length));
            _length = line.Length;
        }
    }

    /// <summary>Takes the line away.</summary>
    public void Dispose()
    {
        if (_length > 0) Console.Error.Write("\r" + new string(' ', _length) + "\r");
    }
}
