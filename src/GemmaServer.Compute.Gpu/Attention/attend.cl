// Attention over the pages: a group takes the queries of a block (rows of one sequence times heads of one key/value head) through
// chunks of CHUNK keys, which begin at multiples of CHUNK. A key that a query does not see has a weight of exactly zero, and each
// query's sums have a fixed order, so who shares a block changes no bit.
//
// Given beside kv.h's: GROUP = CHUNK = 256 lanes: one for each key of a chunk; HEADS: heads of a group, HEADS_PER_KV / HEADS groups for a
// key/value head; ROWS: rows of a block; QUERIES: ROWS * HEADS rounded up to four; SLICE: elements of a key in shared memory at a
// time; SPLIT: a group takes one chunk and leaves its sums to merge_chunks.
//
// Shared memory, one after the other in the same place:
//   tile    [CHUNK][SLICE + 1]               keys, decoded: a lane goes through its own without bank conflicts
//   weights [QUERIES][CHUNK + 16]            scores, then e^(score - best)
//   sums    [KEY_GROUPS - 1][4][DIM]         what the lanes that took other keys add
#define CHUNK GROUP
#define TILE_STRIDE (SLICE + 1)
#define WEIGHT_STRIDE (CHUNK + 16)
#define PARTS (GROUP / QUERIES)
#define QUADS (DIM / 4)
#define MAXIMUM(a, b) ((a) > (b) ? (a) : (b))
#define POOL MAXIMUM(MAXIMUM(CHUNK * TILE_STRIDE, QUERIES * WEIGHT_STRIDE), (KEY_GROUPS - 1) * 4 * DIM)
// Far below every score; finite, so that differences are numbers.
#define UNSEEN -3.0e38f

KERNEL(GROUP) attend(
    GLOBAL const int* RESTRICT blocks, GLOBAL const int* RESTRICT rows, GLOBAL const int* RESTRICT starts, GLOBAL const int* RESTRICT tables,
    GLOBAL const uchar* RESTRICT pool, GLOBAL const float* RESTRICT qkv, GLOBAL float* RESTRICT heads, GLOBAL float* RESTRICT stats,
    const int qkvColumns, const int headColumns, const int startsAt, const int layerOffset, const int window, const int pastOnly, const int chunks)
{
    SHARED float4 shared4[(POOL + 3) / 4];
    SHARED float4 queries4[SLICE * QUERIES / 4];
    SHARED ulong keyAt[CHUNK];
    SHARED float parts[GROUP];
    SHARED float best[QUERIES], total[QUERIES], rescale[QUERIES];
    SHARED_POINTER float* shared = (SHARED_POINTER float*)shared4;
    SHARED_POINTER float* queries = (SHARED_POINTER float*)queries4;

    const int known = GROUP_Z < blocks[0];
    const int firstRow = known ? blocks[2 + 2 * GROUP_Z] : 0, rowCount = known ? blocks[3 + 2 * GROUP_Z] : 0;
    const int position = rows[4 * firstRow + 1], start = starts[startsAt + rows[4 * firstRow + 2]];
    const int groups = HEADS_PER_KV / HEADS, kvHead = GROUP_Y / groups, firstHead = GROUP_Y * HEADS;
    const int from = window > 0 ? max(position - window + 1, 0) : 0, to = position + rowCount - pastOnly;
    const int firstChunk = from / CHUNK, afterLast = known && to > from ? (to + CHUNK - 1) / CHUNK : firstChunk;
#if SPLIT
    const int begin = firstChunk + GROUP_X, end = min(begin + 1, afterLast);
#else
    const int begin = firstChunk, end = afterLast;
#endif
    const int group = LANE / QUADS, column = LANE % QUADS * 4;
    const int query = LANE / PARTS, part = LANE % PARTS;

    float sums[4 * QUERIES];
    UNROLL
    for (int i = 0; i < 4 * QUERIES; i++) sums[i] = 0;
    if (LANE < QUERIES) {
        best[LANE] = UNSEEN;
        total[LANE] = 0;
    }

    for (int chunk = begin; chunk < end; chunk++) {
        const int first = chunk * CHUNK, low = max(from - first, 0), high = min(to - first, CHUNK);
        BARRIER;
        if (LANE >= low && LANE < high) keyAt[LANE] = kv_row(tables, start, layerOffset, kvHead, first + LANE);

        // 1. Scores: this lane's key with every query.
        float scores[QUERIES];
        UNROLL
        for (int q = 0; q < QUERIES; q++) scores[q] = 0;
        for (int slice = 0; slice < DIM; slice += SLICE) {
            BARRIER;
            for (int i = LANE; i < CHUNK * SLICE / 4; i += GROUP) {
                const int key = i / (SLICE / 4), e = i % (SLICE / 4) * 4;
                if (key >= low && key < high) {
                    const float4 k = kv_load4(pool + keyAt[key], slice + e);
                    SHARED_POINTER float* t = shared + key * TILE_STRIDE + e;
                    t[0] = k.x;
                    t[1] = k.y;
                    t[2] = k.z;
                    t[3] = k.w;
                }
            }
            for (int i = LANE; i < SLICE * QUERIES; i += GROUP) {
                const int q = i / SLICE, e = i % SLICE, row = q / HEADS;
                queries[e * QUERIES + q] = row < rowCount ? qkv[(size_t)(firstRow + row) * qkvColumns + (firstHead + q % HEADS) * DIM + slice + e] : 0.0f;
            }
            BARRIER;
            for (int e = 0; e < SLICE; e++) {
                const float k = shared[LANE * TILE_STRIDE + e];
                UNROLL
                for (int q = 0; q < QUERIES / 4; q++) {
                    const float4 x = queries4[e * (QUERIES / 4) + q];
                    scores[4 * q] += k * x.x;
                    scores[4 * q + 1] += k * x.y;
                    scores[4 * q + 2] += k * x.z;
                    scores[4 * q + 3] += k * x.w;
                }
            }
        }
        BARRIER;
        UNROLL
        for (int q = 0; q < QUERIES; q++) {
            const int row = q / HEADS, own = position + row, key = first + LANE;
            const int seen = LANE >= low && LANE < high && row < rowCount && key <= own - pastOnly && (window == 0 || key > own - window);
            shared[q * WEIGHT_STRIDE + LANE] = seen ? scores[q] : UNSEEN;
        }
        BARRIER;

        // 2. Softmax: PARTS lanes for each query.
        float most = UNSEEN, sum = 0;
        if (query < QUERIES)
            for (int key = part; key < CHUNK; key += PARTS) most = fmax(most, shared[query * WEIGHT_STRIDE + key]);
        parts[LANE] = most;
        BARRIER;
        if (query < QUERIES) {
            most = best[query];
            for (int i = 0; i < PARTS; i++) most = fmax(most, parts[query * PARTS + i]);
            for (int key = part; key < CHUNK; key += PARTS) {
                const float score = shared[query * WEIGHT_STRIDE + key], weight = score > UNSEEN ? exp(score - most) : 0.0f;
                shared[query * WEIGHT_STRIDE + key] = weight;
                sum += weight;
            }
        }
        BARRIER;
        parts[LANE] = sum;
        BARRIER;
        if (query < QUERIES && part == 0) {
            sum = 0;
            for (int i = 0; i < PARTS; i++) sum += parts[query * PARTS + i];
            rescale[query] = exp(best[query] - most);
            total[query] = total[query] * rescale[query] + sum;
            best[query] = most;
        }
        BARRIER;

        // 3. Values: four keys at a time, a lane for four elements.
        UNROLL
        for (int q = 0; q < QUERIES; q++) {
            const float scale = rescale[q];
            sums[4 * q] *= scale;
            sums[4 * q + 1] *= scale;
            sums[4 * q + 2] *= scale;
            sums[4 * q + 3] *= scale;
        }
        if (group < KEY_GROUPS) {
            for (int key = 4 * group; key < high; key += 4 * KEY_GROUPS) {
                if (key + 4 <= low) continue;
                float4 v[4];
                UNROLL
                for (int i = 0; i < 4; i++) {
                    // What is not seen by any query may hold anything.
                    if (key + i >= low && key + i < high) v[i] = kv_load4(pool + keyAt[key + i] + VALUE_OFFSET, column);
                    else v[i].x = v[i].y = v[i].z = v[i].w = 0;
                }
                UNROLL
                for (int q = 0; q < QUERIES; q++) {
                    const float4 w = shared4[(q * WEIGHT_STRIDE + key) / 4];
                    sums[4 * q] += w.x * v[0].x;
                    sums[4 * q] += w.y * v[1].x;
                    sums[4 * q] += w.z * v[2].x;
                    sums[4 * q] += w.w * v[3].x;
                    sums[4 * q + 1] += w.x * v[0].y;
                    sums[4 * q + 1] += w.y * v[1].y;
                    sums[4 * q + 1] += w.z * v[2].y;
                    sums[4 * q + 1] += w.w * v[3].y;
                    sums[4 * q + 2] += w.x * v[0].z;
                    sums[4 * q + 2] += w.y * v[1].z;
                    sums[4 * q + 2] += w.z * v[2].z;
                    sums[4 * q + 2] += w.w * v[3].z;
                    sums[4 * q + 3] += w.x * v[0].w;
                    sums[4 * q + 3] += w.y * v[1].w;
                    sums[4 * q + 3] += w.z * v[2].w;
                    sums[4 * q + 3] += w.w * v[3].w;
                }
            }
        }
    }

    // The lanes of the first keys add up what the others have, four queries at a time.
    UNROLL
    for (int q = 0; q < QUERIES; q += 4) {
        BARRIER;
        if (group > 0 && group < KEY_GROUPS) {
            UNROLL
            for (int i = 0; i < 16; i++) shared[((group - 1) * 4 + i / 4) * DIM + column + i % 4] = sums[4 * q + i];
        }
        BARRIER;
        if (group == 0) {
            for (int g = 0; g < KEY_GROUPS - 1; g++) {
                UNROLL
                for (int i = 0; i < 16; i++) sums[4 * q + i] += shared[(g * 4 + i / 4) * DIM + column + i % 4];
            }
        }
    }

    UNROLL
    for (int q = 0; q < QUERIES; q++) {
        const int row = q / HEADS, head = firstHead + q % HEADS;
        if (row >= rowCount) continue;
#if SPLIT
        if (begin >= end) continue;
        const size_t place = ((size_t)GROUP_Z * (KV_HEADS * HEADS_PER_KV) + head) * chunks + GROUP_X;
        if (group == 0) {
            UNROLL
            for (int i = 0; i < 4; i++) heads[place * DIM + column + i] = sums[4 * q + i];
        }
        if (LANE == 0) {
            stats[2 * place] = best[q];
            stats[2 * place + 1] = total[q];
        }
#else
        // Only a query without its own key may see none at all.
        const float inverse = total[q] > 0 ? 1.0f / total[q] : 0.0f;
        if (group == 0) {
            UNROLL
            for (int i = 0; i < 4; i++) heads[(size_t)(firstRow + row) * headColumns + head * DIM + model_place(column + i)] = sums[4 * q + i] * inverse;
        }
#endif
    }
}
