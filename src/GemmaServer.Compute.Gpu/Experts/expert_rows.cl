// y[place, r] = W_expert[r] . x for few places at a time: 32 lanes share a weight row, and what they decode serves PLACES places.
// A sum's order depends on the columns alone, so a row's result does not depend on the places beside it.
//
// GROUP: lanes. PLACES: places a group takes. WHOSE: of which expert a group's places are.
//   0 the only one: a router; places are rows
//   1 chosen[place]; PLACES is 1
//   2 that of tile GROUP_Y, a run of sorted places
// INT8: x is in bytes, see quantise_rows.
#define ROW_LANES 32

#if IS_CUDA
#define row_sum(value, scratch) warp_sum(value)
#else
// The sum over 32 lanes, in each of them.
INLINE float row_sum(float value, SHARED float* scratch)
{
    BARRIER;
    scratch[LANE] = value;
    for (int distance = ROW_LANES / 2; distance > 0; distance /= 2) {
        BARRIER;
        if (LANE % ROW_LANES < distance) scratch[LANE] += scratch[LANE + distance];
    }
    BARRIER;
    return scratch[LANE / ROW_LANES * ROW_LANES];
}
#endif

// Groups: (rows / (GROUP / 32), places or tiles). Place p reads row p / inputUses of x. Weight rows of expert e: from
// e * expertRows + firstRow on. gate: y holds the gate and becomes gelu_tanh(gate) * value.
KERNEL(GROUP) expert_rows(
    GLOBAL const int* RESTRICT step, GLOBAL const int* RESTRICT chosen, GLOBAL const int* RESTRICT places, GLOBAL const int4* RESTRICT tiles,
    GLOBAL const uint* RESTRICT x, GLOBAL const uint2* RESTRICT scales, WEIGHTS(weights), GLOBAL float* RESTRICT y,
    const int columns, const int rowGroups, const int expertRows, const int firstRow, const int rows, const int used, const int inputUses, const int gate)
{
    SHARED float scratch[GROUP];
    const int row = GROUP_X * (GROUP / ROW_LANES) + LANE / ROW_LANES, lane = LANE % ROW_LANES;
#if WHOSE == 2
    const int4 tile = tiles[GROUP_Y];
    const int expert = tile.x, first = tile.y, count = tile.z;
#else
    const int first = GROUP_Y * PLACES, left = step[STEP_ROWS] * used - first, count = left < 0 ? 0 : left < PLACES ? left : PLACES;
#if WHOSE == 1
    const int expert = count > 0 ? chosen[first] : 0;
#else
    const int expert = 0;
#endif
#endif
    int place[PLACES];
    for (int p = 0; p < PLACES; p++) {
#if WHOSE == 2
        place[p] = p < count ? places[first + p] : 0;
#else
        place[p] = first + p;
#endif
    }

    const Planes w = PLANES(weights);
    const int firstGroup = (expert * expertRows + firstRow + row) * rowGroups;
    const int quarters = row < rows && count > 0 ? 4 * rowGroups : 0;
    float sums[PLACES];
    for (int p = 0; p < PLACES; p++) sums[p] = 0;
    for (int q = lane; q < quarters; q += ROW_LANES) {
        const int g = q / 4, k = q % 4;
#if INT8
        int low, high;
        float scale[2], offset[2];
        codes8(w, firstGroup + g, k, &low, &high);
        scales32(w, firstGroup + g, scale, offset);
        for (int p = 0; p < PLACES; p++) {
            if (p < count) {
                const size_t block = (size_t)(place[p] / inputUses) * rowGroups + g;
                const uint2 about = scales[block];
                // What the codes' zero and offset add is the group's, not a quarter's.
                const int sumLow = k == 0 ? (int)(about.y << 16) >> 16 : 0, sumHigh = k == 0 ? (int)about.y >> 16 : 0;
                const int dotLow = dot4(low, (int)x[8 * block + k], 0) - ZERO * sumLow, dotHigh = dot4(high, (int)x[8 * block + 4 + k], 0) - ZERO * sumHigh;
                sums[p] += as_float(about.x) * (scale[0] * (float)dotLow + scale[1] * (float)dotHigh + offset[0] * (float)sumLow + offset[1] * (float)sumHigh);
            }
        }
#else
        float v[8];
        decode8(w, firstGroup + g, k, v);
        for (int p = 0; p < PLACES; p++) {
            if (p < count) {
                GLOBAL const float* in = (GLOBAL const float*)x + (size_t)(place[p] / inputUses) * columns;
                const float4 a = four_of(in, 32 * g + 4 * k, columns), b = four_of(in, 32 * g + 16 + 4 * k, columns);
                sums[p] += v[0] * a.x + v[1] * a.y + v[2] * a.z + v[3] * a.w + v[4] * b.x + v[5] * b.y + v[6] * b.z + v[7] * b.w;
            }
        }
#endif
    }
    for (int p = 0; p < PLACES; p++) {
        const float sum = row_sum(sums[p], scratch);
        if (lane == 0 && row < rows && p < count) {
            GLOBAL float* out = y + (size_t)place[p] * rows + row;
            *out = gate ? gelu_tanh(*out) * sum : sum;
        }
    }
}
