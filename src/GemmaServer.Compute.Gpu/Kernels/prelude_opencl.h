// The common dialect as OpenCL C 1.2; its twin for CUDA is prelude_cuda.h. docs/kernels.md lists the words.
#define IS_CUDA 0
#define KERNEL(group) __kernel __attribute__((reqd_work_group_size(group, 1, 1))) void
#define GLOBAL __global
#define SHARED __local
#define SHARED_POINTER __local
#define TABLE __constant
#define INLINE static inline
#define RESTRICT restrict
#define UNROLL
#define BARRIER barrier(CLK_LOCAL_MEM_FENCE)
#define LANE ((int)get_local_id(0))
#define LANES ((int)get_local_size(0))
#define GROUP_X ((int)get_group_id(0))
#define GROUP_Y ((int)get_group_id(1))
#define GROUP_Z ((int)get_group_id(2))
#define SINCOS(x, s, c) s = sincos(x, &c)
#define HALF_TO_FLOAT(p, i) vload_half((i), (GLOBAL const half*)(p))
#define FLOAT_TO_HALF(x, p, i) vstore_half_rte((x), (i), (GLOBAL half*)(p))
#define SHARED_ADD(p, v) atomic_add(p, v)
#define SHARED_MAX(p, v) atomic_max(p, v)
#define GLOBAL_ADD(p, v) atomic_add(p, v)
#define HIGH_HALF_OF_PRODUCT(a, b) mul_hi(a, b)
#define ROUND_TO_INT(x) convert_int_rte(x)

typedef signed char schar;

// Loops with barriers are written as do .. while where they may be: PoCL copies what follows a loop that may have no turns.

// The sum over a group's lanes, in every lane, in an order that depends on the group's size alone.
INLINE float group_sum(float value, SHARED float* scratch)
{
    BARRIER;
    scratch[LANE] = value;
    int half_of = LANES / 2;
    do {
        BARRIER;
        if (LANE < half_of) scratch[LANE] += scratch[LANE + half_of];
        half_of /= 2;
    } while (half_of > 0);
    BARRIER;
    return scratch[0];
}

INLINE float group_max(float value, SHARED float* scratch)
{
    BARRIER;
    scratch[LANE] = value;
    int half_of = LANES / 2;
    do {
        BARRIER;
        if (LANE < half_of) scratch[LANE] = fmax(scratch[LANE], scratch[LANE + half_of]);
        half_of /= 2;
    } while (half_of > 0);
    BARRIER;
    return scratch[0];
}

// The sum over 32 lanes (32i .. 32i + 31), in all of them, in the order of the other dialect's shuffles. scratch: one for each lane.
INLINE float warp_total(float value, SHARED float* scratch)
{
    BARRIER;
    scratch[LANE] = value;
    for (int half_of = 16; half_of > 0; half_of /= 2) {
        BARRIER;
        if (LANE % 32 < half_of) scratch[LANE] += scratch[LANE + half_of];
    }
    BARRIER;
    return scratch[LANE / 32 * 32];
}

// sum + the dot product of four signed bytes with four others.
INLINE int dot4(int a, int b, int sum)
{
    char4 x = as_char4(a), y = as_char4(b);
    return sum + (int)x.x * (int)y.x + (int)x.y * (int)y.y + (int)x.z * (int)y.z + (int)x.w * (int)y.w;
}
