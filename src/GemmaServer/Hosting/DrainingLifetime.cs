using System.Runtime.InteropServices;

namespace GemmaServer;

/// <summary>
/// SIGTERM and Ctrl+C begin a drain: /readyz fails at once, the listener stays open for what is running, and the host stops
/// when that is done or the drain timeout is over. A second signal stops at once.
/// </summary>
internal sealed class DrainingLifetime(Server server, IHostApplicationLifetime host, bool handleSignals) : IHostLifetime, IDisposable
{
    private readonly List<PosixSignalRegistration> _signals = [];
    private int _signalled;

    public Task WaitForStartAsync(CancellationToken cancellationToken)
    {
        if (!handleSignals) return Task.CompletedTask;
        foreach (PosixSignal signal in (ReadOnlySpan<PosixSignal>)[PosixSignal.SIGTERM, PosixSignal.SIGINT, PosixSignal.SIGQUIT])
        {
            _signals.Add(PosixSignalRegistration.Create(signal, context =>
            {
                context.Cancel = true;
                Drain();
            }));
        }
        return Task.CompletedTask;
    }

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <summary>Begins to drain, and stops the host when done; the second call stops it at once.</summary>
    public void Drain()
    {
        if (Interlocked.Increment(ref _signalled) > 1)
        {
            host.StopApplication();
            return;
        }
        _ = Task.Run(async () =>
        {
            try
            {
                await server.DrainAsync();
            }
            finally
            {
                host.StopApplication();
            }
        });
    }

    public void Dispose()
    {
        foreach (PosixSignalRegistration signal in _signals) signal.Dispose();
    }
}
