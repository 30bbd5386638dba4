using GemmaServer.Compute;

namespace GemmaServer.Model;

/// <summary>One GGUF file: its header read and checked, its tensors located. Does not own the memory.</summary>
/// <remarks>Source: ggml <c>docs/gguf.md</c>; limits are ours.</remarks>
internal sealed class GgufFile
{
    private const int MaxKeys = 65_536;
    private const int MaxTensors = 65_536;
    private const int MaxNameBytes = 1024;

    private GgufFile(string file, GgufMetadata metadata, List<StoredTensor> tensors)
    {
        Name = file;
        Metadata = metadata;
        Tensors = tensors;
    }

    public string Name { get; }

    public GgufMetadata Metadata { get; }

    /// <summary>In file order.</summary>
    public List<StoredTensor> Tensors { get; }

    /// <param name="data">First byte of the file in memory; must stay valid as long as this object and its tensors are used.</param>
    /// <param name="length">Bytes of the file.</param>
    /// <param name="file">For messages.</param>
    /// <param name="mayOverlap">Whether tensors may lie over each other.</param>
    /// <exception cref="CheckpointException">Not a GGUF v3 file, cut short, or damaged.</exception>
    public static GgufFile Parse(nint data, long length, string file, bool mayOverlap = false)
    {
        GgufCursor cursor = new(data, length, file);
        (long tensorCount, long keyCount) = ReadPreamble(cursor, file);
        GgufMetadata metadata = ReadMetadata(cursor, keyCount, data, file);
        List<TensorInfo> infos = ReadTensorInfos(cursor, tensorCount, file);

        long alignment = metadata.Integer("general.alignment", 1, 1 << 20) ?? 32;
        if (!long.IsPow2(alignment))
            throw new CheckpointException(file, "general.alignment", $"expected a power of two, found {alignment}");
        long dataStart = (cursor.Position + alignment - 1) / alignment * alignment;

        List<StoredTensor> tensors = new(infos.Count);
        foreach (TensorInfo info in infos) tensors.Add(Locate(info, data, length, dataStart, alignment, file));
        if (!mayOverlap) TensorExtent.RefuseOverlaps(tensors);
        return new GgufFile(file, metadata, tensors);
    }

    private static (long Tensors, long Keys) ReadPreamble(GgufCursor cursor, string file)
    {
        uint magic = cursor.UInt32("magic");
        if (magic != 0x46554747) // "GGUF"
            throw new CheckpointException(file, "magic", $"expected the bytes 'GGUF', found 0x{magic:X8}");
        uint version = cursor.UInt32("version");
        if (version is > 0 and < 0x10000 && version != 3)
            throw new CheckpointException(file, "version", $"expected GGUF version 3, found {version}");
        if (version != 3)
            throw new CheckpointException(file, "version", $"expected GGUF version 3, little-endian; found 0x{version:X8} (a big-endian file?)");
        ulong tensors = cursor.UInt64("tensor count");
        if (tensors > MaxTensors)
            throw new CheckpointException(file, "tensor count", $"expected at most {MaxTensors}, found {tensors}");
        ulong keys = cursor.UInt64("metadata count");
        if (keys > MaxKeys)
            throw new CheckpointException(file, "metadata count", $"expected at most {MaxKeys}, found {keys}");
        return ((long)tensors, (long)keys);
    }

    private static GgufMetadata ReadMetadata(GgufCursor cursor, long count, nint data, string file)
    {
        Dictionary<string, GgufValue> values = new();
        for (long i = 0; i < count; i++)
        {
            string key = cursor.Text($"metadata key {i}", 65_535);
            GgufValue value = cursor.Value(key);
            if (!values.TryAdd(key, value)) throw new CheckpointException(file, key, "this metadata key stands in the file twice");
        }
        return new GgufMetadata(file, data, values);
    }

    private static List<TensorInfo> ReadTensorInfos(GgufCursor cursor, long count, string file)
    {
        List<TensorInfo> infos = [];
        HashSet<string> seen = [];
        for (long i = 0; i < count; i++)
        {
            string name = cursor.Text($"name of tensor {i}", MaxNameBytes);
            if (!seen.Add(name)) throw new CheckpointException(file, name, "this tensor stands in the file twice");
            uint dimensions = cursor.UInt32(name);
            if (dimensions > 4) throw new CheckpointException(file, name, $"expected at most 4 dimensions, found {dimensions}");
            long[] shape = new long[dimensions];
            // The file lists the inner dimension first; everywhere else in this program it is last.
            for (int d = shape.Length - 1; d >= 0; d--) shape[d] = unchecked((long)cursor.UInt64(name));
            int type = unchecked((int)cursor.UInt32(name));
            infos.Add(new TensorInfo(name, shape, type, cursor.UInt64(name)));
        }
        return infos;
    }

    private static StoredTensor Locate(TensorInfo info, nint data, long length, long dataStart, long alignment, string file)
    {
        int integer = !ExpectedTensors.HoldsIntegers(info.Name) ? 0 : info.Type switch { 26 => 4, 27 => 8, _ => 0 }; // ggml's I32 and I64
        if (integer == 0 && !TensorTypes.IsSupported(info.Type))
            throw new CheckpointException(file, info.Name,
                $"tensors of type {TensorTypes.Name(info.Type)} cannot be loaded; supported are {TensorTypes.SupportedNames}");
        TensorType type = integer > 0 ? TensorType.F32 : (TensorType)info.Type;
        long block = TensorTypes.BlockLength(type);
        if (info.Shape.Length > 0 && info.Shape[^1] % block != 0)
            throw new CheckpointException(file, info.Name, $"rows of {type} must be a multiple of {block} long, found {info.Shape[^1]}");
        if (info.Shape.Length == 0 && block != 1)
            throw new CheckpointException(file, info.Name, $"a single number cannot be stored as {type}");
        long bytes = TensorExtent.Bytes(info.Shape, type) * (integer == 8 ? 2 : 1)
            ?? throw new CheckpointException(file, info.Name, $"impossible shape {StoredTensor.Describe(info.Shape)}");
        if (info.Offset % (ulong)alignment != 0)
            throw new CheckpointException(file, info.Name, $"its offset {info.Offset} is not a multiple of the alignment {alignment}");
        long room = length - dataStart;
        if (room < bytes || info.Offset > (ulong)(room - bytes))
            throw new CheckpointException(file, info.Name,
                $"its {bytes} bytes at offset {info.Offset} reach past the end of the file ({Math.Max(room, 0)} bytes of tensor data); is the download complete?");
        return new StoredTensor(file, info.Name, type, info.Shape, data + (nint)(dataStart + (long)info.Offset), bytes) { IntegerBytes = integer };
    }

    private readonly record struct TensorInfo(string Name, long[] Shape, int Type, ulong Offset);
}
