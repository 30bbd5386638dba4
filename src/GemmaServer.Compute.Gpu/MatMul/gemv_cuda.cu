// Few rows of x against a matrix, exact: a warp for OUT / (GATED ? 2 : 1) rows of weights, read once for ROWS rows of x. Headers:
// weights.h, cuda_tensor.h. ROWS, GATED, MEETS_GATE: as in gemv.cl. OUT: rows of weights that a warp reads side by side. SPLIT: warps that
// share them, each with every SPLIT-th tile of columns: matrices of few rows have no other way to keep all multiprocessors reading.
// Columns are a multiple of 4.
//
// Memory is the limit, so what counts is bytes under way: about 30 KB a multiprocessor at 4.8 TB/s and 0.8 us. A warp has OUT rows of the
// next tile of 1,024 columns under way while it computes: 4 KiB of 16-bit weights, 2 KiB of bytes or of half bytes (OUT is 4 for those);
// 16 warps a multiprocessor are 64 or 32 KiB. Every lane loads 16 bytes at a time, and 32 lanes 512 in a row, except that of types with
// fewer bits a lane has a whole group. x comes through shared memory (cp.async, three tiles in turn, one barrier a tile), its parts of 16
// bytes put where lanes side by side find theirs side by side: slot_of.
#define GROUP 128
#define WARPS (GROUP / 32)
#define TILE 1024
#define TILE_PARTS (TILE / 4)
#define STAGES 3
#define WARP_N (GATED ? OUT / 2 : OUT)
#define GROUP_N (WARPS / SPLIT * WARP_N)

#if CODE_BITS == 16
#define LOADS 4
#elif CODE_BITS == 8
#define LOADS 2
#endif

// What a lane has of a row's tile: eight times four weights, the k-th of which meet the x in slot 32 k + lane.
typedef struct {
#ifdef LOADS
    uint4 raw[LOADS];
#else
    int q[8];
#endif
#if CODE_BITS == 8
    float scale[LOADS];
#elif IS_QUANTISED
    float scale[2], offset[2];
#endif
} Fetched;

// Where part f of a tile (columns 4f .. 4f + 3) lies.
INLINE int slot_of(int f)
{
#if CODE_BITS == 16
    return (f / 64 * 2 + f % 2) * 32 + f / 2 % 32;
#elif CODE_BITS == 8
    // Half groups; in one, elements 8h .. 8h + 3, 16 + 8h .., 8h + 4 .., 20 + 8h .. (see repack.cl).
    const int half_group = f / 8 * 2 + f % 4 / 2;
    return (half_group / 32 * 4 + f % 2 * 2 + f % 8 / 4) * 32 + half_group % 32;
#else
    return f % 8 * 32 + f / 8;
#endif
}

// Tile t of the row that begins with group start. What is behind the last group is that one again: x is zero there.
INLINE void fetch(Planes w, int start, int t, int groups, int lane, Fetched* to)
{
#if CODE_BITS == 16
    UNROLL for (int i = 0; i < LOADS; i++) {
        const int chunk = t * (TILE / 8) + i * 32 + lane, last = 4 * groups - 1;
        to->raw[i] = load_once_16((GLOBAL const uint4*)w.codes + 4 * (size_t)start + (chunk < last ? chunk : last));
    }
#elif CODE_BITS == 8
    UNROLL for (int i = 0; i < LOADS; i++) {
        const int half_group = t * (TILE / 16) + i * 32 + lane, last = 2 * groups - 1, at = half_group < last ? half_group : last;
        to->raw[i] = load_once_16((GLOBAL const uint4*)w.codes + 2 * (size_t)start + at);
        to->scale[i] = HALF_TO_FLOAT(w.scales, (size_t)start + at / 2);
    }
#else
    const int g = t * (TILE / 32) + lane, group = start + (g < groups ? g : groups - 1);
    codes32(w, group, to->q);
    scales32(w, group, to->scale, to->offset);
#endif
}

// Weights 4k .. 4k + 3 of a lane; of quantised types the codes, which are scaled when 16 of them have met their x: three instructions a
// weight, where a multiprocessor has 128 lanes a clock for the 30 to 40 weights of four bits that memory brings.
INLINE void weights_of(const Fetched* from, int k, float* v)
{
#if CODE_BITS == 16
    const uint a = k % 2 == 0 ? from->raw[k / 2].x : from->raw[k / 2].z, b = k % 2 == 0 ? from->raw[k / 2].y : from->raw[k / 2].w;
#if TYPE == TYPE_BF16
    v[0] = as_float(a << 16);
    v[1] = as_float(a & 0xffff0000u);
    v[2] = as_float(b << 16);
    v[3] = as_float(b & 0xffff0000u);
#else
    v[0] = half_bits_to_float((ushort)a);
    v[1] = half_bits_to_float((ushort)(a >> 16));
    v[2] = half_bits_to_float((ushort)b);
    v[3] = half_bits_to_float((ushort)(b >> 16));
#endif
#else
#if CODE_BITS == 8
    const uint4 raw = from->raw[k / 4];
    const uint word = k % 4 == 0 ? raw.x : k % 4 == 1 ? raw.y : k % 4 == 2 ? raw.z : raw.w;
#else
    const uint word = (uint)from->q[k];
#endif
    for (int i = 0; i < 4; i++) v[i] = VALUE_AT(word, i);
#endif
}

// y[row, at + n] for the rows of x and count rows of weights from w's row wRow (and u's row uRow) on.
KERNEL(GROUP) gemv(
    GLOBAL const int* RESTRICT step, const int givenRows, GLOBAL const float* RESTRICT x, WEIGHTS(w), const int wRow,
#if GATED
    WEIGHTS(u), const int uRow,
#endif
    const int count, GLOBAL float* RESTRICT y, const int yColumns, const int at, const int columns)
{
    // [STAGES][SPLIT][ROWS][TILE_PARTS]
    DYNAMIC_SHARED(float4, tiles);
    SHARED float partial[WARPS][OUT * ROWS];
    const int lane = LANE % 32, warp = LANE / 32, share = warp % SPLIT, groups = (columns + 31) / 32;
    const int firstRow = GROUP_Y * ROWS, rows = (givenRows > 0 ? givenRows : step[STEP_ROWS]) - firstRow;
    const int n = GROUP_X * GROUP_N + warp / SPLIT * WARP_N;
    const int tileCount = (columns + TILE - 1) / TILE, turns = rows > 0 ? (tileCount + SPLIT - 1) / SPLIT : 0;
    const Planes planes = PLANES(w);
#if GATED
    const Planes others = PLANES(u);
#define PLANES_OF(o) ((o) % 2 == 0 ? planes : others)
#define N_OF(o) (n + (o) / 2)
#define FIRST_OF(o) ((o) % 2 == 0 ? wRow : uRow)
#else
#define PLANES_OF(o) planes
#define N_OF(o) (n + (o))
#define FIRST_OF(o) wRow
#endif
    // First groups of the rows; what lies behind the last row is computed from that one and not stored.
    int start[OUT];
    UNROLL for (int o = 0; o < OUT; o++) start[o] = (FIRST_OF(o) + (N_OF(o) < count ? N_OF(o) : count - 1)) * groups;

#define BRING_X(s) \
    UNROLL for (int i = 0; i < SPLIT * ROWS * TILE_PARTS / GROUP; i++) { \
        const int r = i * GROUP / TILE_PARTS % ROWS, t = i * GROUP / TILE_PARTS / ROWS, f = i * GROUP % TILE_PARTS + LANE; \
        const int column = ((s) * SPLIT + t) * TILE + 4 * f; \
        const bool isThere = r < rows && column < columns; \
        cp_async_16_if(tiles + (((s) % STAGES * SPLIT + t) * ROWS + r) * TILE_PARTS + slot_of(f), x + (isThere ? (size_t)(firstRow + r) * columns + column : 0), isThere); \
    }
#define FETCH(s, to) UNROLL for (int o = 0; o < OUT; o++) fetch(PLANES_OF(o), start[o], (s) * SPLIT + share, groups, lane, &to[o]);

    float sums[OUT][ROWS];
    UNROLL for (int o = 0; o < OUT; o++)
        UNROLL for (int r = 0; r < ROWS; r++) sums[o][r] = 0;
    Fetched now[OUT], next[OUT];
    if (turns > 0) {
        FETCH(0, now)
    }
    UNROLL for (int s = 0; s < STAGES - 1; s++) {
        if (s < turns) {
            BRING_X(s)
        }
        cp_async_commit();
    }
    for (int s = 0; s < turns; s++) {
        if (s + 1 < turns) {
            FETCH(s + 1, next)
        }
        CP_ASYNC_WAIT(STAGES - 2);
        BARRIER;
        // The tile that the turn before was computed from is free.
        if (s + STAGES - 1 < turns) {
            BRING_X(s + STAGES - 1)
        }
        cp_async_commit();
        const float4* tile = tiles + (s % STAGES * SPLIT + share) * (ROWS * TILE_PARTS) + lane;
        UNROLL for (int h = 0; h < 2; h++) {
#if IS_QUANTISED
            float part[OUT][ROWS], total[ROWS];
            UNROLL for (int r = 0; r < ROWS; r++) {
                total[r] = 0;
                UNROLL for (int o = 0; o < OUT; o++) part[o][r] = 0;
            }
#else
#define part sums
#endif
            UNROLL for (int k = 4 * h; k < 4 * h + 4; k++) {
                float v[OUT][4];
                UNROLL for (int o = 0; o < OUT; o++) weights_of(&now[o], k, v[o]);
                UNROLL for (int r = 0; r < ROWS; r++) {
                    const float4 four = tile[r * TILE_PARTS + 32 * k];
                    UNROLL for (int o = 0; o < OUT; o++)
                        part[o][r] = fma(v[o][3], four.w, fma(v[o][2], four.z, fma(v[o][1], four.y, fma(v[o][0], four.x, part[o][r]))));
#if HAS_OFFSET
                    total[r] += four.x + four.y + (four.z + four.w);
#endif
                }
            }
#if IS_QUANTISED
            UNROLL for (int o = 0; o < OUT; o++) {
                UNROLL for (int r = 0; r < ROWS; r++) {
                    sums[o][r] = fma(now[o].scale[h], part[o][r], sums[o][r]);
#if HAS_OFFSET
                    sums[o][r] = fma(now[o].offset[h], total[r], sums[o][r]);
#endif
                }
            }
#endif
        }
        UNROLL for (int o = 0; o < OUT; o++) now[o] = next[o];
    }

    UNROLL for (int o = 0; o < OUT; o++) {
        UNROLL for (int r = 0; r < ROWS; r++) {
            const float sum = warp_sum(sums[o][r]);
            if (lane == 0) partial[warp][o * ROWS + r] = sum;
        }
    }
    BARRIER;
    // A lane of the first of the warps that share rows ends one result.
    const int r = lane / WARP_N, i = lane % WARP_N;
    if (share > 0 || r >= ROWS || r >= rows || n + i >= count) return;
    float first = 0, second = 0;
    for (int s = 0; s < SPLIT; s++) {
        first += partial[warp + s][(GATED ? 2 * i : i) * ROWS + r];
        if (GATED) second += partial[warp + s][(2 * i + 1) * ROWS + r];
    }
    GLOBAL float* to = y + (size_t)(firstRow + r) * yColumns + at + n + i;
    *to = GATED ? gelu_tanh(first) * second : MEETS_GATE ? gelu_tanh(*to) * first : first;
}
