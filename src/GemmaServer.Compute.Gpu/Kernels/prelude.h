// What both dialects share. The step's header, which every kernel gets first: grids may be larger than the step.
#define STEP_ROWS 0
#define STEP_SLICES 1
#define STEP_OUTPUTS 2

INLINE float bf16_to_float(ushort bits)
{
    return as_float((uint)bits << 16);
}

// Round to nearest, ties to even.
INLINE ushort float_to_bf16(float x)
{
    uint bits = as_uint(x);
    return (ushort)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), written with exp so that it keeps its digits for large x.
INLINE float gelu_tanh(float x)
{
    float inner = 0.7978845608028654f * (x + 0.044715f * x * x * x);
    return x / (1.0f + exp(-2.0f * inner));
}
