namespace GemmaServer.Compute;

/// <summary>What a matrix product makes of its input rows before it multiplies.</summary>
public enum ActivationType
{
    /// <summary>Nothing: weights are decoded to f32 and multiplied in f32.</summary>
    F32,

    /// <summary>
    /// Signed bytes in blocks of 32 with a scale each, multiplied as integers with quantised weights.
    /// F32, F16 and BF16 weights keep f32 rows.
    /// </summary>
    Int8,

    /// <summary>
    /// Tensor cores: activations, and weights of more digits, are rounded to bfloat16 in products of many rows; exact elsewhere. GPUs
    /// of CUDA have them; ILGPU's kernels round alike and multiply floats, OpenCL computes as with <see cref="F32"/>, and the CPU refuses it.
    /// </summary>
    BF16,
}
