using System.Text;
using GemmaServer.Compute;

namespace GemmaServer;

/// <summary>A tensor to be written.</summary>
/// <param name="Name">GGUF name.</param>
/// <param name="Shape">Outermost first.</param>
/// <param name="Type">Storage type.</param>
internal readonly record struct NewTensor(string Name, long[] Shape, TensorType Type)
{
    public long Elements => Shape.Aggregate(1L, static (a, b) => a * b);

    public long Bytes => Elements / TensorTypes.BlockLength(Type) * TensorTypes.BlockBytes(Type);
}

/// <summary>Writes what stands before the data of a GGUF file, version 3.</summary>
internal sealed class GgufHeader
{
    /// <summary>The format's default: each tensor starts at a multiple of it.</summary>
    public const int Alignment = 32;

    private const uint UInt32Type = 4, Int32Type = 5, FloatType = 6, BoolType = 7, StringType = 8, ArrayType = 9;

    private readonly MemoryStream _values = new();
    private readonly BinaryWriter _writer;
    private ulong _count;

    public GgufHeader() => _writer = new BinaryWriter(_values);

    public void Text(string key, string value)
    {
        Key(key, StringType);
        Text(_writer, value);
    }

    public void UInt(string key, int value)
    {
        Key(key, UInt32Type);
        _writer.Write((uint)value);
    }

    public void Int(string key, int value)
    {
        Key(key, Int32Type);
        _writer.Write(value);
    }

    public void Float(string key, float value)
    {
        Key(key, FloatType);
        _writer.Write(value);
    }

    public void Flag(string key, bool value)
    {
        Key(key, BoolType);
        _writer.Write(value);
    }

    public void Texts(string key, IReadOnlyList<string> values)
    {
        Array(key, StringType, values.Count);
        foreach (string value in values) Text(_writer, value);
    }

    public void Ints(string key, IReadOnlyList<int> values)
    {
        Array(key, Int32Type, values.Count);
        foreach (int value in values) _writer.Write(value);
    }

    public void Floats(string key, IReadOnlyList<float> values)
    {
        Array(key, FloatType, values.Count);
        foreach (float value in values) _writer.Write(value);
    }

    public void Flags(string key, IReadOnlyList<bool> values)
    {
        Array(key, BoolType, values.Count);
        foreach (bool value in values) _writer.Write(value);
    }

    /// <summary>Header, metadata and tensor list, up to the first byte of data; tensors lie one behind the other.</summary>
    public void WriteTo(Stream file, IReadOnlyList<NewTensor> tensors)
    {
        long[] offsets = new long[tensors.Count];
        for (int i = 1; i < offsets.Length; i++) offsets[i] = offsets[i - 1] + Aligned(tensors[i - 1].Bytes);
        WriteTo(file, tensors, offsets);
    }

    /// <summary>The same with each tensor where <paramref name="offsets"/> say.</summary>
    public void WriteTo(Stream file, IReadOnlyList<NewTensor> tensors, IReadOnlyList<long> offsets)
    {
        BinaryWriter writer = new(file);
        writer.Write("GGUF"u8);
        writer.Write(3u);
        writer.Write((ulong)tensors.Count);
        writer.Write(_count);
        writer.Write(_values.GetBuffer().AsSpan(0, (int)_values.Length));
        for (int i = 0; i < tensors.Count; i++)
        {
            NewTensor tensor = tensors[i];
            Text(writer, tensor.Name);
            writer.Write((uint)tensor.Shape.Length);
            foreach (long size in tensor.Shape.Reverse()) writer.Write((ulong)size);    // the format has the innermost first
            writer.Write((uint)tensor.Type);
            writer.Write((ulong)offsets[i]);
        }
        writer.Flush();
        Pad(file);
    }

    /// <summary>Zeros up to the next multiple of the alignment.</summary>
    public static void Pad(Stream file) => file.Write(stackalloc byte[(int)(Aligned(file.Position) - file.Position)]);

    /// <summary>The next multiple of the alignment.</summary>
    public static long Aligned(long bytes) => (bytes + Alignment - 1) / Alignment * Alignment;

    private void Array(string key, uint elementType, int count)
    {
        Key(key, ArrayType);
        _writer.Write(elementType);
        _writer.Write((ulong)count);
    }

    private void Key(string key, uint type)
    {
        _count++;
        Text(_writer, key);
        _writer.Write(type);
    }

    private static void Text(BinaryWriter writer, string text)
    {
        byte[] utf8 = Encoding.UTF8.GetBytes(text);
        writer.Write((ulong)utf8.Length);
        writer.Write(utf8);
    }
}
