using GemmaServer.Compute;

namespace GemmaServer.Model;

/// <summary>What a checkpoint is asked to be.</summary>
public enum CheckpointKind
{
    /// <summary>A whole model.</summary>
    Model,

    /// <summary>A drafter (MTP assistant), which works beside a model.</summary>
    Drafter,

    /// <summary>Either.</summary>
    Any,
}

/// <summary>
/// An opened and checked checkpoint: configuration, tensors as they lie in the mapped files, tokenizer source and defaults.
/// Everything that could make the model fail later was refused when it was opened.
/// </summary>
public sealed class Checkpoint : IDisposable
{
    private readonly IDisposable[] _owners;

    internal Checkpoint(IDisposable[] owners) => _owners = owners;

    /// <summary>File or folder it was opened from.</summary>
    public required string Path { get; init; }

    /// <summary>"GGUF v3" or "safetensors".</summary>
    public required string Format { get; init; }

    /// <summary>Hyper-parameters, resolved and checked.</summary>
    public required ModelConfig Config { get; init; }

    /// <summary>Not null when this is a drafter; <see cref="Config"/> then describes its own layers.</summary>
    public DrafterConfig? Drafter { get; init; }

    /// <summary>
    /// The tensors the model uses, under GGUF names (<c>blk.N.attn_q.weight</c>) whatever the format. Matrices are
    /// <c>[Rows = out, Columns = in]</c>, norms and scales have one row, experts are stacked: <c>Rows = experts · out</c>.
    /// Experts' gate and up lie either in <c>ffn_gate_up_exps</c> (per expert: gate rows, then up rows) or in <c>ffn_gate_exps</c>
    /// and <c>ffn_up_exps</c>. <c>output.weight</c> is there only when the output head differs from <c>token_embd.weight</c>.
    /// A drafter has <c>nextn.pre_projection</c>, <c>nextn.post_projection</c> and, with clusters, <c>masked_embd_centroids</c> beside its layers.
    /// Left out: K/V of layers that borrow, and <c>rope_freqs</c> (see <see cref="ModelConfig.GlobalRopeDivisors"/>).
    /// Addresses may be unaligned in safetensors. They are valid until <see cref="Dispose"/>.
    /// </summary>
    public required IReadOnlyDictionary<string, TensorSource> Tensors { get; init; }

    /// <summary>Every text tensor the files hold, used or not, for reports.</summary>
    public required IReadOnlyList<TensorSource> StoredTensors { get; init; }

    /// <summary>Recommended sampling settings and special ids.</summary>
    public required GenerationDefaults Generation { get; init; }

    /// <summary>Where the tokenizer is.</summary>
    public required VocabularySource Vocabulary { get; init; }

    /// <summary>Jinja text, as the checkpoint carries it; null when it has none.</summary>
    public required string? ChatTemplate { get; init; }

    /// <summary>What was ignored or assumed, one sentence each, for the log.</summary>
    public required IReadOnlyList<string> Notes { get; init; }

    /// <summary>Opens a checkpoint.</summary>
    /// <param name="path">A .gguf file, the first part of a split set, or a folder in Hugging Face's layout.</param>
    /// <param name="kind">What it must be.</param>
    /// <exception cref="CheckpointException">The checkpoint cannot be served; the message says why.</exception>
    public static Checkpoint Open(string path, CheckpointKind kind = CheckpointKind.Model)
    {
        try
        {
            if (Directory.Exists(path)) return OpenFolder(path, kind);
            if (!File.Exists(path)) throw new CheckpointException(path, "", "there is no such file or folder");
            return System.IO.Path.GetExtension(path).ToLowerInvariant() is ".safetensors" or ".json"
                ? HuggingFaceCheckpoint.Open(System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(path))!, kind)
                : GgufCheckpoint.Open(path, kind);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CheckpointException(path, "", $"the file cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Opens a GGUF file that already lies in memory (the embedded demo model).</summary>
    /// <param name="data">First byte; must stay in place until the checkpoint is disposed.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="name">Stands for the file in messages.</param>
    /// <param name="owner">Disposed with the checkpoint; not when opening fails.</param>
    /// <param name="mayOverlap">Whether tensors may lie over each other: made so on purpose, where only the work is looked at.</param>
    /// <exception cref="CheckpointException">The checkpoint cannot be served; the message says why.</exception>
    public static Checkpoint OpenGguf(nint data, long length, string name, IDisposable? owner, bool mayOverlap = false)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        return GgufCheckpoint.Open(data, length, name, owner, mayOverlap);
    }

    /// <summary>Lets the files' pages go that were read to load the weights; the addresses stay good.</summary>
    public void ReleasePages()
    {
        foreach (IDisposable owner in _owners) (owner as MappedFile)?.ReleasePages();
    }

    /// <summary>Unmaps the files: no tensor may be touched afterwards.</summary>
    public void Dispose()
    {
        foreach (IDisposable owner in _owners) owner.Dispose();
    }

    private static Checkpoint OpenFolder(string folder, CheckpointKind kind)
    {
        if (File.Exists(System.IO.Path.Combine(folder, "config.json"))) return HuggingFaceCheckpoint.Open(folder, kind);
        // A download folder with one model in it needs no further naming.
        string[] ggufs = [.. Directory.GetFiles(folder, "*.gguf").Where(IsModelStart).Order(StringComparer.Ordinal)];
        return ggufs.Length switch
        {
            1 => GgufCheckpoint.Open(ggufs[0], kind),
            0 => throw new CheckpointException(folder, "", "expected config.json with *.safetensors, or a .gguf file; found neither"),
            _ => throw new CheckpointException(folder, "",
                $"expected one model, found {ggufs.Length}: {string.Join(", ", ggufs.Take(8).Select(System.IO.Path.GetFileName))}; name the file"),
        };

        // Encoders lie beside models as mmproj files; of a split set only the first part counts.
        static bool IsModelStart(string path)
        {
            string name = System.IO.Path.GetFileName(path);
            return !name.Contains("mmproj", StringComparison.OrdinalIgnoreCase)
                && (!name.Contains("-of-", StringComparison.Ordinal) || name.Contains("-00001-of-", StringComparison.Ordinal));
        }
    }
}
