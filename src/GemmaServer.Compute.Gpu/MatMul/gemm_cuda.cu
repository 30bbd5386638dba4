// Many rows of x against a matrix on tensor cores: bf16 products, f32 sums. x is in bf16 (round_rows.cu); bf16 weights are taken as they
// are, others are decoded and rounded to bf16. A slice of STAGES has 64 columns. EXPERTS: a mixture's product: rows of x are places of one
// expert each (see expert_rows.cl), TILE_ROWS at most to a tile. Headers: weights.h, cuda_tensor.h, gemm_tile_cuda.h.
//
// Every sum runs along the columns in order, 16 at a time, whatever the tile: a row's result does not depend on the rows beside it.
//
// Why these shapes. A warp's tile of 64 x 64 reads 4 KiB of fragments from shared memory for 32 tensor instructions (1 byte for 32
// operations); four such warps ask for 64 bytes a clock on sm_80 and, at the 60 % that mma.sync reaches there, 77 on sm_90, of 128.
// 64 x 32, which leaves registers for decoding, asks for 96 and 115. A group's tile of 128 x 256 reads 1 byte from the second cache for
// 85 operations: 4.7 TB/s at 400 TFLOPS, where 128 x 128 would ask for 6.2. Rows of a slice are 128 bytes; xor with the row's lowest
// bits puts the 16-byte parts of eight rows side by side in different banks, for ldmatrix and for whoever writes.
// Neighbouring groups take other rows of the same weights: these come from memory once.

// A slice: two groups of columns.
#define SLICE_GROUPS 2
#define COPIES_WEIGHTS (TYPE == TYPE_BF16)
#define W_STAGES (COPIES_WEIGHTS ? STAGES : 2)
#define UNITS ((TILE_N * SLICE_GROUPS + THREADS - 1) / THREADS)
#if COPIES_WEIGHTS
#define UNROLL_HALVES UNROLL
#else
// Decoding leaves no registers for the fragments of two halves.
#define UNROLL_HALVES _Pragma("unroll 1")
#endif

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

// y[row, at + n] for the rows of x and count rows of weights from w's row wRow (and u's row uRow) on. Groups: (row tiles, tiles of n).
KERNEL(BOUNDS) gemm(
#if EXPERTS
    // wRow: of each expert's expertRows. Place p reads row p / inputUses of x. Experts as in gemm.cl.
    GLOBAL const int* RESTRICT placesOf, GLOBAL const int4* RESTRICT runs, const int expertRows, const int firstExpert, const int experts, const int inputUses,
    GLOBAL const uint4* RESTRICT x, WEIGHTS(w), const int firstOfExpert,
#else
    GLOBAL const int* RESTRICT step, const int givenRows, GLOBAL const uint4* RESTRICT x, WEIGHTS(w), const int wRow,
#endif
#if GATED
    WEIGHTS(u), const int uRow,
#endif
    const int count, GLOBAL float* RESTRICT y, const int yColumns, const int at, const int columns)
{
    DYNAMIC_SHARED(uint4, memory);
    uint4* const xTiles = memory;
    uint4* const wTiles = memory + STAGES * TILE_ROWS * SLICE_PARTS;
    const int groups = (columns + 31) / 32, firstN = GROUP_Y * OUT_N;
#if EXPERTS
    const int4 run = runs[GROUP_X];
    const int expert = run.x - firstExpert, rows = expert >= 0 && expert < experts ? run.z : 0;
    const int firstRow = run.y, wRow = expert * expertRows + firstOfExpert;
    GLOBAL const int* const places = placesOf + firstRow;
#define X_ROW(r) (rows > 0 ? places[(r) < rows ? (r) : 0] / inputUses : 0)
#define PLACES_OR_NONE places
#else
    const int firstRow = GROUP_X * TILE_ROWS, rows = (givenRows > 0 ? givenRows : step[STEP_ROWS]) - firstRow;
#define X_ROW(r) (firstRow + ((r) < rows ? (r) : 0))
#define PLACES_OR_NONE 0
#endif
    const int turns = rows > 0 ? (groups + SLICE_GROUPS - 1) / SLICE_GROUPS : 0;
    const int lane = LANE % 32, warpRow = LANE / 32 / WARPS_N * WARP_ROWS, warpN = LANE / 32 % WARPS_N * WARP_N;
    const Planes planes = PLANES(w);
#if GATED
    const Planes others = PLANES(u);
#endif

    float sums[BLOCKS_ROWS][BLOCKS_N][4];
    UNROLL for (int i = 0; i < BLOCKS_ROWS; i++)
        UNROLL for (int j = 0; j < BLOCKS_N; j++) sums[i][j][0] = sums[i][j][1] = sums[i][j][2] = sums[i][j][3] = 0;

    // Where a lane's first part of a slice comes from and goes to; the rows of its next ones are THREADS / 8 apart. In units of 16 bytes.
    const int bringPart = LANE % SLICE_PARTS, bringTo = place(LANE / SLICE_PARTS, bringPart);
    const uint parts = 4 * groups;
    uint xFrom[BRINGS(TILE_ROWS)];
    UNROLL for (int i = 0; i < BRINGS(TILE_ROWS); i++) xFrom[i] = (uint)X_ROW(BRING_ROW(i)) * parts + bringPart;
#define BRING_X(t) \
    UNROLL for (int i = 0; i < BRINGS(TILE_ROWS); i++) { \
        const bool isThere = (t) * SLICE_PARTS + bringPart < parts; \
        cp_async_16_if(xTiles + (t) % STAGES * (TILE_ROWS * SLICE_PARTS) + bringTo + i * THREADS, x + (isThere ? xFrom[i] + (t) * SLICE_PARTS : 0u), isThere); \
    }

#if COPIES_WEIGHTS
    uint wFrom[BRINGS(TILE_N)];
    UNROLL for (int i = 0; i < BRINGS(TILE_N); i++) wFrom[i] = (uint)W_ROW(BRING_ROW(i)) * parts + bringPart;
#define BRING_W(t) \
    UNROLL for (int i = 0; i < BRINGS(TILE_N); i++) { \
        const bool isThere = (t) * SLICE_PARTS + bringPart < parts; \
        cp_async_16_if(wTiles + (t) % STAGES * (TILE_N * SLICE_PARTS) + bringTo + i * THREADS, (GLOBAL const uint4*)PLANES_OF(BRING_ROW(i)).codes + (isThere ? wFrom[i] + (t) * SLICE_PARTS : 0u), isThere); \
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
        if (decodes) fetch(PLANES_OF(r), W_ROW(r) * groups + (g < groups ? g : groups - 1), &fetched[i]); \
    }
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

    store_tile(sums, y, yColumns, at, PLACES_OR_NONE, firstRow, rows, firstN, count, warpRow, warpN);
}
