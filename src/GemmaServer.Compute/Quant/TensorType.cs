namespace GemmaServer.Compute;

/// <summary>How a weight is stored. Values are ggml's type ids.</summary>
/// <remarks>Source: ggml <c>enum ggml_type</c>.</remarks>
public enum TensorType
{
#pragma warning disable CS1591 // The names are the format's own.
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q2_K = 10,
    Q3_K = 11,
    Q4_K = 12,
    Q5_K = 13,
    Q6_K = 14,
    IQ4_NL = 20,
    IQ4_XS = 23,
    BF16 = 30,
    MXFP4 = 39,
#pragma warning restore CS1591
}
