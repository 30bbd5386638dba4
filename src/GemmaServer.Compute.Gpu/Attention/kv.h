// Rows of a layer's keys and values in a page; the layout is CpuKvCache's. Given: DIM, KEY_DIM (fewer than DIM: a compact row is
// key and value at once, see CompactRow), KV_HEADS, TOKENS_PER_PAGE, PAGE_BYTES, KV_TYPE (KvCacheType), ALIGNED (four elements
// lie on a multiple of their size).
#define KV_F32 0
#define KV_F16 1
#define KV_BF16 2
#define KV_Q8_0 3

#define HALF_DIM (DIM / 2)
#define COMPACT (KEY_DIM < DIM)
#define PAIRS (KEY_DIM / 2)
#define ROW_ELEMENTS (COMPACT ? DIM + KEY_DIM : DIM)

#if KV_TYPE == KV_F32
#define BYTES_OF(elements) ((elements) * 4)
#elif KV_TYPE == KV_Q8_0
#define BYTES_OF(elements) ((elements) / 32 * 34)
#else
#define BYTES_OF(elements) ((elements) * 2)
#endif
#define ROW_BYTES BYTES_OF(ROW_ELEMENTS)
// From a key to its value.
#define VALUE_OFFSET (COMPACT ? BYTES_OF(KEY_DIM) : KV_HEADS * TOKENS_PER_PAGE * ROW_BYTES)

// Where a head's key of a position lies in the pool.
INLINE ulong kv_row(GLOBAL const int* tables, int start, int layerOffset, int head, int position)
{
    return (ulong)tables[start + position / TOKENS_PER_PAGE] * PAGE_BYTES + layerOffset + (ulong)(head * TOKENS_PER_PAGE + position % TOKENS_PER_PAGE) * ROW_BYTES;
}

// Four elements of a row, the first a multiple of four.
INLINE float4 kv_load4(GLOBAL const uchar* row, int first)
{
    float4 x;
#if KV_TYPE == KV_F32
#if ALIGNED
    x = *(GLOBAL const float4*)(row + 4 * first);
#else
    GLOBAL const float* p = (GLOBAL const float*)row + first;
    x.x = p[0]; x.y = p[1]; x.z = p[2]; x.w = p[3];
#endif
#elif KV_TYPE == KV_F16
#if ALIGNED && IS_CUDA
    const uint2 bits = *(GLOBAL const uint2*)(row + 2 * first);
    x.x = half_bits_to_float((ushort)(bits.x & 0xffffu)); x.y = half_bits_to_float((ushort)(bits.x >> 16));
    x.z = half_bits_to_float((ushort)(bits.y & 0xffffu)); x.w = half_bits_to_float((ushort)(bits.y >> 16));
#else
    x.x = HALF_TO_FLOAT(row, first); x.y = HALF_TO_FLOAT(row, first + 1); x.z = HALF_TO_FLOAT(row, first + 2); x.w = HALF_TO_FLOAT(row, first + 3);
#endif
#elif KV_TYPE == KV_BF16
#if ALIGNED
    const uint2 bits = *(GLOBAL const uint2*)(row + 2 * first);
    x.x = as_float(bits.x << 16); x.y = as_float(bits.x & 0xffff0000u);
    x.z = as_float(bits.y << 16); x.w = as_float(bits.y & 0xffff0000u);
#else
    GLOBAL const ushort* p = (GLOBAL const ushort*)row + first;
    x.x = bf16_to_float(p[0]); x.y = bf16_to_float(p[1]); x.z = bf16_to_float(p[2]); x.w = bf16_to_float(p[3]);
#endif
#else
    GLOBAL const uchar* block = row + first / 32 * 34;
    const float scale = HALF_TO_FLOAT(block, 0);
    // Blocks lie on even addresses.
    GLOBAL const ushort* p = (GLOBAL const ushort*)(block + 2 + first % 32);
    const int low = p[0], high = p[1];
    x.x = scale * (((low & 255) ^ 128) - 128); x.y = scale * (((low >> 8) ^ 128) - 128);
    x.z = scale * (((high & 255) ^ 128) - 128); x.w = scale * (((high >> 8) ^ 128) - 128);
#endif
    return x;
}

// Where an element of a rotated query or key goes in the order of a compact key.
INLINE int key_place(int i)
{
    return !COMPACT || i < PAIRS || i >= HALF_DIM + PAIRS ? i : i < HALF_DIM ? PAIRS + i : PAIRS + i - HALF_DIM;
}

// Where the model has an element of a sum of values in their stored order.
INLINE int model_place(int i)
{
    const int still = HALF_DIM - PAIRS;
    if (!COMPACT) return i;
    if (i < still) return PAIRS + i;
    if (i < 2 * still) return HALF_DIM + PAIRS + i - still;
    return i < 2 * still + PAIRS ? i - 2 * still : HALF_DIM + i - 2 * still - PAIRS;
}
