// Rows of activations as bytes: blocks of 32 with scale = max|x| / 127 and q = x / scale rounded to the nearest, ties to even.

// codes [rows][groups][8] int: four bytes each; about [rows][groups]: scale (a float's bits), sums of the codes' halves (two shorts).
// One lane a block; x has 32 * groups columns.
KERNEL(64) quantise(
    GLOBAL const int* RESTRICT step, const int givenRows, GLOBAL const float* RESTRICT x, GLOBAL int4* RESTRICT codes, GLOBAL int2* RESTRICT about,
    const int groups)
{
    const int rows = givenRows > 0 ? givenRows : step[STEP_ROWS], at = GROUP_X * 64 + LANE;
    if (at >= rows * groups) return;
    float v[32];
    float largest = 0;
    for (int i = 0; i < 8; i++) {
        const float4 four = ((GLOBAL const float4*)x)[8 * (size_t)at + i];
        v[4 * i] = four.x;
        v[4 * i + 1] = four.y;
        v[4 * i + 2] = four.z;
        v[4 * i + 3] = four.w;
    }
    for (int i = 0; i < 32; i++) largest = fmax(largest, fabs(v[i]));
    // Below this 127 / largest would overflow; such a block counts as zero.
    const float inverse = largest > 1e-36f ? 127.0f / largest : 0.0f;
    int words[8];
    int sums[2] = { 0, 0 };
    for (int i = 0; i < 8; i++) {
        uint word = 0;
        for (int b = 0; b < 4; b++) {
            const int q = ROUND_TO_INT(v[4 * i + b] * inverse);
            sums[i / 4] += q;
            word |= ((uint)q & 255u) << (8 * b);
        }
        words[i] = (int)word;
    }
    int4 first, second;
    first.x = words[0];
    first.y = words[1];
    first.z = words[2];
    first.w = words[3];
    second.x = words[4];
    second.y = words[5];
    second.z = words[6];
    second.w = words[7];
    codes[2 * (size_t)at] = first;
    codes[2 * (size_t)at + 1] = second;
    int2 pair;
    pair.x = as_int(largest / 127.0f);
    pair.y = (int)(((uint)sums[0] & 0xffffu) | (uint)sums[1] << 16);
    about[at] = pair;
}
