// Rows of activations as bytes in blocks of 32: codes, and for each block (scale as float bits, the sums of the codes' halves as
// two shorts). scale = max|x| / 127, codes x / scale rounded to the nearest. Groups: blocks / GROUP. There are step rows * uses rows.
KERNEL(GROUP) quantise_rows(
    GLOBAL const int* RESTRICT step, GLOBAL const float* RESTRICT x, GLOBAL uint* RESTRICT codes, GLOBAL uint2* RESTRICT scales,
    const int rowGroups, const int uses)
{
    const int block = GROUP_X * GROUP + LANE;
    if (block >= step[STEP_ROWS] * uses * rowGroups) return;
    GLOBAL const float4* from = (GLOBAL const float4*)x + 8 * (size_t)block;
    float max = 0;
    for (int i = 0; i < 8; i++) {
        const float4 v = from[i];
        max = fmax(fmax(max, fmax(fabs(v.x), fabs(v.y))), fmax(fabs(v.z), fabs(v.w)));
    }
    // Below this 127 / max would overflow; such a block counts as zero.
    const float inverse = max > 1e-36f ? 127.0f / max : 0.0f;
    int sums[2] = { 0, 0 };
    for (int i = 0; i < 8; i++) {
        const float4 v = from[i];
        const int a = ROUND_TO_INT(v.x * inverse), b = ROUND_TO_INT(v.y * inverse), c = ROUND_TO_INT(v.z * inverse), d = ROUND_TO_INT(v.w * inverse);
        sums[i / 4] += a + b + c + d;
        codes[8 * (size_t)block + i] = (uint)(a & 255) | (uint)(b & 255) << 8 | (uint)(c & 255) << 16 | (uint)d << 24;
    }
    uint2 about;
    about.x = as_uint(max / 127.0f);
    about.y = (uint)(sums[0] & 0xffff) | (uint)sums[1] << 16;
    scales[block] = about;
}
