using GemmaServer.Compute;

namespace GemmaServer.Tests;

/// <summary>
/// Weights that a GPU makes up itself, so that a model of any size needs neither its bytes on the host nor their way over the bus.
/// Every run of a tensor's bytes, a block or a few floats, is one of a pool in the file's format, chosen by the seed, the tensor and the
/// run's place; from there on they go the way of real ones.
/// </summary>
/// <param name="deviation">Standard deviation of a tensor's values, by its name and columns.</param>
/// <param name="seed">The same seed gives the same weights.</param>
internal sealed unsafe class RandomWeights(Func<string, int, double> deviation, ulong seed)
{
    private const int PoolBytes = 4 << 20, Lanes = 256, LanesOfRun = 8, LeastRunBytes = 32;

    // Eight lanes a run of RUN_BYTES.
    private const string Source = """
        // Every bit of the result depends on every bit of x. Source: C. Wellons, "Prospecting for hash functions" (lowbias32).
        INLINE uint mixed(uint x)
        {
            x ^= x >> 16;
            x *= 0x7feb352du;
            x ^= x >> 15;
            x *= 0x846ca68bu;
            return x ^ (x >> 16);
        }

        KERNEL(256) random_runs(GLOBAL const uchar* RESTRICT pool, const int poolRuns, const int salt, GLOBAL uchar* RESTRICT to, const int atUnits, const int atRest, const int count)
        {
            const int run = GROUP_X * (256 / 8) + LANE / 8, left = count - run * RUN_BYTES;
            const uint chosen = HIGH_HALF_OF_PRODUCT(mixed(mixed((uint)run) ^ (uint)salt), (uint)poolRuns);
            GLOBAL const uchar* from = pool + (size_t)chosen * RUN_BYTES;
            GLOBAL uchar* into = to + (size_t)atUnits * 4096 + atRest + (size_t)run * RUN_BYTES;
            for (int i = LANE % 8; i < (left < RUN_BYTES ? left : RUN_BYTES); i += 8) into[i] = from[i];
        }
        """;

    private readonly Dictionary<(TensorType Type, double Deviation), GpuBuffer> _pools = [];

    /// <summary>Options of a device whose matrices are made up.</summary>
    public GpuOptions On(GpuOptions options) => options with { Fill = Fill };

    private void Fill(GpuContext gpu, in TensorSource source, long first, long bytes, GpuBuffer to, long at)
    {
        int run = WeightRows.IsQuantised(source.Type) ? TensorTypes.BlockBytes(source.Type) : LeastRunBytes, runs = (int)((bytes + run - 1) / run);
        GpuBuffer pool = Pool(gpu, source.Type, deviation(source.Name, source.Columns));
        gpu.Kernel(KernelSource.FromText("random_runs.cl", $"#define RUN_BYTES {run}\n{Source}"), "random_runs").Begin()
            .Add(pool).Add((int)(pool.Bytes / run)).Add(Salt(source.Name, first)).Add(to).Add((int)(at / 4096)).Add((int)(at % 4096)).Add((int)bytes)
            .Run(Lanes, (runs + Lanes / LanesOfRun - 1) / (Lanes / LanesOfRun));
    }

    /// <summary>The pool lives as long as the context.</summary>
    private GpuBuffer Pool(GpuContext gpu, TensorType type, double spread)
    {
        if (_pools.TryGetValue((type, spread), out GpuBuffer pool)) return pool;
        byte[] bytes = RandomBlocks.Make(type, spread, new RandomBits(seed + (ulong)_pools.Count), PoolBytes);
        pool = gpu.Allocate(bytes.Length, "random weights");
        fixed (byte* p = bytes) gpu.Upload(pool, 0, p, bytes.Length);
        return _pools[(type, spread)] = pool;
    }

    private int Salt(string name, long first)
    {
        ulong hash = seed;
        foreach (char c in name) hash = new RandomBits(hash ^ c).Next();
        return (int)new RandomBits(hash ^ (ulong)first).Next();
    }
}
