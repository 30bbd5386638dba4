using GemmaServer.Compute;

namespace GemmaServer.Tests;

/// <summary>Which machine is seen, where workers are put on it, and that they are there.</summary>
public sealed class WorkerPlacementTests : IDisposable
{
    private readonly string _system = Directory.CreateTempSubdirectory("topology-").FullName;

    /// <summary>Notes the CPUs that each worker's thread may use.</summary>
    private struct WhereJob(int[][] cpus) : IWorkerJob
    {
        public readonly void Execute(int item, int worker) => cpus[worker] = ThreadAffinity.Get();
    }

    public void Dispose() => Directory.Delete(_system, recursive: true);

    [Theory]
    [InlineData("", "")]
    [InlineData("0", "0")]
    [InlineData("0-3,8-11\n", "0,1,2,3,8,9,10,11")]
    [InlineData(" 5 , 1-2 ", "5,1,2")]
    [InlineData("7-7,8191", "7,8191")]
    public void Lists_are_read(string text, string cpus) => Assert.Equal(cpus, string.Join(',', CpuList.Parse(text)));

    [Theory]
    [InlineData("0,", "'' is neither")]
    [InlineData("a", "'a' is neither")]
    [InlineData("-1", "'-1' is neither")]
    [InlineData("1-2-3", "'1-2-3' is neither")]
    [InlineData("3-1", "3-1 runs backwards")]
    [InlineData("0-2,1", "CPU 1 is there twice")]
    [InlineData("0-8192", "'0-8192' is neither")]
    [InlineData("99999999999", "'99999999999' is neither")]
    public void What_is_no_list_is_told(string text, string expected) =>
        Assert.Contains(expected, Assert.Throws<FormatException>(() => CpuList.Parse(text)).Message);

    [Theory]
    [InlineData("")]
    [InlineData("4")]
    [InlineData("0-3,8-11")]
    [InlineData("5,1-2,9")]
    public void Lists_are_written_as_they_are_read(string text) => Assert.Equal(text, CpuList.Format(CpuList.Parse(text)));

    [Fact]
    public void Nodes_and_siblings_are_read()
    {
        // Two sockets of two cores with two threads each; siblings are numbered behind all cores. Node 2 has memory alone.
        Node(0, "0-1,4-5");
        Node(1, "2-3,6-7");
        Node(2, "");
        File.WriteAllText(Path.Combine(_system, "node", "possible"), "0-2\n");
        Directory.CreateDirectory(Path.Combine(_system, "node", "power"));
        for (int cpu = 0; cpu < 8; cpu++) Siblings(cpu, $"{cpu % 4},{cpu % 4 + 4}");

        Assert.Equal(["0: 0,4", "0: 1,5", "1: 2,6", "1: 3,7"], Shown(CpuTopology.Read(_system, [0, 1, 2, 3, 4, 5, 6, 7])));
        // What the process may not use is not there: half a core is one, half a machine may be one node.
        Assert.Equal(["0: 1", "1: 2,6", "1: 7"], Shown(CpuTopology.Read(_system, [7, 6, 2, 1])));
    }

    [Fact]
    public void A_machine_that_tells_nothing_has_one_node_and_plain_cores()
    {
        Assert.Equal(["0: 0", "0: 1", "0: 9"], Shown(CpuTopology.Read(_system, [9, 0, 1])));
        Siblings(0, "rubbish");
        Siblings(1, "0-1");     // says that it is 0's sibling, but 0 does not agree
        Siblings(9, "3");
        Assert.Equal(["0: 0", "0: 1", "0: 9"], Shown(CpuTopology.Read(_system, [9, 0, 1])));
    }

    [Fact]
    public void This_machine_has_the_cores_that_the_process_may_use()
    {
        int[] cpus = [.. CpuTopology.OfThisMachine().Cores.SelectMany(static c => c.Cpus).Order()];
        if (ThreadAffinity.IsSupported) Assert.Equal(ThreadAffinity.OfProcess(), cpus);
        else Assert.Equal(Environment.ProcessorCount, cpus.Length);
    }

    [Fact]
    public void The_default_is_a_thread_for_each_physical_core_within_the_quota()
    {
        CpuTopology topology = TwoNodes(4, 4, siblings: true);
        Assert.Equal(8, WorkerPlacement.DefaultThreads(topology, processors: 16));
        Assert.Equal(3, WorkerPlacement.DefaultThreads(topology, processors: 3));
        Assert.Equal(1, WorkerPlacement.DefaultThreads(new CpuTopology([]), processors: 0));
        Assert.Equal(8, WorkerPlacement.Make(null, "none", topology, 16).Threads);
        Assert.Equal(5, WorkerPlacement.Make(5, "auto", topology, 16).Threads);
        Assert.Equal(3, WorkerPlacement.Make(null, "1-3", topology, 16).Threads);
    }

    [Theory]
    [InlineData(4, 4, 8, "00001111")]
    [InlineData(4, 4, 2, "01")]
    [InlineData(4, 4, 5, "00011")]
    [InlineData(6, 2, 4, "0001")]
    [InlineData(2, 2, 8, "00001111")]
    [InlineData(4, 4, 1, "0")]
    public void Workers_are_spread_over_nodes_as_their_cores_are(int first, int second, int threads, string nodes)
    {
        CpuTopology topology = TwoNodes(first, second, siblings: true);
        WorkerPlacement placement = WorkerPlacement.Make(threads, "auto", topology, 64);
        Assert.True(placement.Pins);
        for (int worker = 0; worker < threads; worker++)
        {
            int node = nodes[worker] - '0';
            Assert.Equal(topology.Cores.Where(c => c.Node == node).SelectMany(static c => c.Cpus).Order(), placement.CpusOf(worker).ToArray());
        }
        Assert.EndsWith(" on 2 NUMA nodes", placement.ToString());
    }

    [Fact]
    public void Nothing_is_pinned_on_one_node_or_when_nobody_wants_it()
    {
        Assert.False(WorkerPlacement.Make(4, "auto", TwoNodes(4, 0, siblings: false), 4).Pins);
        Assert.False(WorkerPlacement.Make(4, "none", TwoNodes(4, 4, siblings: false), 4).Pins);
        Assert.Equal("4 threads", WorkerPlacement.Make(4, "None", TwoNodes(4, 4, siblings: false), 4).ToString());
        Assert.Equal("1 thread", WorkerPlacement.Free(1).ToString());
        Assert.True(WorkerPlacement.Free(1).CpusOf(0).IsEmpty);
    }

    [Fact]
    public void A_list_gives_each_worker_a_cpu_in_its_order()
    {
        WorkerPlacement placement = WorkerPlacement.Make(3, "5,0-3", TwoNodes(4, 4, siblings: false), 8);
        Assert.Equal([5], placement.CpusOf(0).ToArray());
        Assert.Equal([0], placement.CpusOf(1).ToArray());
        Assert.Equal([1], placement.CpusOf(2).ToArray());
        Assert.Equal("3 threads on CPUs 5,0-1", placement.ToString());
    }

    [Theory]
    [InlineData(null, "0-1,9", "the process may not use 9, only 0-7")]
    [InlineData(4, "0-2", "0-2 has 3 CPUs, too few for --threads 4")]
    [InlineData(null, "most", "expected auto, none or a list of CPUs")]
    [InlineData(null, "", "expected auto, none or a list of CPUs")]
    [InlineData(null, "2-1", "2-1 runs backwards")]
    public void What_cannot_be_is_told(int? threads, string affinity, string expected)
    {
        ArgumentException e = Assert.Throws<ArgumentException>(() => WorkerPlacement.Make(threads, affinity, TwoNodes(4, 4, siblings: false), 8));
        Assert.StartsWith("--cpu-affinity: ", e.Message);
        Assert.Contains(expected, e.Message);
    }

    [Fact]
    public void Workers_are_where_they_were_put_and_the_callers_thread_for_a_step_or_a_run_by_owners()
    {
        if (!ThreadAffinity.IsSupported) return;
        int[] cpus = ThreadAffinity.OfProcess();
        WorkerPlacement placement = WorkerPlacement.Make(null, CpuList.Format([.. cpus.Reverse()]), CpuTopology.OfThisMachine(), cpus.Length);
        using WorkerPool pool = new(placement);
        int[][] expected = [.. cpus.Reverse().Select(static cpu => new[] { cpu })];
        Assert.Equal(cpus.Length, pool.Threads);
        OnThread(() =>
        {
            int[][] seen = new int[cpus.Length][];
            WhereJob job = new(seen);
            pool.RunByOwner(ref job, cpus.Length);
            Assert.Equal(expected, seen);
            Assert.Equal(cpus, ThreadAffinity.Get());

            pool.BeginStep();
            Assert.Equal(expected[0], ThreadAffinity.Get());
            pool.EndStep();
            Assert.Equal(expected[0], ThreadAffinity.Get());

            // The engine's thread starts threads of the runtime's pool at times; these have to stay free.
            int[] child = [];
            Thread other = new(() => child = ThreadAffinity.Get());
            other.Start();
            other.Join();
            Assert.Equal(cpus, child);
        });
    }

    [Fact]
    public void Workers_of_a_node_may_use_all_of_its_cpus()
    {
        if (!ThreadAffinity.IsSupported) return;
        int[] cpus = ThreadAffinity.OfProcess();
        CpuTopology topology = new([.. cpus.Select((cpu, i) => new CpuCore(2 * i / cpus.Length, [cpu]))]);
        WorkerPlacement placement = WorkerPlacement.Make(4, "auto", topology, cpus.Length);
        Assert.Equal(topology.Cores.Select(static c => c.Node).Distinct().Count() > 1, placement.Pins);
        using WorkerPool pool = new(placement);
        int[][] seen = new int[4][];
        WhereJob job = new(seen);
        pool.RunByOwner(ref job, 4);
        int[] NodeOf(int cpu) => [.. topology.Cores.Where(c => c.Node == topology.Cores[cpu].Node).SelectMany(static c => c.Cpus)];
        Assert.Equal([NodeOf(0), NodeOf(0), NodeOf(cpus.Length / 2), NodeOf(cpus.Length / 2)], seen);
        Assert.Equal(cpus, ThreadAffinity.Get());
    }

    [Fact]
    public void A_place_that_the_system_refuses_is_an_error_at_once()
    {
        if (!ThreadAffinity.IsSupported) return;
        CpuTopology dreamt = new([new CpuCore(0, [ThreadAffinity.OfProcess()[0]]), new CpuCore(0, [CpuList.Limit - 1])]);
        WorkerPlacement placement = WorkerPlacement.Make(2, $"{ThreadAffinity.OfProcess()[0]},{CpuList.Limit - 1}", dreamt, 2);
        Assert.Contains("cannot be pinned to CPUs 8191", Assert.Throws<InvalidOperationException>(() => new WorkerPool(placement)).Message);
    }

    private void Node(int node, string cpus) => Write(Path.Combine("node", $"node{node}", "cpulist"), cpus);

    private void Siblings(int cpu, string list) => Write(Path.Combine("cpu", $"cpu{cpu}", "topology", "thread_siblings_list"), list);

    private void Write(string path, string text)
    {
        string file = Path.Combine(_system, path);
        Directory.CreateDirectory(Path.GetDirectoryName(file)!);
        File.WriteAllText(file, text + "\n");
    }

    private static string[] Shown(CpuTopology topology) => [.. topology.Cores.Select(static c => $"{c.Node}: {string.Join(',', c.Cpus)}")];

    /// <summary>Cores 0 …, then their siblings.</summary>
    private static CpuTopology TwoNodes(int first, int second, bool siblings) => new([.. Enumerable.Range(0, first + second).Select(
        c => new CpuCore(c < first ? 0 : 1, siblings ? [c, c + first + second] : [c]))]);

    private static void OnThread(Action action)
    {
        Exception? failure = null;
        Thread thread = new(() =>
        {
            try
            {
                action();
            }
            catch (Exception e)
            {
                failure = e;
            }
        });
        thread.Start();
        thread.Join();
        if (failure is not null) System.Runtime.ExceptionServices.ExceptionDispatchInfo.Throw(failure);
    }
}
