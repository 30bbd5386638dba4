// Rotations of a step, and on QKV rows: the q/k/v norms, the rotation and the store in the pages. GROUP: lanes of a group.

// One group a row: HEADS query heads, then key heads, then value heads where the values are not the raw keys.
KERNEL(GROUP) norm_rope_store(
    GLOBAL const int* RESTRICT step, GLOBAL const int* RESTRICT rows, GLOBAL const int* RESTRICT starts, GLOBAL const int* RESTRICT tables,
    GLOBAL const float* RESTRICT turns, const int pairs, GLOBAL const float* RESTRICT qNorm, GLOBAL const float* RESTRICT kNorm,
    GLOBAL float* RESTRICT qkv, GLOBAL uchar* RESTRICT pool, const int columns, const int startsAt, const int layerOffset, const float epsilon)
{
    SHARED float scratch[GROUP];
    SHARED float head[DIM];
    SHARED float stored[2 * DIM];
    SHARED float scales[2 * DIM / 32 + 1];
    const int row = GROUP_X, known = row < step[STEP_ROWS];
    const int isQuery = GROUP_Y < HEADS, isKey = !isQuery && GROUP_Y < HEADS + KV_HEADS;
    const int n = known ? DIM : 0;
    const size_t at = (size_t)row * columns + (size_t)GROUP_Y * DIM;

    float sum = 0;
    for (int i = LANE; i < n; i += GROUP) {
        const float x = qkv[at + i];
        head[i] = x;
        sum += x * x;
    }
    // The sum's barriers show every lane the whole head.
    const float inverse = 1.0f / sqrt(group_sum(sum, scratch) / DIM + epsilon);
    BARRIER;

    // Pairs (i, i + DIM/2): two elements a turn.
    GLOBAL const float* cosines = turns + (size_t)row * 2 * pairs;
    for (int i = LANE; i < n / 2; i += GROUP) {
        const float v0 = head[i] * inverse, v1 = head[HALF_DIM + i] * inverse;
        float x = v0, y = v1;
        if (isQuery || isKey) {
            x *= isQuery ? qNorm[i] : kNorm[i];
            y *= isQuery ? qNorm[HALF_DIM + i] : kNorm[HALF_DIM + i];
            if (i < pairs) {
                const float c = cosines[i], s = cosines[pairs + i], t = x;
                x = t * c - y * s;
                y = y * c + t * s;
            }
        }
        if (isQuery) {
            // Where values stand for keys the query takes the key norm on.
            const int folds = COMPACT && i >= PAIRS;
            qkv[at + key_place(i)] = folds ? x * kNorm[i] : x;
            qkv[at + key_place(HALF_DIM + i)] = folds ? y * kNorm[HALF_DIM + i] : y;
        } else if (isKey && COMPACT) {
            const int still = HALF_DIM - PAIRS;
            if (i < PAIRS) {
                stored[i] = x;
                stored[PAIRS + i] = y;
                stored[DIM + i] = v0;
                stored[DIM + PAIRS + i] = v1;
            } else {
                stored[PAIRS + i] = v0;
                stored[PAIRS + still + i] = v1;
            }
        } else {
            stored[i] = x;
            stored[HALF_DIM + i] = y;
            stored[DIM + i] = v0;
            stored[DIM + HALF_DIM + i] = v1;
        }
    }
    BARRIER;

    // A key's row; behind it, where values are raw keys and have a row of their own, the value's.
    const int elements = isQuery || !known ? 0 : isKey && COMPACT ? ROW_ELEMENTS : isKey && VALUE_IS_KEY ? 2 * DIM : DIM;
#if KV_TYPE == KV_Q8_0
    for (int b = LANE; b < elements / 32; b += GROUP) {
        float most = 0;
        for (int i = 0; i < 32; i++) most = fmax(most, fabs(stored[32 * b + i]));
        scales[b] = most / 127.0f;
    }
    BARRIER;
#endif
    if (elements == 0) return;
    const int kvHead = (GROUP_Y - HEADS) % KV_HEADS, position = rows[4 * row + 1], start = starts[startsAt + rows[4 * row + 2]];
    GLOBAL uchar* to = pool + kv_row(tables, start, layerOffset, kvHead, position) + (isKey ? 0 : VALUE_OFFSET);
    for (int i = LANE; i < elements; i += GROUP) {
        const int second = !COMPACT && i >= DIM;
        GLOBAL uchar* p = second ? to + VALUE_OFFSET : to;
        const int e = second ? i - DIM : i;
        const float x = stored[i];
#if KV_TYPE == KV_F32
        ((GLOBAL float*)p)[e] = x;
#elif KV_TYPE == KV_F16
        FLOAT_TO_HALF(x, p, e);
#elif KV_TYPE == KV_BF16
        ((GLOBAL ushort*)p)[e] = float_to_bf16(x);
#else
        const float scale = scales[i / 32], steps = scale == 0 ? 0 : x * (1.0f / scale);
        GLOBAL uchar* block = p + e / 32 * 34;
        if (e % 32 == 0) FLOAT_TO_HALF(scale, block, 0);
        // Halves away from zero, by the largest float below a half: with a whole one the number just below would round up.
        block[2 + e % 32] = (uchar)((int)(steps < 0 ? steps - 0.49999997f : steps + 0.49999997f) & 255);
#endif
    }
}
