// y[place, r] = W_expert[r] . x for few places at a time: 32 lanes share a weight row, and what they decode serves PLACES places.
// A sum's order depends on the columns alone, so a row's result does not depend on the places beside it.
//
// GROUP: lanes. PLACES: places a group takes: 1, a place as it comes, or more, those of a tile (routing.cl).
// INT8: x is in bytes (quantise.cl). MEETS_GATE: y holds the gate, and these weights are up.
#define ROW_LANES 32

// Elements c .. c + 3 of a row, zeros behind its end. ODD: columns are no multiple of 32.
INLINE float4 four_of(GLOBAL const float* row, int c, int columns)
{
#if ODD
    float4 v;
    v.x = c < columns ? row[c] : 0.0f;
    v.y = c + 1 < columns ? row[c + 1] : 0.0f;
    v.z = c + 2 < columns ? row[c + 2] : 0.0f;
    v.w = c + 3 < columns ? row[c + 3] : 0.0f;
    return v;
#else
    return *(GLOBAL const float4*)(row + c);
#endif
}

// Groups: (count / (GROUP / 32), places or tiles). y[place, at + n] for count rows of weights, expert e's from w's row
// wRow + e * expertRows on. A place shares its row of x with inputUses - 1 others; a row of the step has used places. With one place to
// a group, places gives its expert. w has experts firstExpert .. firstExpert + experts - 1; places of others are left to other launches.
// The arguments are gemm.cl's.
KERNEL(GROUP) expert_rows(
    GLOBAL const int* RESTRICT step, const int used, GLOBAL const int* RESTRICT places, GLOBAL const int4* RESTRICT tiles, const int inputUses,
    const int expertRows, const int firstExpert, const int experts,
#if INT8
    GLOBAL const int* RESTRICT x, GLOBAL const int2* RESTRICT abouts,
#else
    GLOBAL const float* RESTRICT x,
#endif
    WEIGHTS(w), const int wRow, const int count, GLOBAL float* RESTRICT y, const int yColumns, const int at, const int columns)
{
    SHARED float scratch[GROUP];
    const int n = GROUP_X * (GROUP / ROW_LANES) + LANE / ROW_LANES, lane = LANE % ROW_LANES, groups = (columns + 31) / 32;
#if PLACES == 1
    const int first = GROUP_Y, expert = first < step[STEP_ROWS] * used ? places[first] - firstExpert : -1, all = 1;
#else
    const int4 tile = tiles[GROUP_Y];
    const int expert = tile.x - firstExpert, first = tile.y, all = tile.z;
#endif
    const int rows = expert >= 0 && expert < experts ? all : 0;
    int yRow[PLACES], xRow[PLACES];
    for (int p = 0; p < PLACES; p++) {
        yRow[p] = PLACES == 1 ? first : p < rows ? places[first + p] : 0;
        xRow[p] = yRow[p] / inputUses;
    }

    const Planes planes = PLANES(w);
    const int start = (wRow + expert * expertRows + n) * groups, quarters = n < count && rows > 0 ? 4 * groups : 0;
    float sums[PLACES];
    for (int p = 0; p < PLACES; p++) sums[p] = 0;
    for (int q = lane; q < quarters; q += ROW_LANES) {
        const int g = q / 4, k = q % 4;
#if INT8
        int low, high;
        float scale[2], offset[2];
        codes8(planes, start + g, k, &low, &high);
        scales32(planes, start + g, scale, offset);
        for (int p = 0; p < PLACES; p++) {
            if (p < rows) {
                const size_t block = (size_t)xRow[p] * groups + g;
                const int2 about = abouts[block];
                // What the codes' zero and offset add is the group's, not a quarter's.
                const int sumLow = k == 0 ? (int)((uint)about.y << 16) >> 16 : 0, sumHigh = k == 0 ? about.y >> 16 : 0;
                const int dotLow = dot4(low, x[8 * block + k], 0) - ZERO * sumLow, dotHigh = dot4(high, x[8 * block + 4 + k], 0) - ZERO * sumHigh;
                sums[p] += as_float(about.x) * (scale[0] * (float)dotLow + scale[1] * (float)dotHigh + offset[0] * (float)sumLow + offset[1] * (float)sumHigh);
            }
        }
#else
        float v[8];
        decode8(planes, start + g, k, v);
        for (int p = 0; p < PLACES; p++) {
            if (p < rows) {
                GLOBAL const float* in = x + (size_t)xRow[p] * columns;
                const float4 a = four_of(in, 32 * g + 4 * k, columns), b = four_of(in, 32 * g + 16 + 4 * k, columns);
                sums[p] += v[0] * a.x + v[1] * a.y + v[2] * a.z + v[3] * a.w + v[4] * b.x + v[5] * b.y + v[6] * b.z + v[7] * b.w;
            }
        }
#endif
    }
    for (int p = 0; p < PLACES; p++) {
        const float sum = warp_total(sums[p], scratch);
        if (lane == 0 && n < count && p < rows) {
            GLOBAL float* out = y + (size_t)yRow[p] * yColumns + at + n;
            *out = MEETS_GATE ? gelu_tanh(*out) * sum : sum;
        }
    }
}
