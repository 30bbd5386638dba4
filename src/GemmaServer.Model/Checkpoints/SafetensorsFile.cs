using System.Buffers.Binary;
using GemmaServer.Compute;

namespace GemmaServer.Model;

/// <summary>One .safetensors file: its header read and checked, its tensors located. Does not own the memory.</summary>
/// <remarks>Source: huggingface/safetensors, README, "Format"; the header limit is theirs.</remarks>
internal static class SafetensorsFile
{
    private const int MaxHeaderBytes = 100_000_000;
    private const int MaxTensors = 65_536;

    /// <param name="data">First byte of the file in memory.</param>
    /// <param name="length">Bytes of the file.</param>
    /// <param name="file">For messages.</param>
    /// <param name="isWanted">By name: tensors of other parts of the model are not read, whatever their type.</param>
    /// <exception cref="CheckpointException">Cut short or damaged, or a wanted tensor has a type that cannot be loaded.</exception>
    public static List<StoredTensor> Parse(nint data, long length, string file, Func<string, bool> isWanted)
    {
        if (length < 8) throw new CheckpointException(file, "header", $"expected at least 8 bytes, found {length}");
        long headerBytes = ReadHeaderLength(data, length, file);
        long dataStart = 8 + headerBytes, dataBytes = length - dataStart;
        JsonFields header = ReadHeader(data, (int)headerBytes, file);

        List<StoredTensor> tensors = [];
        foreach ((string name, JsonFields info) in header.ObjectMembers())
        {
            if (name == "__metadata__") continue;
            if (tensors.Count == MaxTensors) throw new CheckpointException(file, "header", $"expected at most {MaxTensors} tensors, found more");
            if (!isWanted(name)) continue;
            tensors.Add(Locate(info, name, data + (nint)dataStart, dataBytes, file));
        }
        TensorExtent.RefuseOverlaps(tensors);
        return tensors;
    }

    private static unsafe long ReadHeaderLength(nint data, long length, string file)
    {
        ulong header = BinaryPrimitives.ReadUInt64LittleEndian(new ReadOnlySpan<byte>((void*)data, 8));
        if (header > (ulong)(length - 8))
            throw new CheckpointException(file, "header", $"its {header} bytes reach past the end of the file ({length} bytes); is the download complete?");
        if (header > MaxHeaderBytes)
            throw new CheckpointException(file, "header", $"expected at most {MaxHeaderBytes} bytes, found {header}");
        return (long)header;
    }

    private static unsafe JsonFields ReadHeader(nint data, int bytes, string file)
    {
        byte[] copy = new ReadOnlySpan<byte>((byte*)data + 8, bytes).ToArray();
        return JsonFields.Parse(copy, file, "header");
    }

    private static StoredTensor Locate(JsonFields info, string name, nint data, long dataBytes, string file)
    {
        string dtype = info.Text("dtype") ?? throw info.Problem("dtype", "the field is missing");
        int integer = !HuggingFaceNames.HoldsIntegers(name) ? 0 : dtype switch { "I32" => 4, "I64" => 8, _ => 0 };
        TensorType type = dtype switch
        {
            _ when integer > 0 => TensorType.F32,
            "F32" => TensorType.F32,
            "F16" => TensorType.F16,
            "BF16" => TensorType.BF16,
            _ => throw new CheckpointException(file, name,
                $"tensors of type {dtype} cannot be loaded; supported in safetensors are F32, F16, BF16 (quantised models: as GGUF)"),
        };
        long[] shape = info.Integers("shape") ?? throw info.Problem("shape", "the field is missing");
        long bytes = (shape.Length <= 4 ? TensorExtent.Bytes(shape, type) * (integer == 8 ? 2 : 1) : null)
            ?? throw new CheckpointException(file, name, $"impossible shape {StoredTensor.Describe(shape.Take(8))}");
        long[] offsets = info.Integers("data_offsets") ?? throw info.Problem("data_offsets", "the field is missing");
        if (offsets.Length != 2 || offsets[0] < 0 || offsets[1] < offsets[0] || offsets[1] > dataBytes)
            throw new CheckpointException(file, name,
                $"expected data offsets within the file's {dataBytes} bytes of data, found {StoredTensor.Describe(offsets.Take(4))}; is the download complete?");
        if (offsets[1] - offsets[0] != bytes)
            throw new CheckpointException(file, name,
                $"{dtype} {StoredTensor.Describe(shape)} needs {bytes} bytes, found {offsets[1] - offsets[0]}");
        return new StoredTensor(file, name, type, shape, data + (nint)offsets[0], bytes) { IntegerBytes = integer };
    }
}
