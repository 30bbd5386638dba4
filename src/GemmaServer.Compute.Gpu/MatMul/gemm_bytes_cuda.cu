// Many rows of x in bytes (quantise.cl) against quantised weights on tensor cores. Headers: weights.h, cuda_tensor.h, gemm_tile_cuda.h.
// Products of a group of 32 columns are whole numbers and exact; what they are multiplied by and in which order groups are added is as in
// gemm.cl. A slice has four groups of columns.
//
// The scales cost more than the tensor cores' work: three operations for each result and group of 32, where 32 products are an eighth of
// an instruction. So the tile is small, and a whole number becomes a float without a conversion: sums begin at the bits of 1.5 * 2^23
// and, taken as a float, are that plus their value.
#define SLICE_GROUPS 4
#define UNITS (TILE_N * SLICE_GROUPS / THREADS)
// The halves of a group have scales of their own.
#define HAS_HALVES (TYPE == TYPE_Q2_K || TYPE == TYPE_Q3_K || TYPE == TYPE_Q6_K)
#define SUMS_BEGIN 0x4b400000
#define SUMS_ZERO 12582912.0f

typedef struct {
    int q[8];
    float scale[2], offset[2];
} Fetched;

// y[row, at + n] for the rows of x and count rows of weights from w's row wRow (and u's row uRow) on. Groups: (row tiles, tiles of n).
KERNEL(BOUNDS) gemm(
    GLOBAL const int* RESTRICT step, const int givenRows, GLOBAL const uint4* RESTRICT x, GLOBAL const int2* RESTRICT about, WEIGHTS(w), const int wRow,
#if GATED
    WEIGHTS(u), const int uRow,
#endif
    const int count, GLOBAL float* RESTRICT y, const int yColumns, const int at, const int columns)
{
    // x [STAGES][TILE_ROWS][8] parts, weights [2][TILE_N][8] parts, scales of weights [2][4][TILE_N], of x [STAGES][4][TILE_ROWS].
    DYNAMIC_SHARED(uint4, memory);
    uint4* const xTiles = memory;
    uint4* const wTiles = xTiles + STAGES * TILE_ROWS * SLICE_PARTS;
    float4* const wScales = (float4*)(wTiles + 2 * TILE_N * SLICE_PARTS);
    int2* const xScales = (int2*)(wScales + 2 * SLICE_GROUPS * TILE_N);
    const int groups = columns / 32, firstRow = GROUP_X * TILE_ROWS, firstN = GROUP_Y * OUT_N;
    const int rows = (givenRows > 0 ? givenRows : step[STEP_ROWS]) - firstRow;
    const int turns = rows > 0 ? (groups + SLICE_GROUPS - 1) / SLICE_GROUPS : 0;
    const int lane = LANE % 32, warpRow = LANE / 32 / WARPS_N * WARP_ROWS, warpN = LANE / 32 % WARPS_N * WARP_N;
    const Planes planes = PLANES(w);
#if GATED
    const Planes others = PLANES(u);
#endif
    float sums[BLOCKS_ROWS][BLOCKS_N][4];
    UNROLL for (int i = 0; i < BLOCKS_ROWS; i++)
        UNROLL for (int j = 0; j < BLOCKS_N; j++) sums[i][j][0] = sums[i][j][1] = sums[i][j][2] = sums[i][j][3] = 0;

    // Groups behind the last are that one again and are not multiplied; rows behind the last are the first again and are not stored.
    const int bringPart = LANE % SLICE_PARTS, bringTo = place(LANE / SLICE_PARTS, bringPart), lastPart = 2 * groups - 1;
#define X_ROW(r) ((uint)(firstRow + ((r) < rows ? (r) : 0)))
#define BRING_X(t) \
    UNROLL for (int i = 0; i < BRINGS(TILE_ROWS); i++) { \
        const int part = (t) * SLICE_PARTS + bringPart; \
        cp_async_16(xTiles + (t) % STAGES * (TILE_ROWS * SLICE_PARTS) + bringTo + i * THREADS, x + X_ROW(BRING_ROW(i)) * (2 * groups) + (part < lastPart ? part : lastPart)); \
    } \
    UNROLL for (int i = LANE; i < TILE_ROWS * SLICE_GROUPS; i += THREADS) { \
        const int r = i / SLICE_GROUPS, g = (t) * SLICE_GROUPS + i % SLICE_GROUPS; \
        int2* to = xScales + ((t) % STAGES * SLICE_GROUPS + i % SLICE_GROUPS) * TILE_ROWS + r; \
        GLOBAL const int2* from = about + X_ROW(r) * groups + (g < groups ? g : groups - 1); \
        cp_async_4(to, from); \
        cp_async_4((int*)to + 1, (GLOBAL const int*)from + 1); \
    }

    Fetched fetched[UNITS];
#define FETCH(t) \
    UNROLL for (int i = 0; i < UNITS; i++) { \
        const int unit = i * THREADS + LANE, r = unit / SLICE_GROUPS, g = (t) * SLICE_GROUPS + unit % SLICE_GROUPS; \
        const int group = W_ROW(r) * groups + (g < groups ? g : groups - 1); \
        codes32(PLANES_OF(r), group, fetched[i].q); \
        scales32(PLANES_OF(r), group, fetched[i].scale, fetched[i].offset); \
    }
    if (turns > 0) {
        FETCH(0)
    }
    UNROLL for (int t = 0; t < STAGES - 1; t++) {
        if (t < turns) {
            BRING_X(t)
        }
        cp_async_commit();
    }
    for (int t = 0; t < turns; t++) {
        UNROLL for (int i = 0; i < UNITS; i++) {
            const int unit = i * THREADS + LANE, r = unit / SLICE_GROUPS, g = unit % SLICE_GROUPS;
            const Fetched* f = &fetched[i];
            uint4* to = wTiles + t % 2 * (TILE_N * SLICE_PARTS);
            to[place(r, 2 * g)] = make_uint4((uint)f->q[0], (uint)f->q[1], (uint)f->q[2], (uint)f->q[3]);
            to[place(r, 2 * g + 1)] = make_uint4((uint)f->q[4], (uint)f->q[5], (uint)f->q[6], (uint)f->q[7]);
            wScales[(t % 2 * SLICE_GROUPS + g) * TILE_N + r] = make_float4(f->scale[0], f->scale[1], f->offset[0], f->offset[1]);
        }
        CP_ASYNC_WAIT(STAGES - 2);
        BARRIER;
        if (t + STAGES - 1 < turns) {
            BRING_X(t + STAGES - 1)
        }
        cp_async_commit();
        if (t + 1 < turns) {
            FETCH(t + 1)
        }
        const uint4* xTile = xTiles + t % STAGES * (TILE_ROWS * SLICE_PARTS);
        const uint4* wTile = wTiles + t % 2 * (TILE_N * SLICE_PARTS);
        const int end = groups - t * SLICE_GROUPS < SLICE_GROUPS ? groups - t * SLICE_GROUPS : SLICE_GROUPS;
        _Pragma("unroll 1") for (int g = 0; g < end; g++) {
            uint a[BLOCKS_ROWS][4], b[BLOCKS_N / 2][4];
            UNROLL for (int i = 0; i < BLOCKS_ROWS; i++) ldmatrix_x4(a[i], xTile + place(warpRow + 16 * i + lane % 16, 2 * g + lane / 16));
            UNROLL for (int j = 0; j < BLOCKS_N / 2; j++) ldmatrix_x4(b[j], wTile + place(warpN + 16 * j + lane / 16 * 8 + lane % 8, 2 * g + lane / 8 % 2));
            const int2* about_x = xScales + (t % STAGES * SLICE_GROUPS + g) * TILE_ROWS + warpRow + lane / 4;
            const float4* scales = wScales + (t % 2 * SLICE_GROUPS + g) * TILE_N + warpN + lane % 4 * 2;
            UNROLL for (int i = 0; i < BLOCKS_ROWS; i++) {
                const int2 top = about_x[16 * i], bottom = about_x[16 * i + 8];
                UNROLL for (int j = 0; j < BLOCKS_N; j++) {
                    const uint* bj = b[j / 2] + j % 2 * 2;
                    const float4 left = scales[8 * j], right = scales[8 * j + 1];
                    int low[4], high[4];
                    UNROLL for (int e = 0; e < 4; e++) {
                        const int sumLow = (int)((uint)(e < 2 ? top.y : bottom.y) << 16) >> 16, sumHigh = (e < 2 ? top.y : bottom.y) >> 16;
                        low[e] = SUMS_BEGIN - ZERO * (HAS_HALVES ? sumLow : sumLow + sumHigh);
                        high[e] = SUMS_BEGIN - ZERO * sumHigh;
                    }
#if HAS_HALVES
                    const uint aLow[4] = { a[i][0], a[i][1], 0, 0 }, aHigh[4] = { 0, 0, a[i][2], a[i][3] };
                    mma_s8(low, aLow, bj);
                    mma_s8(high, aHigh, bj);
#else
                    mma_s8(low, a[i], bj);
#endif
                    UNROLL for (int e = 0; e < 4; e++) {
                        const float4 s = e % 2 == 0 ? left : right;
                        const int2 more = e < 2 ? top : bottom;
                        const float sumLow = (float)((int)((uint)more.y << 16) >> 16), sumHigh = (float)(more.y >> 16);
                        float value = s.x * (as_float(low[e]) - SUMS_ZERO);
#if HAS_HALVES
                        value += s.y * (as_float(high[e]) - SUMS_ZERO);
#endif
#if HAS_OFFSET
                        value += s.z * sumLow + s.w * sumHigh;
#endif
                        sums[i][j][e] = fma(as_float(more.x), value, sums[i][j][e]);
                    }
                }
            }
        }
    }
    store_tile(sums, y, yColumns, at, 0, firstRow, rows, firstN, count, warpRow, warpN);
}
