namespace GemmaServer.Compute;

/// <summary>
/// Graphs by key. Between begin and end, commands are written down and not run. At the end the graph of that key runs if it was made of
/// the same commands; otherwise they are captured into a new one. So a key that says too little costs time and never a result.
/// Where the driver refuses to capture, the commands simply run, from then on without being written down.
/// </summary>
internal sealed class CudaGraphs : IDisposable
{
    /// <summary>Decode buckets up to 256 rows are 20; each may come with several lengths of context.</summary>
    public const int MostKept = 96;

    private readonly nint _stream;
    private readonly Dictionary<long, Graph> _graphs = [];
    private CudaJournal _journal = new();
    private long _key, _turn;

    /// <param name="stream">Where graphs are captured and run.</param>
    public CudaGraphs(nint stream) => _stream = stream;

    /// <summary>Whether commands are written down now.</summary>
    public bool IsRecording { get; private set; }

    /// <summary>Where commands are written down.</summary>
    public CudaJournal Journal => _journal;

    /// <summary>Why there are no graphs; null while there are.</summary>
    public string? Failure { get; private set; }

    /// <summary>Graphs kept.</summary>
    public int Count => _graphs.Count;

    /// <summary>Graphs made, those again included.</summary>
    public int Captures { get; private set; }

    /// <summary>Graphs run as they were.</summary>
    public long Replays { get; private set; }

    public void Begin(long key)
    {
        if (IsRecording) throw new InvalidOperationException("A graph is being recorded already.");
        if (Failure is not null) return;
        (_key, IsRecording) = (key, true);
        _journal.Reset();
    }

    /// <summary>Runs what was written down; an error is the commands' own.</summary>
    public int End()
    {
        if (!IsRecording) return CudaApi.Success;
        IsRecording = false;
        if (_journal.Count == 0) return CudaApi.Success;
        if (_graphs.TryGetValue(_key, out Graph? graph))
        {
            if (graph.Journal.IsSameAs(_journal))
            {
                Replays++;
                graph.LastUsed = ++_turn;
                return CudaApi.cuGraphLaunch(graph.Executable, _stream);
            }
            Forget(_key, graph);
        }
        int error = Capture(out nint executable);
        if (error != CudaApi.Success)
        {
            Failure = $"CUDA graphs are off, kernels are launched one by one: {CudaApi.Describe(error)}";
            return _journal.Play(_stream);
        }
        Captures++;
        MakeRoom();
        _graphs.Add(_key, new Graph(executable, _journal) { LastUsed = ++_turn });
        _journal = new CudaJournal();
        return CudaApi.cuGraphLaunch(executable, _stream);
    }

    /// <summary>Forgets what was written down: its step failed half way.</summary>
    public void Drop() => IsRecording = false;

    /// <summary>Runs what was written down so far, and what follows as it comes: something waits or allocates.</summary>
    public int Flush()
    {
        if (!IsRecording) return CudaApi.Success;
        IsRecording = false;
        return _journal.Play(_stream);
    }

    public void Dispose()
    {
        IsRecording = false;
        foreach (Graph graph in _graphs.Values) graph.Dispose();
        _graphs.Clear();
        _journal.Dispose();
    }

    private int Capture(out nint executable) => Capture(_journal, _stream, out executable);

    private static unsafe int Capture(CudaJournal journal, nint stream, out nint executable)
    {
        executable = 0;
        int error = CudaApi.cuStreamBeginCapture_v2(stream, CudaApi.StreamCaptureModeThreadLocal);
        if (error != CudaApi.Success) return error;
        int played = journal.Play(stream);
        nint graph = 0, made = 0;
        // Also after an error: the stream must leave its capture.
        error = CudaApi.cuStreamEndCapture(stream, &graph);
        if (played != CudaApi.Success) error = played;
        if (error == CudaApi.Success) error = CudaApi.cuGraphInstantiateWithFlags(&made, graph, 0);
        if (graph != 0) _ = CudaApi.cuGraphDestroy(graph);
        executable = made;
        return error;
    }

    private void MakeRoom()
    {
        if (_graphs.Count < MostKept) return;
        (long oldest, Graph? least) = (0, null);
        foreach ((long key, Graph graph) in _graphs)
            if (least is null || graph.LastUsed < least.LastUsed) (oldest, least) = (key, graph);
        Forget(oldest, least!);
    }

    private void Forget(long key, Graph graph)
    {
        // It may be running.
        _ = CudaApi.cuStreamSynchronize(_stream);
        _graphs.Remove(key);
        graph.Dispose();
    }

    private sealed class Graph(nint executable, CudaJournal journal) : IDisposable
    {
        public nint Executable => executable;

        public CudaJournal Journal => journal;

        public long LastUsed { get; set; }

        public void Dispose()
        {
            _ = CudaApi.cuGraphExecDestroy(executable);
            journal.Dispose();
        }
    }
}
