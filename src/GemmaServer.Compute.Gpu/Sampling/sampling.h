// What the kernels of a step's end share: the table of output rows, keys that order floats, weights that add up exactly, noise.
// Defined in C#: GROUP (256: lanes of a group and tokens of a block), CHUNK (tokens of one group of adjust_logits and draw).

// The table: [OUTPUT_HEADER] with the number of output rows first, then [outputs][OUTPUT_INTS]; GpuOutputs writes it.
#define OUTPUT_HEADER 16
#define OUTPUT_INTS 32
#define OUTPUT(table, o) ((table) + OUTPUT_HEADER + (size_t)(o) * OUTPUT_INTS)
#define OUT_ROW 0
#define OUT_SLOT 1
#define OUT_POSITION 2
#define OUT_FLAGS 3
#define OUT_GUESS 4
#define OUT_PROMPT_NEXT 5
#define OUT_TOP 6
#define OUT_TOP_AT 7
#define OUT_HIDDEN 8
#define OUT_MASK 9
#define OUT_RUN 10
#define OUT_PENALTIES 11
#define OUT_INVERSE_T 12
#define OUT_TOP_K 13
#define OUT_TOP_P 14
#define OUT_LOG_MIN_P 15
#define OUT_REPETITION 16
#define OUT_FREQUENCY 17
#define OUT_PRESENCE 18
#define OUT_SEED_LOW 19
#define OUT_SEED_HIGH 20
#define OUT_MIN_TOKENS 21
#define OUT_BIASES 22
#define OUT_BANS 23
#define OUT_ENDS 24

#define FLAG_SAMPLE 1
#define FLAG_FIRST 2
#define FLAG_GREEDY 4
#define FLAG_KEEP 8
#define FLAG_BANS 16
#define FLAG_BANS_WITH_ENDS 32
#define FLAG_NUCLEUS 64
#define FLAG_WEIGHED 128

// A slot: tokens generated, then (token, bias) pairs, banned tokens, end tokens.
#define SLOT_GENERATED 0
#define SLOT_LISTS 1

// What a row came to: token (-1: nobody's), its logit before bias and bans, the greatest such logit, log sum exp above it, the
// prompt token's logit, how many best tokens were found.
#define RESULT_INTS 8
#define RESULT_TOKEN 0
#define RESULT_LOGIT 1
#define RESULT_GREATEST 2
#define RESULT_LOG_SUM 3
#define RESULT_PROMPT_LOGIT 4
#define RESULT_TOP 5

#define NEGATIVE_INFINITY as_float(0xff800000u)
#define NOBODY 0xffffffffu

// Rises with the number; both zeros are one.
INLINE uint ordered(float x)
{
    const uint bits = x == 0.0f ? 0u : as_uint(x);
    return bits ^ ((bits >> 31) != 0u ? 0xffffffffu : 0x80000000u);
}

// The key above that of minus infinity: who has less cannot be chosen.
#define LEAST_KEY 0x00800000u

// A weight in 0 .. 1 as three digits of 13 bits: sums of 2^18 of them stay below 2^32 digit by digit and depend on no order.
INLINE void add_weight(float weight, SHARED_POINTER uint* low, SHARED_POINTER uint* middle, SHARED_POINTER uint* high)
{
    const float w = weight * 8192.0f;
    const uint a = (uint)w;
    const float v = (w - (float)a) * 8192.0f;
    const uint b = (uint)v;
    const uint c = (uint)((v - (float)b) * 8192.0f);
    if (a != 0u) SHARED_ADD(high, a);
    if (b != 0u) SHARED_ADD(middle, b);
    if (c != 0u) SHARED_ADD(low, c);
}

INLINE ulong whole_weight(float weight)
{
    const float w = weight * 8192.0f;
    const uint a = (uint)w;
    const float v = (w - (float)a) * 8192.0f;
    const uint b = (uint)v;
    return ((ulong)a << 26) + ((ulong)b << 13) + (uint)((v - (float)b) * 8192.0f);
}

// fraction / 2^32 of a sum, rounded down; at least 1.
INLINE ulong part_of(ulong sum, uint fraction)
{
    const ulong part = (sum >> 32) * fraction + (((sum & 0xffffffffu) * fraction) >> 32);
    return part == 0u ? 1u : part;
}

// Ten rounds of Philox4x32: the bits of tokens 4 block .. 4 block + 3.
INLINE void philox(uint k0, uint k1, uint block, uint position, uint* x)
{
    uint c0 = block, c1 = position, c2 = 0, c3 = 0;
    for (int round = 0; round < 10; round++) {
        const uint h0 = HIGH_HALF_OF_PRODUCT(0xD2511F53u, c0), l0 = 0xD2511F53u * c0;
        const uint h1 = HIGH_HALF_OF_PRODUCT(0xCD9E8D57u, c2), l1 = 0xCD9E8D57u * c2;
        c0 = h1 ^ c1 ^ k0;
        c1 = l1;
        c2 = h0 ^ c3 ^ k1;
        c3 = l0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    x[0] = c0;
    x[1] = c1;
    x[2] = c2;
    x[3] = c3;
}

// -ln(-ln u), u = (bits + 1/2) / 2^32. Near u = 1 a float has no digits left, so there -ln u = -ln(1 - v) comes from v = 1 - u.
INLINE float gumbel(uint bits)
{
    const float v = ((float)(~bits) + 0.5f) * (1.0f / 4294967296.0f), u = ((float)bits + 0.5f) * (1.0f / 4294967296.0f);
    return -log((bits >> 31) != 0u ? -log1p(-v) : -log(u));
}
// The noise lies between these.
#define LEAST_NOISE -3.2f
#define GREATEST_NOISE 22.9f
