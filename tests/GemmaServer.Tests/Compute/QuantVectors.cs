using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;
using GemmaServer.Compute;

namespace GemmaServer.Tests;

/// <summary>ggml's own blocks and decoded values: three rows of 1024 for each type, from quant-vectors.safetensors.</summary>
internal static class QuantVectors
{
    private static readonly byte[] File = System.IO.File.ReadAllBytes(GoldenData.At("quant-vectors.safetensors"));
    private static readonly int HeaderLength = checked((int)BinaryPrimitives.ReadUInt64LittleEndian(File));
    private static readonly JsonElement Header = JsonDocument.Parse(File.AsMemory(8, HeaderLength)).RootElement;

    public const int Rows = 3, Columns = 1024;

    /// <summary>Raw bytes of the three rows. F32 has no entry of its own: its bytes are the source.</summary>
    public static ReadOnlySpan<byte> Raw(TensorType type) => Tensor(type == TensorType.F32 ? "source" : $"{type}/raw");

    /// <summary>What ggml decodes them to.</summary>
    public static ReadOnlySpan<float> Decoded(TensorType type) =>
        MemoryMarshal.Cast<byte, float>(Tensor(type == TensorType.F32 ? "source" : $"{type}/f32"));

    private static ReadOnlySpan<byte> Tensor(string name)
    {
        JsonElement offsets = Header.GetProperty(name).GetProperty("data_offsets");
        int start = 8 + HeaderLength + offsets[0].GetInt32();
        return File.AsSpan(start, offsets[1].GetInt32() - offsets[0].GetInt32());
    }
}
