using GemmaServer.Compute;

namespace GemmaServer.Benchmarks;

/// <summary>A device and what its operations need around them: steps of so many rows, filled tensors, weights. All through the device contract.</summary>
internal sealed class KernelStep : IDisposable
{
    /// <summary>Rows of the biggest step.</summary>
    public const int MaxRows = 512;

    /// <summary>Sequences of a step that decodes.</summary>
    public const int MaxSequences = 16;

    private readonly StepBatch _batch = new(MaxRows, MaxSequences);
    private readonly List<IDisposable> _owned = [];

    public KernelStep(int threads, ActivationType activations, int vocabulary, params ReadOnlySpan<AttentionPlan> readers)
    {
        Device = new CpuDevice(threads, activations);
        Device.AddRope(new float[HeadDims / 2]);
        Device.Reserve(MaxRows, MaxSequences, vocabulary, readers);
    }

    private const int HeadDims = 512;

    public CpuDevice Device { get; }

    /// <summary>One sequence of so many rows after <paramref name="context"/> others.</summary>
    public void BeginChunk(int rows, int context, BlockTable blocks, bool sample = false)
    {
        _batch.Clear();
        _batch.Add(new SequenceSlice { ContextLength = context, Blocks = blocks, PromptLogprobs = -1, Sample = sample }, Tokens(rows));
        Device.BeginStep(_batch);
    }

    /// <summary>A row each of so many sequences, all with the same pages.</summary>
    public void BeginDecode(int sequences, int context, BlockTable blocks, bool sample = false)
    {
        _batch.Clear();
        for (int s = 0; s < sequences; s++)
            _batch.Add(new SequenceSlice { Slot = s, ContextLength = context, Blocks = blocks, PromptLogprobs = -1, Sample = sample }, [s]);
        Device.BeginStep(_batch);
    }

    /// <summary>A tensor of random rows.</summary>
    public DeviceTensor Random(int columns)
    {
        DeviceTensor tensor = Own(Device.CreateTensor(MaxRows, columns));
        using HugeBuffer table = new((long)MaxRows * columns * sizeof(float));
        Fill(table, TensorType.F32);
        using DeviceMatrix rows = Device.LoadMatrix(Source(table, 0, TensorType.F32, MaxRows, columns));
        BeginChunk(MaxRows, 0, new BlockTable(1));
        Device.Embed(rows, 1f, tensor);
        return tensor;
    }

    public DeviceTensor Empty(int columns) => Own(Device.CreateTensor(MaxRows, columns));

    /// <summary>A vector of ones.</summary>
    public unsafe DeviceVector Ones(int length)
    {
        float[] ones = new float[length];
        Array.Fill(ones, 1f);
        fixed (float* data = ones) return Own(Device.LoadVector(new TensorSource("ones", TensorType.F32, 1, length, (nint)data, length * sizeof(float))));
    }

    /// <summary>Random weights of a type, of unit spread.</summary>
    public static void Fill(HugeBuffer buffer, TensorType type)
    {
        byte[] pool = RandomBlocks.Make(type, 1, new RandomBits(3), 1 << 20);
        for (long at = 0; at < buffer.Bytes; at += pool.Length)
        {
            int count = (int)Math.Min(pool.Length, buffer.Bytes - at);
            pool.AsSpan(0, count).CopyTo(buffer.Span(at, count));
        }
    }

    /// <summary>A matrix that lies in a buffer.</summary>
    public static unsafe TensorSource Source(HugeBuffer buffer, long offset, TensorType type, int rows, int columns) =>
        new("weights", type, rows, columns, (nint)(buffer.Pointer + offset), MatrixBytes(type, rows, columns));

    public static long MatrixBytes(TensorType type, int rows, int columns) => (long)rows * columns / TensorTypes.BlockLength(type) * TensorTypes.BlockBytes(type);

    public T Own<T>(T thing) where T : IDisposable
    {
        _owned.Add(thing);
        return thing;
    }

    public void Dispose()
    {
        foreach (IDisposable thing in _owned) thing.Dispose();
        Device.Dispose();
    }

    private static int[] Tokens(int count) => [.. Enumerable.Range(0, count)];
}
