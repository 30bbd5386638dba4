// Takes blocks apart into planes; the constants beside weights.h's are WeightFormat's. One lane a group of 32.

INLINE int nibble(GLOBAL const uchar* qs, int j, int i)
{
#if TYPE == TYPE_Q6_K
    // Halves of 128: low halves of bytes for groups 0 and 1, high ones for 2 and 3.
    return qs[64 * (j / 4) + 32 * (j & 1) + i] >> ((j >> 1 & 1) * 4) & 15;
#else
    return qs[j / 2 * 32 + i] >> ((j & 1) * 4) & 15;
#endif
}

// Element i of group j, two bits, in halves of 128: Q2_K, Q3_K, Q6_K's high bits.
INLINE int two_bits(GLOBAL const uchar* qs, int j, int i)
{
    return qs[32 * (j / 4) + i] >> (2 * (j % 4)) & 3;
}

INLINE void pack_two_bits(GLOBAL const uchar* qs, int j, GLOBAL uchar* to)
{
    for (int b = 0; b < 8; b++) {
        int byte = 0;
        for (int k = 0; k < 4; k++) byte |= two_bits(qs, j, 16 * (b / 4) + 4 * k + b % 4) << (2 * k);
        to[b] = (uchar)byte;
    }
}

// Groups first .. first + count - 1 of a part, whose blocks are in raw. w, highAt, scalesAt, moreAt: as WEIGHTS declares them, but to be written.
KERNEL(GROUP) repack(
    GLOBAL const uchar* RESTRICT raw, GLOBAL uchar* RESTRICT w, const int highAt, const int scalesAt, const int moreAt, const int first, const int count)
{
    const int index = GROUP_X * GROUP + LANE;
    if (index >= count) return;
    const size_t group = (size_t)first + index, block = group / (BLOCK / 32);
    const int j = index % (BLOCK / 32);
    GLOBAL const uchar* from = raw + (size_t)(index / (BLOCK / 32)) * BLOCK_BYTES;

    GLOBAL uchar* codes = w + group * (4 * CODE_BITS);
#if CODE_BITS == 8
    // Quarter by quarter.
    for (int i = 0; i < 32; i++) codes[8 * (i % 16 / 4) + 4 * (i / 16) + i % 4] = from[CODES_AT + i];
#elif CODE_BITS == 2
    pack_two_bits(from + CODES_AT, j, codes);
#elif TYPE == TYPE_Q4_K || TYPE == TYPE_Q5_K || TYPE == TYPE_Q6_K
    for (int i = 0; i < 16; i++) codes[i] = (uchar)(nibble(from + CODES_AT, j, i) | nibble(from + CODES_AT, j, i + 16) << 4);
#else
    for (int i = 0; i < 16; i++) codes[i] = from[CODES_AT + 16 * j + i];
#endif

    GLOBAL uchar* high = w + (size_t)highAt * PLANE_UNIT + group * (4 * HIGH_BITS);
#if HIGH_BITS == 2
    pack_two_bits(from + HIGH_AT, j, high);
#elif HIGH_BITS == 1
    for (int b = 0; b < 4; b++) {
#if BLOCK == 32
        high[b] = from[HIGH_AT + b];
#else
        // Bit j of byte i is element i of group j.
        int byte = 0;
        for (int i = 0; i < 8; i++) byte |= (from[HIGH_AT + 8 * b + i] >> j & 1) << i;
        high[b] = (uchar)byte;
#endif
    }
#endif

    for (int i = 0; i < (j == 0 ? SCALE_BYTES : 0); i++) w[(size_t)scalesAt * PLANE_UNIT + block * SCALE_BYTES + i] = from[SCALES_AT + i];
    for (int i = 0; i < (j == 0 ? MORE_BYTES : 0); i++) w[(size_t)moreAt * PLANE_UNIT + block * MORE_BYTES + i] = from[MORE_AT + i];
}
