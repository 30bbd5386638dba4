// Attention of a prompt's rows on tensor cores, in the manner of FlashAttention-2: a group takes the queries of a block (rows of one
// sequence times heads of one key/value head, which share what is read of it) through tiles of KEYS keys, which begin at multiples of
// KEYS. Queries are rounded to the pages' type (f16 or bf16), and so are the weights e^(score - best); sums, best and total are f32.
// Headers: kv.h, cuda_tensor.h. The arguments are attend.cl's. AttentionTile.cs chooses the constants:
//
// QUERIES: rows * heads of a group, rounded up to the tile; HEADS and HEADS_PER_KV as in attend.cl. The group's warps stand twice over
// the tile: as SCORE_WARPS_ROWS x SCORE_WARPS_KEYS over the scores [QUERIES][KEYS], and as WARPS_ROWS x WARPS_COLUMNS over the sums
// [QUERIES][DIM]. BLOCKS: groups that a multiprocessor shall hold.
//
// A row's result does not depend on the rows beside it: tiles of keys lie at the same positions for every block, a key that a query
// does not see has a weight of exactly zero, and a tile without one that it sees changes nothing.
//
// Why these shapes. Fragments from shared memory bound such a kernel: of 128 bytes a clock, 60 % of Hopper's peak, which is what
// mma.sync reaches, would ask for 1 byte for 19 operations. Warps of 32 queries x 128 columns of the sums ask for 1 for 26, where 16
// queries x 256 would ask for 1 for 15 and share no row's keys; both fill half of the registers with sums. Scores of 32 x 32 (heads of
// 256) ask for 1 for 16, of 16 x 16 (heads of 512, whose keys fill shared memory) for 1 for 8; so weights go from warp to warp through
// shared memory. Memory behind the second cache sees keys and values once for QUERIES rows. Rows of the tiles are 16 bytes longer than
// what they hold: eight rows side by side are in different banks, at addresses that differ by constants.
//
// Dynamic shared memory; AttentionTile.SharedBytes counts the same:
//   queries [QUERIES][DIM + 8]               rounded
//   tiles   [2][KEYS][ROW_ELEMENTS + 8]      keys, then values; of compact pages, whose rows are both, this tile's and the next one's
//   weights [QUERIES][KEYS + 8]              rounded
//   rowAt   [2][KEYS]                        where rows begin in the pool
//   parts   [SCORE_WARPS_KEYS][QUERIES]      a row's best of a warp's keys; at the end its total
//   rescale [QUERIES]                        what a row's sums are multiplied by
#define THREADS (32 * WARPS_ROWS * WARPS_COLUMNS)
#define BOUNDS THREADS, BLOCKS
#define QUERY_STRIDE (DIM + 8)
#define KEY_STRIDE (ROW_ELEMENTS + 8)
#define WEIGHT_STRIDE (KEYS + 8)
#define TILE (KEYS * KEY_STRIDE)
// A warp's part of the scores and of the sums, in fragments of 16 queries x 8 keys or columns.
#define SCORE_ROWS (QUERIES / SCORE_WARPS_ROWS)
#define SCORE_KEYS (KEYS / SCORE_WARPS_KEYS)
#define SCORE_BLOCKS_ROWS (SCORE_ROWS / 16)
#define SCORE_BLOCKS_KEYS (SCORE_KEYS / 8)
#define WARP_ROWS (QUERIES / WARPS_ROWS)
#define WARP_COLUMNS (DIM / WARPS_COLUMNS)
#define BLOCKS_ROWS (WARP_ROWS / 16)
#define BLOCKS_COLUMNS (WARP_COLUMNS / 8)
// Parts of 16 bytes, and the lanes side by side that bring a row's.
#define ROW_PARTS (ROW_ELEMENTS / 8)
#define ROW_LANES (ROW_PARTS % 32 == 0 ? 32 : ROW_PARTS % 16 == 0 ? 16 : ROW_PARTS % 8 == 0 ? 8 : ROW_PARTS % 4 == 0 ? 4 : ROW_PARTS % 2 == 0 ? 2 : 1)
#define ROWS_AT_ONCE (THREADS / ROW_LANES)
#define BRINGS ((KEYS + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE)
// Far below every score; finite, so that differences are numbers.
#define UNSEEN -3.0e38f
#define LOG2_OF_E 1.4426950408889634f

#if KV_TYPE == KV_F16
#define MMA mma_f16
#define PACK pack_f16
// The largest half; an infinite query would make its zeros' products no numbers.
#define IN_RANGE(x) fminf(fmaxf(x, -65504.0f), 65504.0f)
#else
#define MMA mma_bf16
#define PACK pack_bf16
#define IN_RANGE(x) (x)
#endif

// Rounds a block's queries into shared memory; what is behind the last is zero.
INLINE void bring_queries(GLOBAL const float* qkv, int qkvColumns, int firstRow, int rowCount, int firstHead, ushort* queries)
{
    for (int i = LANE; i < QUERIES * DIM / 4; i += THREADS) {
        const int q = i / (DIM / 4), e = i % (DIM / 4) * 4, row = q / HEADS;
        float4 x = make_float4(0, 0, 0, 0);
        if (row < rowCount) {
            GLOBAL const float* from = qkv + (size_t)(firstRow + row) * qkvColumns + (firstHead + q % HEADS) * DIM + e;
            x = qkvColumns % 4 == 0 ? *(GLOBAL const float4*)from : make_float4(from[0], from[1], from[2], from[3]);
        }
        *(uint2*)(queries + q * QUERY_STRIDE + e) = make_uint2(PACK(IN_RANGE(x.x), IN_RANGE(x.y)), PACK(IN_RANGE(x.z), IN_RANGE(x.w)));
    }
}

#define IS_ROW(i) (KEYS % ROWS_AT_ONCE == 0 || (i) * ROWS_AT_ONCE + first < KEYS)
// Sends a tile's rows on their way, offset bytes behind where they begin.
INLINE void bring_rows(GLOBAL const uchar* const* rowAt, int offset, ushort* tile)
{
    const int first = LANE / ROW_LANES, part = LANE % ROW_LANES;
    // Eight places at once: each would wait for its own otherwise, because no reading passes a copy.
    UNROLL for (int firstBring = 0; firstBring < BRINGS; firstBring += 8) {
        GLOBAL const uchar* from[8];
        UNROLL for (int i = 0; i < 8; i++)
            if (firstBring + i < BRINGS && IS_ROW(firstBring + i)) from[i] = rowAt[(firstBring + i) * ROWS_AT_ONCE + first] + offset + 16 * part;
        UNROLL for (int i = 0; i < 8; i++)
            if (firstBring + i < BRINGS && IS_ROW(firstBring + i))
                UNROLL for (int j = 0; j < ROW_PARTS; j += ROW_LANES)
                    cp_async_16(tile + ((firstBring + i) * ROWS_AT_ONCE + first) * KEY_STRIDE + 8 * (part + j), from[i] + 16 * j);
    }
    cp_async_commit();
}

// A warp's scores: its queries times its keys.
INLINE void multiply_keys(float (*scores)[SCORE_BLOCKS_KEYS][4], const ushort* queries, const ushort* keys)
{
    const int lane = LANE % 32;
    const ushort* const a0 = queries + lane % 16 * QUERY_STRIDE + lane / 16 * 8;
    const ushort* const b0 = keys + (lane % 8 + lane / 16 * 8) * KEY_STRIDE + lane / 8 % 2 * 8;
    const ushort* const b1 = keys + lane % 8 * KEY_STRIDE + lane / 8 % 2 * 8;
    _Pragma("unroll 4") for (int k = 0; k < DIM; k += 16) {
        uint a[SCORE_BLOCKS_ROWS][4], b[(SCORE_BLOCKS_KEYS + 1) / 2][4];
        UNROLL for (int i = 0; i < SCORE_BLOCKS_ROWS; i++) ldmatrix_x4(a[i], a0 + 16 * i * QUERY_STRIDE + k);
        UNROLL for (int j = 0; j < SCORE_BLOCKS_KEYS; j += 2) {
            if (j + 1 < SCORE_BLOCKS_KEYS) ldmatrix_x4(b[j / 2], b0 + 8 * j * KEY_STRIDE + k);
            else ldmatrix_x2(b[j / 2], b1 + 8 * j * KEY_STRIDE + k);
        }
        UNROLL for (int i = 0; i < SCORE_BLOCKS_ROWS; i++)
            UNROLL for (int j = 0; j < SCORE_BLOCKS_KEYS; j++) MMA(scores[i][j], a[i], b[j / 2] + j % 2 * 2);
    }
}

// Adds a tile's values, by their weights, to a warp's sums.
INLINE void add_values(float (*sums)[BLOCKS_COLUMNS][4], const ushort* weights, const ushort* values)
{
    const int lane = LANE % 32;
    const ushort* const a0 = weights + lane % 16 * WEIGHT_STRIDE + lane / 16 * 8;
    const ushort* const b0 = values + lane % 16 * KEY_STRIDE + lane / 16 * 8;
    UNROLL for (int k = 0; k < KEYS; k += 16) {
        uint a[BLOCKS_ROWS][4];
        UNROLL for (int i = 0; i < BLOCKS_ROWS; i++) ldmatrix_x4(a[i], a0 + 16 * i * WEIGHT_STRIDE + k);
        UNROLL for (int j = 0; j < BLOCKS_COLUMNS; j += 2) {
            uint b[4];
            ldmatrix_x4_trans(b, b0 + k * KEY_STRIDE + 8 * j);
            UNROLL for (int i = 0; i < BLOCKS_ROWS; i++) {
                MMA(sums[i][j], a[i], b);
                MMA(sums[i][j + 1], a[i], b + 2);
            }
        }
    }
}

KERNEL(BOUNDS) attend(
    GLOBAL const int* RESTRICT blocks, GLOBAL const int* RESTRICT rows, GLOBAL const int* RESTRICT starts, GLOBAL const int* RESTRICT tables,
    GLOBAL const uchar* RESTRICT pool, GLOBAL const float* RESTRICT qkv, GLOBAL float* RESTRICT heads, GLOBAL float* RESTRICT stats,
    const int qkvColumns, const int headColumns, const int startsAt, const int layerOffset, const int window, const int pastOnly, const int chunks)
{
    DYNAMIC_SHARED(ushort, queries);
    ushort* const tiles = queries + QUERIES * QUERY_STRIDE;
    ushort* const weights = tiles + 2 * TILE;
    GLOBAL const uchar** const rowAt = (GLOBAL const uchar**)(weights + QUERIES * WEIGHT_STRIDE);
    float* const parts = (float*)(rowAt + 2 * KEYS);
    float* const rescale = parts + SCORE_WARPS_KEYS * QUERIES;

    const bool known = GROUP_Z < blocks[0];
    const int firstRow = known ? blocks[2 + 2 * GROUP_Z] : 0, rowCount = known ? blocks[3 + 2 * GROUP_Z] : 0;
    const int position = rows[4 * firstRow + 1], start = starts[startsAt + rows[4 * firstRow + 2]];
    const int kvHead = GROUP_Y / (HEADS_PER_KV / HEADS), firstHead = GROUP_Y * HEADS;
    const int from = window > 0 ? max(position - window + 1, 0) : 0, to = position + rowCount - pastOnly;
    const int firstTile = from / KEYS, turns = known && to > from ? (to + KEYS - 1) / KEYS - firstTile : 0;
    // Keys that every row of the block sees.
    const int firstForAll = window > 0 ? position + rowCount - window : 0, lastForAll = position - pastOnly;

    const int warp = LANE / 32, g = LANE % 32 / 4, t = LANE % 4;
    const int scoreRow = warp / SCORE_WARPS_KEYS * SCORE_ROWS, keyWarp = warp % SCORE_WARPS_KEYS, scoreKey = keyWarp * SCORE_KEYS;
    const int sumRow = warp / WARPS_COLUMNS * WARP_ROWS, sumColumn = warp % WARPS_COLUMNS * WARP_COLUMNS;

    // A lane a row, of more lanes than KEYS. What no row of the block sees is not read: one that is seen stands there, with no weight.
#define ROW_OF(turn) (pool + kv_row(tables, start, layerOffset, kvHead, min(max((firstTile + (turn)) * KEYS + LANE, from), to - 1)))

    float best[SCORE_BLOCKS_ROWS][2], total[SCORE_BLOCKS_ROWS][2];
    UNROLL for (int i = 0; i < SCORE_BLOCKS_ROWS; i++) {
        best[i][0] = best[i][1] = UNSEEN;
        total[i][0] = total[i][1] = 0;
    }
    float sums[BLOCKS_ROWS][BLOCKS_COLUMNS][4];
    UNROLL for (int i = 0; i < BLOCKS_ROWS; i++)
        UNROLL for (int j = 0; j < BLOCKS_COLUMNS; j++) sums[i][j][0] = sums[i][j][1] = sums[i][j][2] = sums[i][j][3] = 0;

    if (turns > 0 && LANE < KEYS) {
        rowAt[LANE] = ROW_OF(0);
        rowAt[KEYS + LANE] = ROW_OF(1);
    }
    BARRIER;
    if (turns > 0) bring_rows(rowAt, 0, tiles);
    bring_queries(qkv, qkvColumns, firstRow, rowCount, firstHead, queries);

    for (int turn = 0; turn < turns; turn++) {
        CP_ASYNC_WAIT(0);
        // The tile is there, and nobody needs the one before, its weights or its places any more.
        BARRIER;
#if COMPACT
        const ushort* const keys = tiles + turn % 2 * TILE;
        const ushort* const values = keys + KEY_DIM;
        if (turn + 1 < turns) bring_rows(rowAt + (turn + 1) % 2 * KEYS, 0, tiles + (turn + 1) % 2 * TILE);
#else
        const ushort* const keys = tiles;
        const ushort* const values = tiles + TILE;
        bring_rows(rowAt + turn % 2 * KEYS, VALUE_OFFSET, tiles + TILE);
#endif
        // Asked for now, stored after the scores: the table is far away.
        GLOBAL const uchar* later = pool;
        if (LANE < KEYS) later = ROW_OF(turn + 2);

        // 1. Scores, and each row's best of this warp's keys.
        float scores[SCORE_BLOCKS_ROWS][SCORE_BLOCKS_KEYS][4];
        UNROLL for (int i = 0; i < SCORE_BLOCKS_ROWS; i++)
            UNROLL for (int j = 0; j < SCORE_BLOCKS_KEYS; j++) scores[i][j][0] = scores[i][j][1] = scores[i][j][2] = scores[i][j][3] = 0;
        multiply_keys(scores, queries + scoreRow * QUERY_STRIDE, keys + scoreKey * KEY_STRIDE);
        const int firstKey = (firstTile + turn) * KEYS;
        if (firstKey < firstForAll || firstKey + KEYS - 1 > lastForAll) {
            UNROLL for (int i = 0; i < SCORE_BLOCKS_ROWS; i++) {
                UNROLL for (int h = 0; h < 2; h++) {
                    const int row = (scoreRow + 16 * i + 8 * h + g) / HEADS;
                    // The last key that the row sees, and the one before its first.
                    const int last = row < rowCount ? position + row - pastOnly : -1, before = window > 0 ? position + row - window : -1;
                    UNROLL for (int j = 0; j < SCORE_BLOCKS_KEYS; j++) {
                        UNROLL for (int e = 0; e < 2; e++) {
                            const int key = firstKey + scoreKey + 8 * j + 2 * t + e;
                            if (key > last || key <= before) scores[i][j][2 * h + e] = UNSEEN;
                        }
                    }
                }
            }
        }
        UNROLL for (int i = 0; i < SCORE_BLOCKS_ROWS; i++) {
            UNROLL for (int h = 0; h < 2; h++) {
                float most = UNSEEN;
                UNROLL for (int j = 0; j < SCORE_BLOCKS_KEYS; j++) most = fmaxf(most, fmaxf(scores[i][j][2 * h], scores[i][j][2 * h + 1]));
                most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
                most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
                if (t == 0) parts[keyWarp * QUERIES + scoreRow + 16 * i + 8 * h + g] = most;
            }
        }
        BARRIER;
#if COMPACT
        if (LANE < KEYS) rowAt[turn % 2 * KEYS + LANE] = later;
#endif

        // 2. Weights.
        UNROLL for (int i = 0; i < SCORE_BLOCKS_ROWS; i++) {
            UNROLL for (int h = 0; h < 2; h++) {
                const int q = scoreRow + 16 * i + 8 * h + g;
                float most = best[i][h], sum = 0;
                UNROLL for (int w = 0; w < SCORE_WARPS_KEYS; w++) most = fmaxf(most, parts[w * QUERIES + q]);
                // Before a row's first key its best is UNSEEN: less nothing, an unseen key's power is still zero.
                const float scale = exp2_approximate((best[i][h] - most) * LOG2_OF_E), less = most > UNSEEN ? most * LOG2_OF_E : 0.0f;
                UNROLL for (int j = 0; j < SCORE_BLOCKS_KEYS; j++) {
                    const float w0 = exp2_approximate(fmaf(scores[i][j][2 * h], LOG2_OF_E, -less));
                    const float w1 = exp2_approximate(fmaf(scores[i][j][2 * h + 1], LOG2_OF_E, -less));
                    sum += w0;
                    sum += w1;
                    *(uint*)(weights + q * WEIGHT_STRIDE + scoreKey + 8 * j + 2 * t) = PACK(w0, w1);
                }
                best[i][h] = most;
                total[i][h] = total[i][h] * scale + sum;
                if (keyWarp == 0 && t == 0) rescale[q] = scale;
            }
        }
#if !COMPACT
        CP_ASYNC_WAIT(0);
#endif
        BARRIER;
#if !COMPACT
        if (turn + 1 < turns) bring_rows(rowAt + (turn + 1) % 2 * KEYS, 0, tiles);
        if (LANE < KEYS) rowAt[turn % 2 * KEYS + LANE] = later;
#endif

        // 3. Values. After some tiles a row's best mostly stays.
        float scale[BLOCKS_ROWS][2];
        bool changes = false;
        UNROLL for (int i = 0; i < BLOCKS_ROWS; i++) {
            UNROLL for (int h = 0; h < 2; h++) {
                scale[i][h] = rescale[sumRow + 16 * i + 8 * h + g];
                changes |= scale[i][h] != 1.0f;
            }
        }
        if (__any_sync(0xffffffffu, changes)) {
            UNROLL for (int i = 0; i < BLOCKS_ROWS; i++)
                UNROLL for (int j = 0; j < BLOCKS_COLUMNS; j++)
                    UNROLL for (int e = 0; e < 4; e++) sums[i][j][e] *= scale[i][e / 2];
        }
        add_values(sums, weights + sumRow * WEIGHT_STRIDE, values + sumColumn);
    }

    UNROLL for (int i = 0; i < SCORE_BLOCKS_ROWS; i++) {
        UNROLL for (int h = 0; h < 2; h++) {
            float sum = total[i][h];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            if (t == 0) parts[keyWarp * QUERIES + scoreRow + 16 * i + 8 * h + g] = sum;
        }
    }
    BARRIER;
    // Pairs can be stored where every row begins at an even place.
    const bool even = headColumns % 2 == 0;
    UNROLL for (int i = 0; i < BLOCKS_ROWS; i++) {
        UNROLL for (int h = 0; h < 2; h++) {
            const int q = sumRow + 16 * i + 8 * h + g, row = q / HEADS;
            if (row >= rowCount) continue;
            float sum = 0;
            UNROLL for (int w = 0; w < SCORE_WARPS_KEYS; w++) sum += parts[w * QUERIES + q];
            // Only a query without its own key may see none at all.
            const float inverse = sum > 0 ? 1.0f / sum : 0.0f;
            GLOBAL float* const head = heads + (size_t)(firstRow + row) * headColumns + (firstHead + q % HEADS) * DIM;
            UNROLL for (int j = 0; j < BLOCKS_COLUMNS; j++) {
                GLOBAL float* y = head + model_place(sumColumn + 8 * j + 2 * t);
                const float first = sums[i][j][2 * h] * inverse, second = sums[i][j][2 * h + 1] * inverse;
                if (even) {
                    *(float2*)y = make_float2(first, second);
                } else {
                    y[0] = first;
                    y[1] = second;
                }
            }
        }
    }
}
