namespace GemmaServer.Compute;

/// <summary>
/// Who computes what in a mixture of experts, decided on the device: the host never sees the choice. Kernels: <c>routing.cl</c>.
/// <code>
/// chosen [rows · used]  the expert of a place; row r's places are r · used … in ascending order of experts
/// shares [rows · used]  its weight in the row's sum
/// places [rows · used]  all places, sorted by expert, then by row
/// tiles  [n][4]         runs of places of one expert: expert, first in places, count (0: none), –
/// </code>
/// </summary>
internal sealed class GpuRouting : IDisposable
{
    private const int Group = 256, MaxExperts = 1024, MaxUsed = 64;

    private readonly GpuContext _gpu;
    private readonly GpuStep _step;
    private readonly GpuKernel _top, _group, _sum;

    public GpuRouting(GpuContext gpu, GpuStep step)
    {
        (_gpu, _step) = (gpu, step);
        KernelSource source = new("routing.cl", [], ("GROUP", Group), ("MAX_EXPERTS", MaxExperts), ("MAX_USED", MaxUsed));
        (_top, _group, _sum) = (gpu.Kernel(source, "top_experts"), gpu.Kernel(source, "group_by_expert"), gpu.Kernel(source, "sum_places"));
    }

    /// <summary>Experts to choose from.</summary>
    public int Experts { get; private set; }

    /// <summary>Experts of a row.</summary>
    public int Used { get; private set; }

    public GpuBuffer Chosen { get; private set; }

    public GpuBuffer Shares { get; private set; }

    public GpuBuffer Places { get; private set; }

    public GpuBuffer Tiles { get; private set; }

    /// <summary>Places to launch for: those of the step's grid.</summary>
    public int PlaceGrid => _step.Grid * Used;

    /// <summary>Makes room; a second call must ask for the same.</summary>
    /// <param name="maxRows">Rows in a step.</param>
    /// <param name="experts">Experts to choose from.</param>
    /// <param name="used">Experts of a row.</param>
    /// <param name="smallestTile">Fewest places in a run that <see cref="GroupByExpert"/> will be asked for.</param>
    public void Reserve(int maxRows, int experts, int used, int smallestTile)
    {
        if (!Chosen.IsNone) return;
        if (experts > MaxExperts || used > MaxUsed || used > experts)
            throw new GpuException($"{used} of {experts} experts: the device chooses at most {MaxUsed} of {MaxExperts}.");
        (Experts, Used) = (experts, used);
        long places = (long)maxRows * used;
        Chosen = _gpu.Allocate(places * sizeof(int), "experts");
        Shares = _gpu.Allocate(places * sizeof(float), "experts");
        Places = _gpu.Allocate(places * sizeof(int), "experts");
        Tiles = _gpu.Allocate((experts + places / smallestTile) * 4 * sizeof(int), "experts");
    }

    /// <summary>The best experts of each row and their shares, by score.</summary>
    /// <param name="scores"><c>[rows, experts]</c>.</param>
    /// <param name="expertScale"><c>[experts]</c>, after the renormalisation.</param>
    public void Choose(GpuTensor scores, GpuVector expertScale) => _top.Begin()
        .Add(_step.Header).Add(scores.Buffer).Add(expertScale.Buffer).Add(Chosen).Add(Shares).Add(Experts).Add(Used)
        .Run(Group, _step.Grid);

    /// <summary>Sorts the places by expert and cuts them into runs of at most <paramref name="tileRows"/>; returns how many runs to launch for.</summary>
    public int GroupByExpert(int tileRows)
    {
        int tiles = TileGrid(tileRows);
        _group.Begin().Add(_step.Header).Add(Chosen).Add(Places).Add(Tiles).Add(Experts).Add(Used).Add(tileRows).Add(tiles).Run(Group, Experts);
        return tiles;
    }

    /// <summary>y = each row's outputs times their shares.</summary>
    /// <param name="outputs"><c>[rows · used, y.Columns]</c>, by place.</param>
    /// <param name="y"><c>[rows, columns]</c>.</param>
    public void Sum(GpuBuffer outputs, GpuTensor y) => _sum.Begin()
        .Add(_step.Header).Add(outputs).Add(Shares).Add(y.Buffer).Add(y.Columns).Add(Used)
        .Run(Group, _step.Grid, (y.Columns + Group - 1) / Group);

    public void Dispose()
    {
        if (Chosen.IsNone) return;
        foreach (GpuBuffer buffer in (GpuBuffer[])[Chosen, Shares, Places, Tiles]) _gpu.Free(buffer);
    }

    // Every expert that has places may have one run that is not full.
    private int TileGrid(int tileRows) => Math.Min(Experts, PlaceGrid) + PlaceGrid / tileRows;
}
