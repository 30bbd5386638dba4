using System.Buffers.Binary;
using GemmaServer.Compute;

namespace GemmaServer.Model;

/// <summary>Reads single elements of the plain number types; safetensors data may be unaligned.</summary>
internal static unsafe class SmallTensors
{
    public static bool CanRead(TensorType type) => type is TensorType.F32 or TensorType.F16 or TensorType.BF16;

    public static float Read(StoredTensor tensor, long index)
    {
        ReadOnlySpan<byte> raw = tensor.Type == TensorType.F32
            ? new((byte*)tensor.Data + index * 4, 4)
            : new((byte*)tensor.Data + index * 2, 2);
        return tensor.Type switch
        {
            TensorType.F32 => BinaryPrimitives.ReadSingleLittleEndian(raw),
            TensorType.F16 => (float)BinaryPrimitives.ReadHalfLittleEndian(raw),
            TensorType.BF16 => BitConverter.UInt32BitsToSingle((uint)BinaryPrimitives.ReadUInt16LittleEndian(raw) << 16),
            _ => throw new ArgumentException($"{tensor.Type} has no single elements.", nameof(tensor)),
        };
    }

    /// <summary>Element of a tensor with <see cref="StoredTensor.IntegerBytes"/>.</summary>
    public static long ReadInteger(StoredTensor tensor, long index)
    {
        ReadOnlySpan<byte> raw = new((byte*)tensor.Data + index * tensor.IntegerBytes, tensor.IntegerBytes);
        return tensor.IntegerBytes == 8 ? BinaryPrimitives.ReadInt64LittleEndian(raw) : BinaryPrimitives.ReadInt32LittleEndian(raw);
    }

    /// <summary>A NaN or infinity in a norm or scale would spread to every logit.</summary>
    public static void RequireFinite(StoredTensor tensor)
    {
        long n = tensor.Elements;
        for (long i = 0; i < n; i++)
            if (!float.IsFinite(Read(tensor, i)))
                throw new CheckpointException(tensor.File, tensor.Name, $"expected finite numbers, found {Read(tensor, i)} at {i}");
    }
}
