using System.Runtime.InteropServices;
using GemmaServer.Compute;
using GemmaServer.Model;

namespace GemmaServer;

/// <summary>
/// A checkpoint of random weights with a published model's true dimensions, for speed work: it computes as much as the real one
/// and says nothing. Norms keep activations finite, and the scales are such that attention and logits are neither flat nor peaked.
/// </summary>
internal sealed class RandomCheckpointFile
{
    /// <summary>Random bytes that a tensor is put together from; pieces start anywhere in the first half.</summary>
    private const int PoolBytes = 4 << 20;

    private readonly PublishedSize _size;
    private readonly string _type;

    /// <param name="size">Where the widths are from.</param>
    /// <param name="config">The shape, maybe cut down.</param>
    /// <param name="type">One of <see cref="TensorMixture.Names"/>.</param>
    public RandomCheckpointFile(PublishedSize size, ModelConfig config, string type)
        : this(size, config, type, new TensorMixture(type, Expected(config).Select(static t => t.Name)).Next)
    {
    }

    /// <param name="size">Where the widths are from.</param>
    /// <param name="config">The shape, maybe cut down.</param>
    /// <param name="name">What the mixture of types is called.</param>
    /// <param name="typeOf">A tensor's type, by its name and shape; asked in the order of the file.</param>
    internal RandomCheckpointFile(PublishedSize size, ModelConfig config, string name, Func<string, long[], TensorType> typeOf)
    {
        (_size, Config, _type) = (size, config, name);
        Tensors = [.. Expected(config).Select(t => new NewTensor(t.Name, t.Shape, typeOf(t.Name, t.Shape)))];
    }

    public ModelConfig Config { get; }

    /// <summary>In the order of the file.</summary>
    public IReadOnlyList<NewTensor> Tensors { get; }

    /// <summary>Bytes of all tensors.</summary>
    public long DataBytes => Tensors.Sum(static t => GgufHeader.Aligned(t.Bytes));

    /// <summary>Writes the file from front to back; only a few megabytes are in memory at a time.</summary>
    /// <param name="path">An existing file is replaced.</param>
    /// <param name="seed">The same seed gives the same bytes.</param>
    /// <param name="written">Told the bytes of data so far.</param>
    /// <param name="cancellation">Leaves an incomplete file.</param>
    /// <exception cref="IOException">The disk is full, or the path cannot be written.</exception>
    public void Write(string path, ulong seed, Action<long> written, CancellationToken cancellation)
    {
        RandomBits random = new(seed);
        Dictionary<(TensorType Type, double Deviation), byte[]> pools = [];
        using FileStream file = new(path, FileMode.Create, FileAccess.Write, FileShare.None, bufferSize: 1 << 16);
        Header().WriteTo(file, Tensors);
        long start = file.Position;
        foreach (NewTensor tensor in Tensors)
        {
            if (Constant(tensor) is { } values)
            {
                file.Write(MemoryMarshal.AsBytes<float>(values));
            }
            else
            {
                (TensorType, double) key = (tensor.Type, Deviation(tensor.Name, (int)tensor.Shape[^1]));
                if (!pools.TryGetValue(key, out byte[]? pool)) pools[key] = pool = RandomBlocks.Make(key.Item1, key.Item2, random, PoolBytes);
                Write(file, tensor, pool, random, cancellation, () => written(file.Position - start));
            }
            GgufHeader.Pad(file);
        }
    }

    /// <summary>
    /// The checkpoint in memory without its matrices, for devices that make these up: they lie over each other at addresses that
    /// nobody writes or reads, which therefore take no memory.
    /// </summary>
    public unsafe Checkpoint OpenWithoutMatrices()
    {
        long end = Tensors.Max(t => Constant(t) is null ? GgufHeader.Aligned(t.Bytes) : 0);
        long[] offsets = new long[Tensors.Count];
        for (int i = 0; i < offsets.Length; i++)
        {
            if (Constant(Tensors[i]) is null) continue;
            offsets[i] = end;
            end += GgufHeader.Aligned(Tensors[i].Bytes);
        }
        using MemoryStream header = new();
        Header().WriteTo(header, Tensors, offsets);

        NativeBuffer memory = new(header.Length + end);
        header.GetBuffer().AsSpan(0, (int)header.Length).CopyTo(memory.At(0, (int)header.Length));
        for (int i = 0; i < offsets.Length; i++)
            if (Constant(Tensors[i]) is { } values) MemoryMarshal.AsBytes<float>(values).CopyTo(memory.At(header.Length + offsets[i], values.Length * sizeof(float)));
        return Checkpoint.OpenGguf((nint)memory.Pointer, header.Length + end, $"random-{_size.Name}-{_type}", memory, mayOverlap: true);
    }

    /// <summary>Memory that the runtime does not move.</summary>
    private sealed unsafe class NativeBuffer(long bytes) : IDisposable
    {
        public byte* Pointer { get; private set; } = (byte*)NativeMemory.AlignedAlloc((nuint)bytes, 64);

        public Span<byte> At(long offset, int count) => new(Pointer + offset, count);

        public void Dispose()
        {
            NativeMemory.AlignedFree(Pointer);
            Pointer = null;
        }
    }

    /// <summary>Pieces of the pool, each from another place, so that far rows are not equal by the dozen.</summary>
    private static void Write(FileStream file, in NewTensor tensor, byte[] pool, RandomBits random, CancellationToken cancellation, Action written)
    {
        int block = TensorTypes.BlockBytes(tensor.Type);
        for (long left = tensor.Bytes; left > 0;)
        {
            cancellation.ThrowIfCancellationRequested();
            int at = random.Below(pool.Length / block / 2) * block;
            int count = (int)Math.Min(left, pool.Length - at);
            file.Write(pool, at, count);
            left -= count;
            written();
        }
    }

    /// <summary>The table that the loader checks against, and what published files hold besides.</summary>
    private static IEnumerable<ExpectedTensor> Expected(ModelConfig config)
    {
        foreach (ExpectedTensor tensor in ExpectedTensors.For(config, static _ => false)) yield return tensor;
        foreach (LayerConfig layer in config.Layers.Where(static l => !l.OwnsKv))
        {
            long kv = (long)layer.KvHeadCount * layer.HeadDim;
            yield return new($"blk.{layer.Index}.attn_k.weight", [kv, config.HiddenSize]);
            yield return new($"blk.{layer.Index}.attn_k_norm.weight", [layer.HeadDim]);
            if (!layer.ValueIsKey) yield return new($"blk.{layer.Index}.attn_v.weight", [kv, config.HiddenSize]);
        }
        yield return new("rope_freqs.weight", [config.GlobalRopeDivisors.Count]);
    }

    private float[]? Constant(in NewTensor tensor)
    {
        if (tensor.Name == "rope_freqs.weight") return [.. Config.GlobalRopeDivisors.Select(static d => float.IsInfinity(d) ? 1e30f : d)];
        if (tensor.Shape.Length > 1) return null;
        float[] values = new float[tensor.Elements];
        // Attention has no factor of its own: with 1 here a score would spread by √d, and one key would take all.
        bool isHead = tensor.Name.EndsWith("attn_q_norm.weight", StringComparison.Ordinal) || tensor.Name.EndsWith("attn_k_norm.weight", StringComparison.Ordinal);
        Array.Fill(values, isHead ? MathF.Pow(tensor.Elements, -0.25f) : 1f);
        return values;
    }

    /// <summary>Standard deviation of a matrix: 1/√width keeps the size of what goes through; the router divides its input by that once more.</summary>
    public double Deviation(string tensor, int columns) => tensor switch
    {
        "per_layer_token_embd.weight" => 1 / Math.Sqrt(Config.PerLayerInputSize),
        _ when tensor.EndsWith("ffn_gate_inp.weight", StringComparison.Ordinal) => 1,
        _ => 1 / Math.Sqrt(columns),
    };

    private GgufHeader Header()
    {
        GgufHeader header = new();
        header.Text("general.architecture", "gemma4");
        header.Text("general.type", "model");
        header.Text("general.name", $"Random Gemma 4 {_size.Name}, {Config.LayerCount} layers, {_type}");
        header.UInt("general.alignment", GgufHeader.Alignment);
        header.UInt("general.quantization_version", 2);
        header.Int("general.sampling.top_k", 64);
        header.Float("general.sampling.top_p", 0.95f);
        header.Float("general.sampling.temp", 1f);
        Shape(header);
        Vocabulary(header);
        return header;
    }

    private void Shape(GgufHeader header)
    {
        void UInt(string key, int value) => header.UInt("gemma4." + key, value);
        void PerLayer(string key, Func<LayerConfig, int> of)
        {
            int[] values = [.. Config.Layers.Select(of)];
            if (values.Distinct().Count() == 1) UInt(key, values[0]);
            else header.Ints("gemma4." + key, values);
        }

        UInt("block_count", Config.LayerCount);
        UInt("context_length", Config.ContextLength);
        UInt("embedding_length", Config.HiddenSize);
        PerLayer("feed_forward_length", static l => l.FeedForwardWidth);
        UInt("attention.head_count", Config.HeadCount);
        PerLayer("attention.head_count_kv", static l => l.KvHeadCount);
        foreach (string key in (string[])["attention.key_length", "attention.value_length", "rope.dimension_count"])
        {
            UInt(key, PublishedSize.HeadDimGlobal);
            UInt(key + "_swa", PublishedSize.HeadDimSliding);
        }
        UInt("attention.sliding_window", Config.SlidingWindow);
        header.Flags("gemma4.attention.sliding_window_pattern", [.. Config.Layers.Select(static l => l.IsSliding)]);
        UInt("attention.shared_kv_layers", Config.SharedKvLayers);
        header.Float("gemma4.attention.layer_norm_rms_epsilon", Config.RmsEpsilon);
        header.Float("gemma4.rope.freq_base", Config.RopeBaseGlobal);
        header.Float("gemma4.rope.freq_base_swa", Config.RopeBaseSliding);
        header.Float("gemma4.final_logit_softcapping", Config.LogitSoftcap);
        UInt("embedding_length_per_layer_input", Config.PerLayerInputSize);
        if (Config.ExpertCount == 0) return;
        UInt("expert_count", Config.ExpertCount);
        UInt("expert_used_count", Config.ExpertsUsed);
        UInt("expert_feed_forward_length", Config.ExpertWidth);
    }

    private void Vocabulary(GgufHeader header)
    {
        RandomVocabulary vocabulary = new(Config.VocabularySize);
        header.Text("tokenizer.ggml.model", "gemma4");
        header.Texts("tokenizer.ggml.tokens", vocabulary.Pieces);
        header.Floats("tokenizer.ggml.scores", new float[vocabulary.Pieces.Count]);
        header.Ints("tokenizer.ggml.token_type", vocabulary.Types);
        header.Texts("tokenizer.ggml.merges", vocabulary.Merges);
        header.UInt("tokenizer.ggml.bos_token_id", 2);
        header.UInt("tokenizer.ggml.eos_token_id", 106);
        header.UInt("tokenizer.ggml.unknown_token_id", 3);
        header.UInt("tokenizer.ggml.padding_token_id", 0);
        header.UInt("tokenizer.ggml.mask_token_id", 4);
        header.Flag("tokenizer.ggml.add_bos_token", true);
        header.Flag("tokenizer.ggml.add_space_prefix", false);
    }
}
