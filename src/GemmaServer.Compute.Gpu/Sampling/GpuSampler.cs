namespace GemmaServer.Compute;

/// <summary>
/// From rows of logits to tokens, logprobs and best tokens without sorting. Kernels: <c>adjust.cl</c>, <c>choose.cl</c>.
/// </summary>
/// <remarks>
/// What reads a whole row is cut into chunks of many groups: adjust_logits and draw_chunks. Between them one group a row finds where
/// top-k and top-p end, looking only at blocks whose greatest logit says that they may matter. Its sums are whole numbers, so
/// that no order of adding shows in them.
/// </remarks>
internal sealed class GpuSampler : IDisposable
{
    public const int Group = 256, Chunk = 2048;

    private readonly GpuContext _gpu;
    private readonly GpuSlots _slots;
    private readonly GpuOutputs _outputs;
    private readonly GpuKernel _adjust, _weigh, _cutTopK, _cutNucleus, _draw, _pick, _best;
    private readonly GpuBuffer _adjusted, _maxima, _rawMaxima, _partials, _weights, _bounds, _drawn;
    private readonly int _vocabulary, _chunks;

    public GpuSampler(GpuContext gpu, GpuSlots slots, GpuOutputs outputs, int portion, int maxRows, int vocabularySize)
    {
        (_gpu, _slots, _outputs, _vocabulary) = (gpu, slots, outputs, vocabularySize);
        _chunks = (vocabularySize + Chunk - 1) / Chunk;
        int blocks = (vocabularySize + Group - 1) / Group;
        KernelSource adjust = new("adjust.cl", ["sampling.h", "select.h"], ("GROUP", Group), ("CHUNK", Chunk));
        KernelSource choose = new("choose.cl", ["sampling.h", "select.h"], ("GROUP", Group), ("CHUNK", Chunk), ("BLOCKS", blocks));
        (_adjust, _weigh) = (gpu.Kernel(adjust, "adjust_logits"), gpu.Kernel(adjust, "weigh_chunks"));
        (_cutTopK, _cutNucleus, _draw) = (gpu.Kernel(choose, "cut_top_k"), gpu.Kernel(choose, "cut_nucleus"), gpu.Kernel(choose, "draw_chunks"));
        (_pick, _best) = (gpu.Kernel(choose, "pick_tokens"), gpu.Kernel(choose, "best_tokens"));
        Logits = new GpuTensor(gpu, portion, vocabularySize);
        _adjusted = gpu.Allocate((long)portion * vocabularySize * sizeof(float), "logits");
        _maxima = gpu.Allocate((long)portion * blocks * sizeof(float), "logits");
        _rawMaxima = gpu.Allocate((long)portion * blocks * sizeof(float), "logits");
        _partials = gpu.Allocate((long)portion * _chunks * 2 * sizeof(float), "logits");
        _weights = gpu.Allocate((long)portion * _chunks * sizeof(ulong), "logits");
        _bounds = gpu.Allocate((long)portion * 4 * sizeof(int), "logits");
        _drawn = gpu.Allocate((long)portion * _chunks * 2 * sizeof(float), "logits");
        Results = gpu.Allocate((long)maxRows * StepFacts.ResultInts * sizeof(int), "sampled tokens");
        Tops = gpu.Allocate(4096, "sampled tokens");
    }

    /// <summary>A portion's logits: what is sampled from is put here.</summary>
    public GpuTensor Logits { get; }

    /// <summary>By output row; RESULT_… in sampling.h.</summary>
    public GpuBuffer Results { get; }

    /// <summary>Best tokens: pairs of token and logit.</summary>
    public GpuBuffer Tops { get; private set; }

    /// <summary>Makes room for the step's best tokens.</summary>
    public void Begin()
    {
        long bytes = (long)_outputs.Tops * 2 * sizeof(int);
        if (bytes <= Tops.Bytes) return;
        // The step before may still write into the old one.
        _gpu.Finish();
        _gpu.Free(Tops);
        Tops = _gpu.Allocate(Math.Max(bytes, 2 * Tops.Bytes), "sampled tokens");
    }

    /// <summary>Samples from the rows of <see cref="Logits"/>.</summary>
    /// <param name="start">Output row of the first.</param>
    /// <param name="rows">How many.</param>
    /// <param name="softcap">0 for none.</param>
    /// <param name="keepAll">Whether <see cref="Logits"/> shall hold all rows' capped logits afterwards.</param>
    public void Run(int start, int rows, float softcap, bool keepAll)
    {
        int keep = keepAll ? 1 : 0;
        GpuBuffer logits = Logits.Buffer;
        _adjust.Begin().Add(_outputs.Table).Add(_slots.State).Add(_slots.Counts).Add(_outputs.Masks)
            .Add(logits).Add(_adjusted).Add(_maxima).Add(_rawMaxima).Add(_partials)
            .Add(_vocabulary).Add(_slots.SlotInts).Add(softcap).Add(start).Add(keep).Run(Group, _chunks, rows);
        if (_outputs.AnyWeighed)
        {
            _weigh.Begin().Add(_outputs.Table).Add(logits).Add(_adjusted).Add(_maxima).Add(_weights)
                .Add(_vocabulary).Add(start).Add(keep).Run(Group, _chunks, rows);
        }
        _cutTopK.Begin().Add(_outputs.Table).Add(logits).Add(_adjusted).Add(_maxima).Add(_bounds)
            .Add(_vocabulary).Add(start).Add(keep).Run(Group, rows);
        if (_outputs.AnyNucleus)
        {
            _cutNucleus.Begin().Add(_outputs.Table).Add(logits).Add(_adjusted).Add(_maxima).Add(_weights).Add(_bounds)
                .Add(_vocabulary).Add(start).Add(keep).Run(Group, rows);
        }
        _draw.Begin().Add(_outputs.Table).Add(logits).Add(_adjusted).Add(_maxima).Add(_bounds).Add(_drawn)
            .Add(_vocabulary).Add(start).Add(keep).Run(Group, _chunks, rows);
        _pick.Begin().Add(_outputs.Table).Add(logits).Add(_partials).Add(_drawn).Add(Results)
            .Add(_vocabulary).Add(start).Add(keep).Run(64, rows);
        if (_outputs.Tops > 0)
            _best.Begin().Add(_outputs.Table).Add(logits).Add(_rawMaxima).Add(Results).Add(Tops).Add(_vocabulary).Add(start).Run(Group, rows);
    }

    public void Dispose()
    {
        Logits.Dispose();
        foreach (GpuBuffer buffer in (GpuBuffer[])[_adjusted, _maxima, _rawMaxima, _partials, _weights, _bounds, _drawn, Results, Tops]) _gpu.Free(buffer);
    }
}
