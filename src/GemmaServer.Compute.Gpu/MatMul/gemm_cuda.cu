// Many rows of x against a matrix on tensor cores: bf16 products, f32 sums. x is in bf16 (round_rows.cu); bf16 weights are taken as they
// are, others are decoded and rounded to bf16. Headers: weights.h, cuda_tensor.h. GpuTiles.cs chooses the constants:
// TILE_ROWS x TILE_N: a group's results. WARPS_ROWS x WARPS_N: its warps. STAGES: 64-column slices in shared memory. BLOCKS: groups that
// a multiprocessor shall hold. GATED, MEETS_GATE: as in gemv.cl; in a gated tile blocks of 8 rows of gate and of up take turns, so that
// one lane has both.
//
// Every sum runs along the columns in order, 16 at a time, whatever the tile: a row's result does not depend on the rows beside it.
//
// Why these shapes. A warp's tile of 64 x 64 reads 4 KiB of fragments from shared memory for 32 tensor instructions (2 bytes per 64
// operations); four such warps ask for 64 bytes a clock on sm_80 and, at the 60 % that mma.sync reaches there, 77 on sm_90, of 128.
// 64 x 32, which leaves registers for decoding, asks for 96 and 115. A group's tile of 128 x 256 reads 1 byte from the second cache for
// 85 operations: 4.7 TB/s at 400 TFLOPS, where 128 x 128 would ask for 6.2. Rows of a slice are 128 bytes; xor with the row's lowest
// bits puts the 16-byte parts of eight rows side by side in different banks, for ldmatrix and for whoever writes.
// Neighbouring groups take other rows of the same weights: these come from memory once.
#define THREADS (32 * WARPS_ROWS * WARPS_N)
#define BOUNDS THREADS, BLOCKS
#define WARP_ROWS (TILE_ROWS / WARPS_ROWS)
#define WARP_N (TILE_N / WARPS_N)
#define BLOCKS_ROWS (WARP_ROWS / 16)
#define BLOCKS_N (WARP_N / 8)
// A slice: two groups of columns, eight parts of 16 bytes.
#define SLICE_GROUPS 2
#define SLICE_PARTS 8
#define COPIES_WEIGHTS (TYPE == TYPE_BF16)
#define W_STAGES (COPIES_WEIGHTS ? STAGES : 2)
#define UNITS ((TILE_N * SLICE_GROUPS + THREADS - 1) / THREADS)
#if GATED
#define OUT_N (TILE_N / 2)
#else
#define OUT_N TILE_N
#endif

#if COPIES_WEIGHTS
#define UNROLL_HALVES UNROLL
#else
// Decoding leaves no registers for the fragments of two halves.
#define UNROLL_HALVES _Pragma("unroll 1")
#endif

INLINE int place(int row, int part)
{
    return row * SLICE_PARTS + (part ^ (row & 7));
}

#if !COPIES_WEIGHTS
// A group on its way from memory.
typedef struct {
#if IS_QUANTISED
    int q[8];
    float scale[2], offset[2];
#else
    uint pairs[16];
#endif
} Fetched;

INLINE void fetch(Planes w, int group, Fetched* to)
{
#if IS_QUANTISED
    codes32(w, group, to->q);
    scales32(w, group, to->scale, to->offset);
#else
    float v[32];
    decode32(w, group, v);
    for (int i = 0; i < 16; i++) to->pairs[i] = pack_bf16(v[2 * i], v[2 * i + 1]);
#endif
}

// Writes four parts of a row.
INLINE void unfold(const Fetched* from, uint4* tile, int row, int firstPart)
{
    for (int part = 0; part < 4; part++) {
        uint4 v;
#if IS_QUANTISED
        float a[4], b[4];
        values_of(from->q[2 * part], from->scale[part / 2], from->offset[part / 2], a);
        values_of(from->q[2 * part + 1], from->scale[part / 2], from->offset[part / 2], b);
        v.x = pack_bf16(a[0], a[1]);
        v.y = pack_bf16(a[2], a[3]);
        v.z = pack_bf16(b[0], b[1]);
        v.w = pack_bf16(b[2], b[3]);
#else
        v.x = from->pairs[4 * part];
        v.y = from->pairs[4 * part + 1];
        v.z = from->pairs[4 * part + 2];
        v.w = from->pairs[4 * part + 3];
#endif
        tile[place(row, firstPart + part)] = v;
    }
}
#endif

INLINE float ended(float value, float before)
{
    return MEETS_GATE ? gelu_tanh(before) * value : value;
}

// y[row, at + n] for the rows of x and count rows of weights from w's row wRow (and u's row uRow) on. Groups: (row tiles, tiles of n).
KERNEL(BOUNDS) gemm(
    GLOBAL const int* RESTRICT step, const int givenRows, GLOBAL const uint4* RESTRICT x, WEIGHTS(w), const int wRow,
#if GATED
    WEIGHTS(u), const int uRow,
#endif
    const int count, GLOBAL float* RESTRICT y, const int yColumns, const int at, const int columns)
{
    DYNAMIC_SHARED(uint4, memory);
    uint4* const xTiles = memory;
    uint4* const wTiles = memory + STAGES * TILE_ROWS * SLICE_PARTS;
    const int groups = (columns + 31) / 32, firstRow = GROUP_X * TILE_ROWS, firstN = GROUP_Y * OUT_N;
    const int rows = (givenRows > 0 ? givenRows : step[STEP_ROWS]) - firstRow;
    const int turns = rows > 0 ? (groups + SLICE_GROUPS - 1) / SLICE_GROUPS : 0;
    const int lane = LANE % 32, warpRow = LANE / 32 / WARPS_N * WARP_ROWS, warpN = LANE / 32 % WARPS_N * WARP_N;
    const Planes planes = PLANES(w);
#if GATED
    const Planes others = PLANES(u);
#endif

    // The row of weights behind row r of a tile: its first group, and of whom. Rows behind the last are that one again.
#if GATED
#define N_OF(r) ((r) / 16 * 8 + (r) % 8)
#define IS_UP(r) ((r) / 8 % 2 == 1)
#else
#define N_OF(r) (r)
#endif
#define CLAMPED(r) (firstN + N_OF(r) < count ? firstN + N_OF(r) : count - 1)

    float sums[BLOCKS_ROWS][BLOCKS_N][4];
    UNROLL for (int i = 0; i < BLOCKS_ROWS; i++)
        UNROLL for (int j = 0; j < BLOCKS_N; j++) sums[i][j][0] = sums[i][j][1] = sums[i][j][2] = sums[i][j][3] = 0;

    // Where a lane's first part of a slice comes from and goes to; the rows of its next ones are THREADS / 8 apart. In units of 16 bytes.
    const int bringRow = LANE / SLICE_PARTS, bringPart = LANE % SLICE_PARTS, bringTo = place(bringRow, bringPart);
#define BRINGS(tileRows) ((tileRows) * SLICE_PARTS / THREADS)
#define BRING_ROW(i) (bringRow + (i) * (THREADS / SLICE_PARTS))
    const uint parts = 4 * groups;
    uint xFrom[BRINGS(TILE_ROWS)];
    UNROLL for (int i = 0; i < BRINGS(TILE_ROWS); i++) xFrom[i] = (uint)(firstRow + (BRING_ROW(i) < rows ? BRING_ROW(i) : 0)) * parts + bringPart;
#define BRING_X(t) \
    UNROLL for (int i = 0; i < BRINGS(TILE_ROWS); i++) { \
        const bool isThere = (t) * SLICE_PARTS + bringPart < parts; \
        cp_async_16_if(xTiles + (t) % STAGES * (TILE_ROWS * SLICE_PARTS) + bringTo + i * THREADS, x + (isThere ? xFrom[i] + (t) * SLICE_PARTS : 0u), isThere); \
    }

#if COPIES_WEIGHTS
    uint wFrom[BRINGS(TILE_N)];
#if GATED
#define W_ROW(r) ((IS_UP(r) ? uRow : wRow) + CLAMPED(r))
#define W_BASE(i) (IS_UP(BRING_ROW(i)) ? others.codes : planes.codes)
#else
#define W_ROW(r) (wRow + CLAMPED(r))
#define W_BASE(i) planes.codes
#endif
    UNROLL for (int i = 0; i < BRINGS(TILE_N); i++) wFrom[i] = (uint)W_ROW(BRING_ROW(i)) * parts + bringPart;
#define BRING_W(t) \
    UNROLL for (int i = 0; i < BRINGS(TILE_N); i++) { \
        const bool isThere = (t) * SLICE_PARTS + bringPart < parts; \
        cp_async_16_if(wTiles + (t) % STAGES * (TILE_N * SLICE_PARTS) + bringTo + i * THREADS, (GLOBAL const uint4*)W_BASE(i) + (isThere ? wFrom[i] + (t) * SLICE_PARTS : 0u), isThere); \
    }
#else
#define BRING_W(t)
    // What a lane decodes: whole groups, neighbours of the same row by two.
    Fetched fetched[UNITS];
    const bool decodes = LANE < TILE_N * SLICE_GROUPS;
#define FETCH(t) \
    /* What is behind the last column counts nothing: x is zero there. */ \
    UNROLL for (int i = 0; i < UNITS; i++) { \
        const int unit = i * THREADS + LANE, r = unit / SLICE_GROUPS, g = (t) * SLICE_GROUPS + unit % SLICE_GROUPS; \
        FETCH_ROW(r, g < groups ? g : groups - 1) \
    }
#if GATED
#define FETCH_ROW(r, g) if (decodes) fetch(IS_UP(r) ? others : planes, ((IS_UP(r) ? uRow : wRow) + CLAMPED(r)) * groups + (g), &fetched[i]);
#else
#define FETCH_ROW(r, g) if (decodes) fetch(planes, (wRow + CLAMPED(r)) * groups + (g), &fetched[i]);
#endif
    if (turns > 0) {
        FETCH(0)
    }
#endif

    UNROLL for (int t = 0; t < STAGES - 1; t++) {
        if (t < turns) {
            BRING_X(t)
            BRING_W(t)
        }
        cp_async_commit();
    }
    for (int t = 0; t < turns; t++) {
#if !COPIES_WEIGHTS
        uint4* const wTo = wTiles + t % 2 * (TILE_N * SLICE_PARTS);
        UNROLL for (int i = 0; i < UNITS; i++) {
            const int unit = i * THREADS + LANE;
            if (decodes) unfold(&fetched[i], wTo, unit / SLICE_GROUPS, unit % SLICE_GROUPS * 4);
        }
#endif
        CP_ASYNC_WAIT(STAGES - 2);
        BARRIER;
        // The slice that the turn before was computed from is free.
        if (t + STAGES - 1 < turns) {
            BRING_X(t + STAGES - 1)
            BRING_W(t + STAGES - 1)
        }
        cp_async_commit();
#if !COPIES_WEIGHTS
        if (t + 1 < turns) {
            FETCH(t + 1)
        }
#endif
        const uint4* xTile = xTiles + t % STAGES * (TILE_ROWS * SLICE_PARTS);
        const uint4* wTile = wTiles + t % W_STAGES * (TILE_N * SLICE_PARTS);
        UNROLL_HALVES for (int half_of = 0; half_of < 2; half_of++) {
            uint b[BLOCKS_N][4];
            UNROLL for (int j = 0; j < BLOCKS_N; j++) ldmatrix_x4(b[j], wTile + place(warpN + 8 * j + lane % 8, 4 * half_of + lane / 8));
            UNROLL for (int k = 0; k < 2; k++) {
                uint a[BLOCKS_ROWS][4];
                UNROLL for (int i = 0; i < BLOCKS_ROWS; i++) ldmatrix_x4(a[i], xTile + place(warpRow + 16 * i + lane % 16, 4 * half_of + 2 * k + lane / 16));
                UNROLL for (int i = 0; i < BLOCKS_ROWS; i++)
                    UNROLL for (int j = 0; j < BLOCKS_N; j++) mma_bf16(sums[i][j], a[i], b[j] + 2 * k);
            }
        }
    }

    const int fragmentRow = lane / 4, fragmentN = lane % 4 * 2;
    // Pairs can be stored where every row of y begins at an even place.
    const bool even = (yColumns | at) % 2 == 0;
    UNROLL for (int i = 0; i < BLOCKS_ROWS; i++) {
        UNROLL for (int h = 0; h < 2; h++) {
            const int row = warpRow + 16 * i + 8 * h + fragmentRow;
            if (row >= rows) continue;
            GLOBAL float* to = y + (size_t)(firstRow + row) * yColumns + at + firstN + fragmentN;
#if GATED
            UNROLL for (int j = 0; j < BLOCKS_N; j += 2) {
                const int n = (warpN + 8 * j) / 2;
                const float first = gelu_tanh(sums[i][j][2 * h]) * sums[i][j + 1][2 * h], second = gelu_tanh(sums[i][j][2 * h + 1]) * sums[i][j + 1][2 * h + 1];
#else
            UNROLL for (int j = 0; j < BLOCKS_N; j++) {
                const int n = warpN + 8 * j;
                const float first = sums[i][j][2 * h], second = sums[i][j][2 * h + 1];
#endif
                const int left = count - firstN - n - fragmentN;
                if (even && left > 1) {
                    float2* pair = (float2*)(to + n);
                    const float2 before = MEETS_GATE ? *pair : make_float2(0, 0);
                    *pair = make_float2(ended(first, before.x), ended(second, before.y));
                } else {
                    if (left > 0) to[n] = ended(first, MEETS_GATE ? to[n] : 0);
                    if (left > 1) to[n + 1] = ended(second, MEETS_GATE ? to[n + 1] : 0);
                }
            }
        }
    }
}
