using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace GemmaServer.GoldenTests;

/// <summary>Reads stored F32 reference tensors; the product's own reader is under test elsewhere.</summary>
internal sealed class SafetensorsFile
{
    private readonly byte[] _raw;
    private readonly JsonElement _header;
    private readonly int _data;

    public SafetensorsFile(string path)
    {
        _raw = File.ReadAllBytes(path);
        int length = (int)BinaryPrimitives.ReadUInt64LittleEndian(_raw);
        _header = JsonDocument.Parse(_raw.AsMemory(8, length)).RootElement;
        _data = 8 + length;
    }

    public bool Has(string name) => _header.TryGetProperty(name, out _);

    public ReadOnlySpan<float> Floats(string name, out int columns)
    {
        JsonElement tensor = _header.GetProperty(name);
        columns = tensor.GetProperty("shape").EnumerateArray().Last().GetInt32();
        int from = tensor.GetProperty("data_offsets")[0].GetInt32(), to = tensor.GetProperty("data_offsets")[1].GetInt32();
        return MemoryMarshal.Cast<byte, float>(_raw.AsSpan(_data + from, to - from));
    }
}
