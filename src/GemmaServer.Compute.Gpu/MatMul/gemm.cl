// Many rows of x against a matrix: tiles of TILE_ROWS rows of x and 64 of weights, 32 columns at a time, a lane for TILE_ROWS / 16
// by 4 results, of rows 16 apart. Headers: weights.h. TILE_ROWS: 32 or 64. MEETS_GATE, INT8, ODD: as in gemv.cl. Every sum runs along
// the columns in order, whatever the tile.
#define GROUP 256
#define TILE_N 64
#define LANE_ROWS (TILE_ROWS / 16)
#define LANE_N (TILE_N / 16)

#if INT8
#define SLOT 12         // ints of a row's 32 bytes, and a gap so that lanes read different banks
#else
#define SLOT_X (TILE_ROWS + 4)
#define SLOT_W (TILE_N + 4)
#endif

// y[row, at + n] for the rows of x and count rows of weights from w's row wRow on.
// EXPERTS: rows are places, in tiles of one expert each; a place has a row of y of its own and shares its row of x with inputUses - 1
// others. w has experts firstExpert .. firstExpert + experts - 1, the e-th's rows from wRow + e * expertRows on; tiles of others are left
// to other launches.
KERNEL(GROUP) gemm(
    GLOBAL const int* RESTRICT step, const int givenRows,
#ifdef EXPERTS
    GLOBAL const int* RESTRICT places, GLOBAL const int4* RESTRICT tiles, const int inputUses,
    const int expertRows, const int firstExpert, const int experts,
#endif
#if INT8
    GLOBAL const int4* RESTRICT x, GLOBAL const int2* RESTRICT about,
#else
    GLOBAL const float* RESTRICT x,
#endif
    WEIGHTS(w), const int wRow, const int count, GLOBAL float* RESTRICT y, const int yColumns, const int at, const int columns)
{
    const int groups = (columns + 31) / 32, firstN = GROUP_X * TILE_N, firstRow = GROUP_Y * TILE_ROWS;
#ifdef EXPERTS
    SHARED int xRows[TILE_ROWS];
    const int4 tile = tiles[GROUP_Y];
    const int expert = tile.x - firstExpert, rows = expert >= 0 && expert < experts ? tile.z : 0, wFirst = wRow + expert * expertRows;
    if (LANE < TILE_ROWS) xRows[LANE] = places[tile.y + (LANE < rows ? LANE : 0)] / inputUses;
#define X_ROW(r) xRows[r]
#define Y_ROW(r) places[tile.y + ((r) < rows ? (r) : 0)]
#else
    const int rows = (givenRows > 0 ? givenRows : step[STEP_ROWS]) - firstRow, wFirst = wRow;
#define X_ROW(r) (firstRow + ((r) < rows ? (r) : 0))
#define Y_ROW(r) (firstRow + (r))
#endif
    const int laneN = LANE % 16, laneRow = LANE / 16;
    const Planes planes = PLANES(w);
    float sums[LANE_ROWS][LANE_N];
    for (int i = 0; i < LANE_ROWS; i++)
        for (int j = 0; j < LANE_N; j++) sums[i][j] = 0;

    // A lane brings one quarter of a row of weights.
    const int bringN = LANE / 4, quarter = LANE % 4;
    const int bringStart = (wFirst + (firstN + bringN < count ? firstN + bringN : count - 1)) * groups;
    const int turns = rows > 0 ? groups : 0;

#if INT8
    SHARED int4 wTile[TILE_N * SLOT / 4];
    SHARED float4 wScales[TILE_N];
    SHARED int4 xTile[TILE_ROWS * SLOT / 4];
    SHARED int2 xAbout[TILE_ROWS];
    for (int g = 0; g < turns; g++) {
        BARRIER;
        int low, high;
        codes8(planes, bringStart + g, quarter, &low, &high);
        ((SHARED_POINTER int*)wTile)[bringN * SLOT + quarter] = low;
        ((SHARED_POINTER int*)wTile)[bringN * SLOT + 4 + quarter] = high;
        if (quarter == 0) {
            float scale[2], offset[2];
            scales32(planes, bringStart + g, scale, offset);
            float4 both;
            both.x = scale[0];
            both.y = scale[1];
            both.z = offset[0];
            both.w = offset[1];
            wScales[bringN] = both;
        }
        if (LANE < 2 * TILE_ROWS) {
            const int r = LANE / 2;
            const size_t block = (size_t)X_ROW(r) * groups + g;
            xTile[r * (SLOT / 4) + LANE % 2] = x[2 * block + LANE % 2];
            if (LANE % 2 == 0) xAbout[r] = about[block];
        }
        BARRIER;
        int q[LANE_N][8];
        float scale[LANE_N][2], offset[LANE_N][2];
        for (int j = 0; j < LANE_N; j++) {
            const int4 a = wTile[(laneN + 16 * j) * (SLOT / 4)], b = wTile[(laneN + 16 * j) * (SLOT / 4) + 1];
            const float4 both = wScales[laneN + 16 * j];
            q[j][0] = a.x;
            q[j][1] = a.y;
            q[j][2] = a.z;
            q[j][3] = a.w;
            q[j][4] = b.x;
            q[j][5] = b.y;
            q[j][6] = b.z;
            q[j][7] = b.w;
            scale[j][0] = both.x;
            scale[j][1] = both.y;
            offset[j][0] = both.z;
            offset[j][1] = both.w;
        }
        for (int i = 0; i < LANE_ROWS; i++) {
            const int4 a = xTile[(laneRow + 16 * i) * (SLOT / 4)], b = xTile[(laneRow + 16 * i) * (SLOT / 4) + 1];
            const int2 more = xAbout[laneRow + 16 * i];
            const int words[8] = { a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w };
            for (int j = 0; j < LANE_N; j++) sums[i][j] = fma(as_float(more.x), dot32(q[j], scale[j], offset[j], words, more.y), sums[i][j]);
        }
    }
#else
    SHARED float wTile[32 * SLOT_W];
    SHARED float xTile[32 * SLOT_X];
    for (int g = 0; g < turns; g++) {
        BARRIER;
        float values[8];
        decode8(planes, bringStart + g, quarter, values);
        for (int e = 0; e < 8; e++) wTile[(16 * (e / 4) + 4 * quarter + e % 4) * SLOT_W + bringN] = values[e];
        for (int i = LANE; i < 8 * TILE_ROWS; i += GROUP) {
            const int r = i / 8, column = 4 * (i % 8);
            GLOBAL const float* from = x + (size_t)X_ROW(r) * columns + 32 * g + column;
            float four[4];
#if ODD
            for (int e = 0; e < 4; e++) four[e] = 32 * g + column + e < columns ? from[e] : 0.0f;
#else
            const float4 v = *(GLOBAL const float4*)from;
            four[0] = v.x;
            four[1] = v.y;
            four[2] = v.z;
            four[3] = v.w;
#endif
            for (int e = 0; e < 4; e++) xTile[(column + e) * SLOT_X + r] = four[e];
        }
        BARRIER;
        for (int k = 0; k < 32; k++) {
            float a[LANE_ROWS], b[LANE_N];
            for (int i = 0; i < LANE_ROWS; i++) a[i] = xTile[k * SLOT_X + laneRow + 16 * i];
            for (int j = 0; j < LANE_N; j++) b[j] = wTile[k * SLOT_W + laneN + 16 * j];
            for (int i = 0; i < LANE_ROWS; i++)
                for (int j = 0; j < LANE_N; j++) sums[i][j] = fma(a[i], b[j], sums[i][j]);
        }
    }
#endif

    for (int i = 0; i < LANE_ROWS; i++) {
        const int row = laneRow + 16 * i;
        for (int j = 0; j < LANE_N; j++) {
            const int n = firstN + laneN + 16 * j;
            GLOBAL float* to = y + (size_t)Y_ROW(row) * yColumns + at + n;
            if (row < rows && n < count) *to = MEETS_GATE ? gelu_tanh(*to) * sums[i][j] : sums[i][j];
        }
    }
}
