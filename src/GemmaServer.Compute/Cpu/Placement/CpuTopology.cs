namespace GemmaServer.Compute;

/// <summary>A physical core: the NUMA node it is on, and its CPUs that the process may use (several with SMT).</summary>
public sealed record CpuCore(int Node, int[] Cpus);

/// <summary>The cores that the process may use, node by node.</summary>
/// <param name="Cores">In the order of their nodes.</param>
public sealed record CpuTopology(IReadOnlyList<CpuCore> Cores)
{
    /// <summary>This machine, as far as the process may use it.</summary>
    public static CpuTopology OfThisMachine() => ThreadAffinity.IsSupported
        ? Read("/sys/devices/system", ThreadAffinity.OfProcess())
        : new CpuTopology([.. Enumerable.Range(0, Environment.ProcessorCount).Select(static cpu => new CpuCore(0, [cpu]))]);

    /// <summary>Reads nodes and SMT siblings; what is missing or unreadable counts as one node, and as cores of one CPU.</summary>
    /// <remarks>
    /// Source: Documentation/ABI/stable/sysfs-devices-node (<c>node/node*/cpulist</c>) and Documentation/admin-guide/cputopology.rst
    /// (<c>cpu/cpu*/topology/thread_siblings_list</c>) of the Linux kernel. In a container both show the whole machine.
    /// </remarks>
    /// <param name="system">Folder with <c>cpu</c> and <c>node</c>.</param>
    /// <param name="usable">CPUs that the process may use.</param>
    public static CpuTopology Read(string system, IReadOnlyList<int> usable)
    {
        Dictionary<int, int> nodes = ReadNodes(Path.Combine(system, "node"));
        Dictionary<string, CpuCore> cores = [];
        foreach (int cpu in usable.Order())
        {
            int[] siblings = ReadList(Path.Combine(system, "cpu", $"cpu{cpu}", "topology", "thread_siblings_list"));
            string core = siblings.Contains(cpu) ? CpuList.Format([.. siblings.Order()]) : $"{cpu}";
            int node = nodes.GetValueOrDefault(cpu);
            cores[core] = cores.TryGetValue(core, out CpuCore? known) ? known with { Cpus = [.. known.Cpus, cpu] } : new CpuCore(node, [cpu]);
        }
        return new CpuTopology([.. cores.Values.OrderBy(static c => c.Node).ThenBy(static c => c.Cpus[0])]);
    }

    /// <summary>CPU → node. Nodes of memory alone have no CPUs.</summary>
    private static Dictionary<int, int> ReadNodes(string folder)
    {
        Dictionary<int, int> nodes = [];
        if (!Directory.Exists(folder)) return nodes;
        foreach (string path in Directory.EnumerateDirectories(folder, "node*"))
        {
            if (!int.TryParse(Path.GetFileName(path).AsSpan("node".Length), out int node)) continue;
            foreach (int cpu in ReadList(Path.Combine(path, "cpulist"))) nodes[cpu] = node;
        }
        return nodes;
    }

    private static int[] ReadList(string path)
    {
        try
        {
            return CpuList.Parse(File.ReadAllText(path));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException)
        {
            return [];
        }
    }
}
