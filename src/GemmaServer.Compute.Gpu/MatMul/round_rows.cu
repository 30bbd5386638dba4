// Rows of activations as bf16, filled up with zeros to whole groups of 32: what gemm_cuda.cu multiplies. Headers: cuda_tensor.h.

// A lane eight columns. Groups: (rows, chunks of eight / 64). There are uses rows for each of the step.
KERNEL(64) round_rows(
    GLOBAL const int* RESTRICT step, const int givenRows, GLOBAL const float* RESTRICT x, GLOBAL uint4* RESTRICT rounded, const int columns, const int chunks, const int uses)
{
    const int rows = (givenRows > 0 ? givenRows : step[STEP_ROWS]) * uses, chunk = GROUP_Y * 64 + LANE;
    if (GROUP_X >= rows || chunk >= chunks) return;
    GLOBAL const float* from = x + (size_t)GROUP_X * columns + 8 * chunk;
    float v[8];
    if (columns % 4 == 0 && 8 * chunk + 8 <= columns) {
        const float4 a = ((GLOBAL const float4*)from)[0], b = ((GLOBAL const float4*)from)[1];
        v[0] = a.x;
        v[1] = a.y;
        v[2] = a.z;
        v[3] = a.w;
        v[4] = b.x;
        v[5] = b.y;
        v[6] = b.z;
        v[7] = b.w;
    } else {
        for (int i = 0; i < 8; i++) v[i] = 8 * chunk + i < columns ? from[i] : 0.0f;
    }
    rounded[(size_t)GROUP_X * chunks + chunk] = make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
}
