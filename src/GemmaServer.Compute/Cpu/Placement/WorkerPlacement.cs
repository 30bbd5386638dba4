namespace GemmaServer.Compute;

/// <summary>How many workers there are, and on which CPUs each of them may run.</summary>
public sealed class WorkerPlacement
{
    private readonly int[][] _cpus;
    private readonly string _where;

    private WorkerPlacement(int threads, int[][] cpus, string where)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(threads, 1);
        (Threads, _cpus, _where) = (threads, cpus, where);
    }

    /// <summary>Workers, the caller of <see cref="WorkerPool.Run{TJob}(ref TJob, int)"/> included.</summary>
    public int Threads { get; }

    /// <summary>Whether workers are kept in a place.</summary>
    public bool Pins => _cpus.Length > 0;

    /// <summary>CPUs of a worker; none when it may run anywhere.</summary>
    public ReadOnlySpan<int> CpusOf(int worker) => Pins ? _cpus[worker] : [];

    /// <summary>e.g. <c>64 threads on 2 NUMA nodes</c>.</summary>
    public override string ToString() => $"{Threads} {(Threads == 1 ? "thread" : "threads")}{_where}";

    /// <summary>Workers that may run anywhere.</summary>
    /// <param name="threads">Null takes the default for this machine.</param>
    /// <exception cref="ArgumentOutOfRangeException">Fewer than one.</exception>
    public static WorkerPlacement Free(int? threads) =>
        new(threads ?? DefaultThreads(CpuTopology.OfThisMachine(), Environment.ProcessorCount), [], "");

    /// <summary>
    /// One for each physical core: siblings share the units that kernels keep busy, and the memory's bandwidth. Fewer where
    /// the process may use less time than its cores have.
    /// </summary>
    /// <param name="topology">Cores that the process may use.</param>
    /// <param name="processors">What the runtime sees; it honours the quota of a container.</param>
    public static int DefaultThreads(CpuTopology topology, int processors) => Math.Max(1, Math.Min(topology.Cores.Count, processors));

    /// <summary>
    /// By settings. <c>auto</c> spreads workers evenly over NUMA nodes and keeps each on its node's CPUs, and pins nothing on one
    /// node; <c>none</c> pins nothing; a list such as <c>0-3,8-11</c> gives each worker a CPU of its own.
    /// </summary>
    /// <param name="threads">Null takes the list's length, else the default for the machine.</param>
    /// <param name="affinity">As above.</param>
    /// <param name="topology">Cores that the process may use.</param>
    /// <param name="processors">As in <see cref="DefaultThreads"/>.</param>
    /// <exception cref="ArgumentException">The list is none, names a CPU that the process may not use, or has fewer CPUs than threads were asked for.</exception>
    public static WorkerPlacement Make(int? threads, string affinity, CpuTopology topology, int processors)
    {
        if (Mistake(affinity) is { } mistake) throw new ArgumentException($"--cpu-affinity: {mistake}");
        if (Word(affinity) is { } word)
        {
            int count = threads ?? DefaultThreads(topology, processors);
            return word == "auto" && topology.Cores.Select(static c => c.Node).Distinct().Count() > 1
                ? OverNodes(count, topology)
                : new WorkerPlacement(count, [], "");
        }

        int[] cpus = CpuList.Parse(affinity);
        int[] usable = [.. topology.Cores.SelectMany(static c => c.Cpus).Order()];
        int[] strangers = [.. cpus.Except(usable)];
        if (strangers.Length > 0)
            throw new ArgumentException($"--cpu-affinity: the process may not use {CpuList.Format(strangers)}, only {CpuList.Format(usable)}.");
        if (threads > cpus.Length)
            throw new ArgumentException($"--cpu-affinity: {affinity} has {cpus.Length} CPUs, too few for --threads {threads}.");
        int[][] places = [.. cpus.Take(threads ?? cpus.Length).Select(static cpu => new[] { cpu })];
        return new WorkerPlacement(places.Length, places, $" on CPUs {CpuList.Format([.. places.Select(static p => p[0])])}");
    }

    /// <summary>Whether a setting names CPUs, so that it cannot be honoured where threads cannot be pinned.</summary>
    public static bool IsList(string affinity) => Word(affinity) is null;

    /// <summary>What is wrong with a setting's text; null when it can be read.</summary>
    public static string? Mistake(string affinity)
    {
        if (Word(affinity) is not null) return null;
        try
        {
            return CpuList.Parse(affinity).Length > 0 ? null : "expected auto, none or a list of CPUs such as 0-3,8-11.";
        }
        catch (FormatException e)
        {
            return $"expected auto, none or a list of CPUs such as 0-3,8-11, but {e.Message}.";
        }
    }

    /// <summary>Workers lie over the cores as evenly as they go, in the order of the nodes, so that neighbours are near.</summary>
    private static WorkerPlacement OverNodes(int threads, CpuTopology topology)
    {
        ILookup<int, CpuCore> nodes = topology.Cores.ToLookup(static c => c.Node);
        Dictionary<int, int[]> cpus = nodes.ToDictionary(static n => n.Key, static n => (int[])[.. n.SelectMany(static c => c.Cpus).Order()]);
        int[][] places = [.. Enumerable.Range(0, threads).Select(w => cpus[topology.Cores[(int)((long)w * topology.Cores.Count / threads)].Node])];
        return new WorkerPlacement(threads, places, $" on {nodes.Count} NUMA nodes");
    }

    private static string? Word(string affinity) => affinity.Trim().ToLowerInvariant() is "auto" or "none" ? affinity.Trim().ToLowerInvariant() : null;
}
