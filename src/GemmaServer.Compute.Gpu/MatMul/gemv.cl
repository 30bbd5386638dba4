// Few rows of x against a matrix: 32 lanes for two rows of weights, which are read once for ROWS rows of x. Headers: weights.h.
// GROUP: lanes of a group. ROWS: rows of x that a group takes. GATED: the second row of weights is up's, y = gelu(gate x) * (up x);
// else it is the next one. MEETS_GATE: y holds gate x already, and these weights are up. INT8: x is in bytes (quantise.cl).
// ODD: columns are no multiple of 32.
#define OUT 2
#define WARPS (GROUP / 32)
#if GATED
#define WARP_ROWS 1
#else
#define WARP_ROWS OUT
#endif

INLINE void store_result(GLOBAL float* y, float value)
{
#if MEETS_GATE
    *y = gelu_tanh(*y) * value;
#else
    *y = value;
#endif
}

#if !INT8
// Columns of x that are at hand at a time: one group for each of 32 lanes, 36 floats apart, so that lanes read different banks.
#define TILE 1024
#define SLOT 36

INLINE float4 x_at(GLOBAL const float* row, int column, int columns)
{
#if ODD
    float4 v;
    v.x = column < columns ? row[column] : 0.0f;
    v.y = column + 1 < columns ? row[column + 1] : 0.0f;
    v.z = column + 2 < columns ? row[column + 2] : 0.0f;
    v.w = column + 3 < columns ? row[column + 3] : 0.0f;
    return v;
#else
    return *(GLOBAL const float4*)(row + column);
#endif
}
#endif

// y[row, at + n] for the rows of x and count rows of weights from w's row wRow (and u's row uRow) on.
KERNEL(GROUP) gemv(
    GLOBAL const int* RESTRICT step, const int givenRows,
#if INT8
    GLOBAL const int4* RESTRICT x, GLOBAL const int2* RESTRICT about,
#else
    GLOBAL const float* RESTRICT x,
#endif
    WEIGHTS(w), const int wRow,
#if GATED
    WEIGHTS(u), const int uRow,
#endif
    const int count, GLOBAL float* RESTRICT y, const int yColumns, const int at, const int columns)
{
    SHARED float scratch[GROUP];
    const int lane = LANE % 32, groups = (columns + 31) / 32;
    const int firstRow = GROUP_Y * ROWS, rows = (givenRows > 0 ? givenRows : step[STEP_ROWS]) - firstRow;
    const int n = (GROUP_X * WARPS + LANE / 32) * WARP_ROWS;
    const Planes planes = PLANES(w);
#if GATED
    const Planes others = PLANES(u);
#endif
    // First groups of the rows; what lies behind the last row is computed from that one and not stored.
    int start[OUT];
    start[0] = (wRow + (n < count ? n : count - 1)) * groups;
#if GATED
    start[1] = (uRow + (n < count ? n : count - 1)) * groups;
#define PLANES_OF(o) ((o) == 0 ? planes : others)
#else
    start[1] = (wRow + (n + 1 < count ? n + 1 : count - 1)) * groups;
#define PLANES_OF(o) planes
#endif
    float sums[OUT][ROWS];
    for (int o = 0; o < OUT; o++)
        for (int r = 0; r < ROWS; r++) sums[o][r] = 0;

#if INT8
    const int end = rows > 0 ? groups : 0;
    for (int g = lane; g < end; g += 32) {
        int q[OUT][8];
        float scale[OUT][2], offset[OUT][2];
        for (int o = 0; o < OUT; o++) {
            codes32(PLANES_OF(o), start[o] + g, q[o]);
            scales32(PLANES_OF(o), start[o] + g, scale[o], offset[o]);
        }
        for (int r = 0; r < ROWS; r++) {
            const size_t block = (size_t)(firstRow + (r < rows ? r : 0)) * groups + g;
            const int4 a = x[2 * block], b = x[2 * block + 1];
            const int2 more = about[block];
            const int words[8] = { a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w };
            for (int o = 0; o < OUT; o++) sums[o][r] = fma(as_float(more.x), dot32(q[o], scale[o], offset[o], words, more.y), sums[o][r]);
        }
    }
#else
    SHARED float4 tile[ROWS * 32 * SLOT / 4];
    const int tiles = rows > 0 ? (groups + 31) / 32 : 0;
    for (int t = 0; t < tiles; t++) {
        BARRIER;
        for (int i = LANE; i < ROWS * (TILE / 4); i += GROUP) {
            const int r = i / (TILE / 4), four = i % (TILE / 4), column = t * TILE + 4 * four;
            float4 v;
            v.x = v.y = v.z = v.w = 0;
            if (r < rows && column < columns) v = x_at(x + (size_t)(firstRow + r) * columns, column, columns);
            tile[(r * 32 + four / 8) * (SLOT / 4) + four % 8] = v;
        }
        BARRIER;
        const int g = t * 32 + lane;
        #pragma unroll
        for (int o = 0; o < OUT; o++) {
            float v[32];
            if (g >= groups) continue;
            decode32(PLANES_OF(o), start[o] + g, v);
            for (int i = 0; i < 8; i++) {
                for (int r = 0; r < ROWS; r++) {
                    const float4 four = tile[(r * 32 + lane) * (SLOT / 4) + i];
                    float sum = fma(v[4 * i], four.x, sums[o][r]);
                    sum = fma(v[4 * i + 1], four.y, sum);
                    sum = fma(v[4 * i + 2], four.z, sum);
                    sums[o][r] = fma(v[4 * i + 3], four.w, sum);
                }
            }
        }
    }
#endif

    for (int r = 0; r < ROWS; r++) {
        const float first = warp_total(sums[0][r], scratch), second = warp_total(sums[1][r], scratch);
        GLOBAL float* to = y + (size_t)(firstRow + r) * yColumns + at + n;
#if GATED
        if (lane == 0 && r < rows && n < count) *to = gelu_tanh(first) * second;
#else
        if (lane < 2 && r < rows && n + lane < count) store_result(to + lane, lane == 0 ? first : second);
#endif
    }
}
