// Stored weights on the device, one type to a program: TYPE (ggml's id), BLOCK, CODE_BITS, HIGH_BITS come from WeightFormat.cs,
// which also draws the planes. A group is 32 consecutive columns of a row; group g of row r is number r * groups of a row + g.
//
// Codes of four bits: byte i has element i in its low half, i + 16 in its high one. Codes or high parts of two bits: bits 2k, 2k + 1
// of byte b of word h are element 16h + 4k + b. High parts of one bit: bit i is element i. Codes of eight bits: eight bytes for each
// quarter. So quarter k of a group (elements 4k .. 4k + 3 and 16 + 4k .. 16 + 4k + 3) comes from one or two words in every type.
#define TYPE_F32 0
#define TYPE_F16 1
#define TYPE_Q4_0 2
#define TYPE_Q4_1 3
#define TYPE_Q5_0 6
#define TYPE_Q5_1 7
#define TYPE_Q8_0 8
#define TYPE_Q2_K 10
#define TYPE_Q3_K 11
#define TYPE_Q4_K 12
#define TYPE_Q5_K 13
#define TYPE_Q6_K 14
#define TYPE_IQ4_NL 20
#define TYPE_IQ4_XS 23
#define TYPE_BF16 30
#define TYPE_MXFP4 39

#define PLANE_UNIT 256
#define IS_QUANTISED (CODE_BITS <= 8)
#define IS_TABLED (TYPE == TYPE_IQ4_NL || TYPE == TYPE_IQ4_XS || TYPE == TYPE_MXFP4)

// Types that only scale: value = scale * (code - ZERO). Others: value = scale * code + offset.
#if TYPE == TYPE_Q4_0
#define ZERO 8
#elif TYPE == TYPE_Q5_0
#define ZERO 16
#elif TYPE == TYPE_Q6_K
#define ZERO 32
#elif TYPE == TYPE_Q3_K
#define ZERO 4
#else
#define ZERO 0
#endif
#define HAS_OFFSET (TYPE == TYPE_Q4_1 || TYPE == TYPE_Q5_1 || TYPE == TYPE_Q2_K || TYPE == TYPE_Q4_K || TYPE == TYPE_Q5_K)

// A part's planes: as kernel arguments (GpuPart.AddTo gives them), and taken together.
#define WEIGHTS(name) GLOBAL const uchar* RESTRICT name, const int name##_high, const int name##_scales, const int name##_more
#define PLANES(name) planes_of(name, name##_high, name##_scales, name##_more)

typedef struct {
    GLOBAL const uchar* codes;
    GLOBAL const uchar* high;
    GLOBAL const uchar* scales;
    GLOBAL const uchar* more;
} Planes;

INLINE Planes planes_of(GLOBAL const uchar* w, int high, int scales, int more)
{
    Planes p;
    p.codes = w;
    p.high = w + (size_t)high * PLANE_UNIT;
    p.scales = w + (size_t)scales * PLANE_UNIT;
    p.more = w + (size_t)more * PLANE_UNIT;
    return p;
}

#if IS_QUANTISED

#if TYPE == TYPE_MXFP4
// Twice the E2M1 values.
#define TABLE_WORDS { 0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu }
#elif IS_TABLED
// -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113
#define TABLE_WORDS { 0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u }
#endif

#if IS_TABLED
TABLE uint code_table[4] = TABLE_WORDS;

// The table's bytes for eight nibbles: those of the low halves, then those of the high ones.
INLINE void through_table(uint nibbles, int* low, int* high)
{
#if IS_CUDA
    const uint words[4] = TABLE_WORDS;
    // Bit 3 of a nibble chooses between two halves of the table that its lower bits have already been looked up in.
    const uint halves = 0x32103210u | ((nibbles & 0x88888888u) >> 1);
    uint found[2];
    for (int i = 0; i < 2; i++) {
        const uint n = nibbles >> (16 * i);
        const uint lower = __byte_perm(words[0], words[1], n & 0x7777u), upper = __byte_perm(words[2], words[3], n & 0x7777u);
        found[i] = __byte_perm(lower, upper, halves >> (16 * i));
    }
    *low = (int)__byte_perm(found[0], found[1], 0x6420);
    *high = (int)__byte_perm(found[0], found[1], 0x7531);
#else
    uint a = 0, b = 0;
    for (int i = 0; i < 4; i++) {
        const uint n = nibbles >> (8 * i) & 15u, m = nibbles >> (8 * i + 4) & 15u;
        a |= (code_table[n / 4] >> (8 * (n % 4)) & 255u) << (8 * i);
        b |= (code_table[m / 4] >> (8 * (m % 4)) & 255u) << (8 * i);
    }
    *low = (int)a;
    *high = (int)b;
#endif
}
#endif

// Bits 0 .. 3 to the lowest bits of four bytes.
INLINE uint spread_bits(uint bits)
{
    return (bits & 15u) * 0x00204081u & 0x01010101u;
}

// A quarter's codes as four bytes each: elements 4k .. 4k + 3 to *low, 16 + 4k .. to *high. a, b: the quarter's words of the
// codes (b only of eight bits; of two bits the group's both words); ha, hb: the group's words of the high plane.
INLINE void unpack_quarter(uint a, uint b, uint ha, uint hb, int k, int* low, int* high)
{
#if CODE_BITS == 8
    *low = (int)a;
    *high = (int)b;
#elif IS_TABLED
    through_table(a, low, high);
#else
#if CODE_BITS == 4
    uint l = a & 0x0f0f0f0fu, h = a >> 4 & 0x0f0f0f0fu;
#else
    uint l = a >> (2 * k) & 0x03030303u, h = b >> (2 * k) & 0x03030303u;
#endif
#if HIGH_BITS == 1
    l |= spread_bits(ha >> (4 * k)) << CODE_BITS;
    h |= spread_bits(ha >> (16 + 4 * k)) << CODE_BITS;
#elif HIGH_BITS == 2
    l |= (ha >> (2 * k) & 0x03030303u) << CODE_BITS;
    h |= (hb >> (2 * k) & 0x03030303u) << CODE_BITS;
#endif
    *low = (int)l;
    *high = (int)h;
#endif
}

INLINE void high_words(Planes w, int group, uint* a, uint* b)
{
#if HIGH_BITS == 1
    *a = ((GLOBAL const uint*)w.high)[group];
    *b = 0;
#elif HIGH_BITS == 2
    const uint2 v = ((GLOBAL const uint2*)w.high)[group];
    *a = v.x;
    *b = v.y;
#else
    *a = *b = 0;
#endif
}

// One quarter of a group, for lanes that share groups by four.
INLINE void codes8(Planes w, int group, int k, int* low, int* high)
{
    uint ha, hb;
    high_words(w, group, &ha, &hb);
#if CODE_BITS == 8
    const uint2 v = ((GLOBAL const uint2*)w.codes)[4 * (size_t)group + k];
    unpack_quarter(v.x, v.y, ha, hb, k, low, high);
#elif CODE_BITS == 4
    unpack_quarter(((GLOBAL const uint*)w.codes)[4 * (size_t)group + k], 0, ha, hb, k, low, high);
#else
    const uint2 v = ((GLOBAL const uint2*)w.codes)[group];
    unpack_quarter(v.x, v.y, ha, hb, k, low, high);
#endif
}

// A whole group: q[i] has elements 4i .. 4i + 3 as signed bytes, to be taken with ZERO, scales and offsets.
INLINE void codes32(Planes w, int group, int* q)
{
    uint ha, hb;
    high_words(w, group, &ha, &hb);
#if CODE_BITS == 8
    const uint4 v = ((GLOBAL const uint4*)w.codes)[2 * (size_t)group], u = ((GLOBAL const uint4*)w.codes)[2 * (size_t)group + 1];
    unpack_quarter(v.x, v.y, ha, hb, 0, &q[0], &q[4]);
    unpack_quarter(v.z, v.w, ha, hb, 1, &q[1], &q[5]);
    unpack_quarter(u.x, u.y, ha, hb, 2, &q[2], &q[6]);
    unpack_quarter(u.z, u.w, ha, hb, 3, &q[3], &q[7]);
#elif CODE_BITS == 4
    const uint4 v = ((GLOBAL const uint4*)w.codes)[group];
    unpack_quarter(v.x, 0, ha, hb, 0, &q[0], &q[4]);
    unpack_quarter(v.y, 0, ha, hb, 1, &q[1], &q[5]);
    unpack_quarter(v.z, 0, ha, hb, 2, &q[2], &q[6]);
    unpack_quarter(v.w, 0, ha, hb, 3, &q[3], &q[7]);
#else
    const uint2 v = ((GLOBAL const uint2*)w.codes)[group];
    unpack_quarter(v.x, v.y, ha, hb, 0, &q[0], &q[4]);
    unpack_quarter(v.x, v.y, ha, hb, 1, &q[1], &q[5]);
    unpack_quarter(v.x, v.y, ha, hb, 2, &q[2], &q[6]);
    unpack_quarter(v.x, v.y, ha, hb, 3, &q[3], &q[7]);
#endif
}

// Scale and offset of a group's two halves, exact in f32; the offset is 0 where types only scale.
INLINE void scales32(Planes w, int group, float* scale, float* offset)
{
    offset[0] = offset[1] = 0;
#if TYPE == TYPE_MXFP4
    const uint e = w.scales[group];
    scale[0] = scale[1] = as_float(e < 2u ? 0x00200000u << e : (e - 1u) << 23);
#elif BLOCK == 32
#if HAS_OFFSET
    scale[0] = scale[1] = HALF_TO_FLOAT(w.scales, 2 * (size_t)group);
    offset[0] = offset[1] = HALF_TO_FLOAT(w.scales, 2 * (size_t)group + 1);
#else
    scale[0] = scale[1] = HALF_TO_FLOAT(w.scales, (size_t)group);
#endif
#else
    const size_t block = group / 8;
    const int j = group % 8;
#if TYPE == TYPE_Q4_K || TYPE == TYPE_Q5_K
    // Halves d and dmin, then six-bit scales and minima: BlockParts.SixBitScales draws them.
    const uint4 v = ((GLOBAL const uint4*)w.scales)[block];
    const int shift = 8 * (j & 3);
    const uint a = v.y >> shift, b = v.z >> shift, c = v.w >> shift;
    const uint s = j < 4 ? a & 63u : (c & 15u) | (a >> 2 & 48u);
    const uint m = j < 4 ? b & 63u : (c >> 4 & 15u) | (b >> 2 & 48u);
    scale[0] = scale[1] = HALF_TO_FLOAT(w.scales, 8 * block) * (float)s;
    offset[0] = offset[1] = -(HALF_TO_FLOAT(w.scales, 8 * block + 1) * (float)m);
#elif TYPE == TYPE_IQ4_XS
    // Half d, two upper bits of eight scales, four lower bits.
    const uint2 v = ((GLOBAL const uint2*)w.scales)[block];
    const uint s = (v.y >> (4 * j) & 15u) | (v.x >> (16 + 2 * j) & 3u) << 4;
    scale[0] = scale[1] = HALF_TO_FLOAT(w.scales, 4 * block) * (float)((int)s - 32);
#elif TYPE == TYPE_Q2_K
    const uint s = ((GLOBAL const ushort*)w.scales)[8 * block + j];
    const float d = HALF_TO_FLOAT(w.more, 2 * block), dmin = HALF_TO_FLOAT(w.more, 2 * block + 1);
    scale[0] = d * (float)(s & 15u);
    scale[1] = d * (float)(s >> 8 & 15u);
    offset[0] = -(dmin * (float)(s >> 4 & 15u));
    offset[1] = -(dmin * (float)(s >> 12 & 15u));
#elif TYPE == TYPE_Q3_K
    GLOBAL const uchar* s = w.scales + 12 * block;
    const float d = HALF_TO_FLOAT(w.more, block);
    for (int h = 0; h < 2; h++) {
        const int g = 2 * j + h;
        scale[h] = d * (float)((int)((s[g & 7] >> (4 * (g >> 3)) & 15) | (s[8 + (g & 3)] >> (2 * (g >> 2)) & 3) << 4) - 32);
    }
#elif TYPE == TYPE_Q6_K
    const float d = HALF_TO_FLOAT(w.more, block);
    GLOBAL const schar* s = (GLOBAL const schar*)w.scales + 16 * block + 2 * j;
    scale[0] = d * (float)s[0];
    scale[1] = d * (float)s[1];
#endif
#endif
}

// Byte i of a word, signed.
INLINE int code_at(int word, int i)
{
    return (int)((uint)word << (24 - 8 * i)) >> 24;
}

// Four values from a word of codes. Not more than one rounding: the products are exact.
INLINE void values_of(int word, float scale, float offset, float* values)
{
    for (int i = 0; i < 4; i++) {
        const float product = (float)(code_at(word, i) - ZERO) * scale;
        values[i] = HAS_OFFSET ? product + offset : product;
    }
}

#endif

// The 32 values of a group, bit for bit as ggml decodes them.
INLINE void decode32(Planes w, int group, float* values)
{
#if IS_QUANTISED
    int q[8];
    float scale[2], offset[2];
    codes32(w, group, q);
    scales32(w, group, scale, offset);
    for (int i = 0; i < 8; i++) values_of(q[i], scale[i / 4], offset[i / 4], values + 4 * i);
#elif TYPE == TYPE_F32
    for (int i = 0; i < 8; i++) {
        const float4 v = ((GLOBAL const float4*)w.codes)[8 * (size_t)group + i];
        values[4 * i] = v.x;
        values[4 * i + 1] = v.y;
        values[4 * i + 2] = v.z;
        values[4 * i + 3] = v.w;
    }
#elif TYPE == TYPE_BF16
    for (int i = 0; i < 4; i++) {
        const uint4 v = ((GLOBAL const uint4*)w.codes)[4 * (size_t)group + i];
        const uint words[4] = { v.x, v.y, v.z, v.w };
        for (int j = 0; j < 4; j++) {
            values[8 * i + 2 * j] = as_float(words[j] << 16);
            values[8 * i + 2 * j + 1] = as_float(words[j] & 0xffff0000u);
        }
    }
#else
    for (int i = 0; i < 32; i++) values[i] = HALF_TO_FLOAT(w.codes, 32 * (size_t)group + i);
#endif
}

// Quarter k of a group: elements 4k .. 4k + 3 to values[0 .. 3], 16 + 4k .. 16 + 4k + 3 to values[4 .. 7].
INLINE void decode8(Planes w, int group, int k, float* values)
{
#if IS_QUANTISED
    int low, high;
    float scale[2], offset[2];
    codes8(w, group, k, &low, &high);
    scales32(w, group, scale, offset);
    values_of(low, scale[0], offset[0], values);
    values_of(high, scale[1], offset[1], values + 4);
#else
    for (int h = 0; h < 2; h++) {
        const size_t at = 32 * (size_t)group + 16 * h + 4 * k;
#if TYPE == TYPE_F32
        const float4 v = *(GLOBAL const float4*)((GLOBAL const float*)w.codes + at);
        values[4 * h] = v.x;
        values[4 * h + 1] = v.y;
        values[4 * h + 2] = v.z;
        values[4 * h + 3] = v.w;
#else
        for (int i = 0; i < 4; i++) {
#if TYPE == TYPE_BF16
            values[4 * h + i] = bf16_to_float(((GLOBAL const ushort*)w.codes)[at + i]);
#else
            values[4 * h + i] = HALF_TO_FLOAT(w.codes, at + i);
#endif
        }
#endif
    }
#endif
}

#if IS_QUANTISED
// The product of a group with 32 activations in bytes. q, scale, offset: codes32 and scales32; x: eight words; sums: the sums of
// the activations' halves, two shorts. To be multiplied by the activations' scale.
INLINE float dot32(const int* q, const float* scale, const float* offset, const int* x, int sums)
{
    int low = 0, high = 0;
    for (int i = 0; i < 4; i++) {
        low = dot4(q[i], x[i], low);
        high = dot4(q[4 + i], x[4 + i], high);
    }
    const int sumLow = (int)((uint)sums << 16) >> 16, sumHigh = sums >> 16;
    if (HAS_OFFSET) return scale[0] * (float)low + offset[0] * (float)sumLow + (scale[1] * (float)high + offset[1] * (float)sumHigh);
    if (TYPE == TYPE_Q2_K || TYPE == TYPE_Q3_K || TYPE == TYPE_Q6_K) return scale[0] * (float)(low - ZERO * sumLow) + scale[1] * (float)(high - ZERO * sumHigh);
    return scale[0] * (float)(low + high - ZERO * (sumLow + sumHigh));
}
#endif
