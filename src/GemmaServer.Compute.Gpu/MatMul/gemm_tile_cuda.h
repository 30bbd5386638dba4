// What gemm_cuda.cu and gemm_bytes_cuda.cu have in common. GpuTile.cs chooses the constants:
// TILE_ROWS x TILE_N: a group's results. WARPS_ROWS x WARPS_N: its warps. STAGES: slices of columns in shared memory. BLOCKS: groups
// that a multiprocessor shall hold. GATED, MEETS_GATE: as in gemv.cl; in a gated tile blocks of 8 rows of gate and of up take turns, so
// that one lane has both.
#define THREADS (32 * WARPS_ROWS * WARPS_N)
#define BOUNDS THREADS, BLOCKS
#define WARP_ROWS (TILE_ROWS / WARPS_ROWS)
#define WARP_N (TILE_N / WARPS_N)
#define BLOCKS_ROWS (WARP_ROWS / 16)
#define BLOCKS_N (WARP_N / 8)
// A row of a slice: eight parts of 16 bytes.
#define SLICE_PARTS 8
// Parts of a slice that a lane brings, of rows THREADS / 8 apart.
#define BRINGS(tileRows) ((tileRows) * SLICE_PARTS / THREADS)
#define BRING_ROW(i) (LANE / SLICE_PARTS + (i) * (THREADS / SLICE_PARTS))

// Which of the tile's outputs row r of its weights gives, whether it is up's, and which row of the part it is; rows behind the last are
// that one again.
#if GATED
#define OUT_N (TILE_N / 2)
#define N_OF(r) ((r) / 16 * 8 + (r) % 8)
#define IS_UP(r) ((r) / 8 % 2 == 1)
#define W_ROW(r) ((IS_UP(r) ? uRow : wRow) + CLAMPED(r))
#define PLANES_OF(r) (IS_UP(r) ? others : planes)
#else
#define OUT_N TILE_N
#define N_OF(r) (r)
#define W_ROW(r) (wRow + CLAMPED(r))
#define PLANES_OF(r) planes
#endif
#define CLAMPED(r) (firstN + N_OF(r) < count ? firstN + N_OF(r) : count - 1)

// Where a part lies in a slice: eight rows' parts of one number are in different banks.
INLINE int place(int row, int part)
{
    return row * SLICE_PARTS + (part ^ (row & 7));
}

INLINE float ended(float value, float before)
{
    return MEETS_GATE ? gelu_tanh(before) * value : value;
}

// Stores a warp's results. places: where rows of the tile go in y; none: to firstRow and on.
INLINE void store_tile(
    const float (*sums)[BLOCKS_N][4], GLOBAL float* y, int yColumns, int at, GLOBAL const int* places, int firstRow, int rows, int firstN, int count,
    int warpRow, int warpN)
{
    const int fragmentRow = LANE % 32 / 4, fragmentN = LANE % 4 * 2;
    // Pairs can be stored where every row of y begins at an even place.
    const bool even = (yColumns | at) % 2 == 0;
    UNROLL for (int i = 0; i < BLOCKS_ROWS; i++) {
        UNROLL for (int h = 0; h < 2; h++) {
            const int row = warpRow + 16 * i + 8 * h + fragmentRow;
            if (row >= rows) continue;
            GLOBAL float* to = y + (size_t)(places ? places[row] : firstRow + row) * yColumns + at + firstN + fragmentN;
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
