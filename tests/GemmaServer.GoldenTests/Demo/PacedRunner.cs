using GemmaServer.Compute;
using GemmaServer.Model;

namespace GemmaServer.GoldenTests.Demo;

/// <summary>
/// A runner whose steps last at least a while. The demo model computes faster than a loaded machine's HTTP side writes, and
/// tokens that wait together travel together: a test of streaming needs a model of a real one's pace.
/// </summary>
internal sealed class PacedRunner(IModelRunner inner) : IModelRunner
{
    private volatile int _milliseconds;

    public int Milliseconds
    {
        set => _milliseconds = value;
    }

    public KvCachePlan KvCache => inner.KvCache;

    public int VocabularySize => inner.VocabularySize;

    public int MaxSequences => inner.MaxSequences;

    public int MaxBatchTokens => inner.MaxBatchTokens;

    public int MaxDrafts => inner.MaxDrafts;

    public bool IsAsynchronous => inner.IsAsynchronous;

    public void OpenSlot(int slot, SamplingParams sampling, ReadOnlySpan<int> prompt, ReadOnlySpan<int> output) => inner.OpenSlot(slot, sampling, prompt, output);

    public void CloseSlot(int slot) => inner.CloseSlot(slot);

    public StepTicket Launch(StepBatch batch)
    {
        if (_milliseconds > 0) Thread.Sleep(_milliseconds);
        return inner.Launch(batch);
    }

    public StepResult Collect(StepTicket ticket) => inner.Collect(ticket);

    public void Dispose() => inner.Dispose();
}

/// <summary>Tests that see an answer come piece by piece.</summary>
public abstract class StreamingTests : IDisposable
{
    private const int Milliseconds = 5;

    /// <summary>Who is asked.</summary>
    protected DemoServer Server { get; }

    protected StreamingTests(DemoServer server)
    {
        Server = server;
        server.SetPace(Milliseconds);
    }

    public void Dispose()
    {
        Server.SetPace(0);
        GC.SuppressFinalize(this);
    }
}
