namespace GemmaServer.Compute;

/// <summary>
/// A quantised block as it lies in a file. The struct is the layout; the methods turn it into numbers, so one matmul
/// serves every format and the JIT writes one body each.
/// </summary>
/// <typeparam name="TSelf">The block's own struct, packed without padding.</typeparam>
/// <remarks>Layouts: ggml, <c>ggml-common.h</c>; values: <c>ggml-quants.c</c>, <c>dequantize_row_*</c>.</remarks>
public interface IQuantBlock<TSelf> where TSelf : unmanaged, IQuantBlock<TSelf>
{
    /// <summary>Elements in a block; a multiple of 32.</summary>
    static abstract int Length { get; }

    /// <summary>
    /// The code that stands for zero in formats that only scale: <c>value = scale · (u − Zero)</c>.
    /// −1 in formats with a minimum of their own, where <c>value = scale · u + offset</c>.
    /// </summary>
    static abstract int Zero { get; }

    /// <summary>
    /// Plain loops: what every faster way is measured against. Bit for bit the value ggml decodes.
    /// </summary>
    /// <param name="block">One block.</param>
    /// <param name="dst">Values, <c>[Length]</c>.</param>
    static abstract void Dequantize(in TSelf block, Span<float> dst);

    /// <summary>Integer codes for integer dot products: <c>value = scale · u + offset</c>.</summary>
    /// <param name="block">One block.</param>
    /// <param name="q">Unsigned codes u, <c>[Length]</c>.</param>
    /// <param name="scale">One for each 16 elements, <c>[Length / 16]</c>; exact in f32.</param>
    /// <param name="offset">One for each 16 elements, <c>[Length / 16]</c>; exact in f32.</param>
    static abstract void Unpack(in TSelf block, Span<byte> q, Span<float> scale, Span<float> offset);
}
