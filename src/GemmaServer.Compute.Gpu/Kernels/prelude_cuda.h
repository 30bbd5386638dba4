// The common dialect as CUDA C; its twin for OpenCL is prelude_opencl.h. docs/kernels.md lists the words.
// A program uses some of these words.
#pragma nv_diag_suppress 177
#define IS_CUDA 1
#define KERNEL(group) extern "C" __global__ void __launch_bounds__(group)
#define GLOBAL
#define SHARED __shared__
#define SHARED_POINTER
#define TABLE __constant__ const
#define INLINE static __device__ __forceinline__
#define RESTRICT __restrict__
#define UNROLL _Pragma("unroll")
#define BARRIER __syncthreads()
#define LANE ((int)threadIdx.x)
#define LANES ((int)blockDim.x)
#define GROUP_X ((int)blockIdx.x)
#define GROUP_Y ((int)blockIdx.y)
#define GROUP_Z ((int)blockIdx.z)
#define SINCOS(x, s, c) sincosf(x, &s, &c)
#define HALF_TO_FLOAT(p, i) half_bits_to_float(((const unsigned short*)(p))[i])
#define FLOAT_TO_HALF(x, p, i) ((unsigned short*)(p))[i] = float_to_half_bits(x)
#define SHARED_ADD(p, v) atomicAdd(p, v)
#define SHARED_MAX(p, v) atomicMax(p, v)
#define GLOBAL_ADD(p, v) atomicAdd(p, v)
#define HIGH_HALF_OF_PRODUCT(a, b) __umulhi(a, b)
#define ROUND_TO_INT(x) __float2int_rn(x)
#define as_float(x) __uint_as_float((unsigned int)(x))
#define as_uint(x) __float_as_uint(x)
#define as_int(x) __float_as_int(x)

typedef signed char schar;
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long long ulong;

// Not through cuda_fp16.h: NVRTC is given no include folder. The tests' stand-in driver brings its own.
#ifndef CUDA_ON_CPU
INLINE float half_bits_to_float(unsigned short bits)
{
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

INLINE unsigned short float_to_half_bits(float value)
{
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
#endif

INLINE float warp_sum(float value)
{
    for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}

INLINE float warp_max(float value)
{
    for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, step));
    return value;
}

// The sum over a group's lanes, in every lane, in an order that depends on the group's size alone.
INLINE float group_sum(float value, float* scratch)
{
    value = warp_sum(value);
    if (LANES <= 32) return value;
    __syncthreads();
    if (LANE % 32 == 0) scratch[LANE / 32] = value;
    __syncthreads();
    float sum = 0;
    for (int w = 0; w < LANES / 32; w++) sum += scratch[w];
    return sum;
}

INLINE float group_max(float value, float* scratch)
{
    value = warp_max(value);
    if (LANES <= 32) return value;
    __syncthreads();
    if (LANE % 32 == 0) scratch[LANE / 32] = value;
    __syncthreads();
    float best = scratch[0];
    for (int w = 1; w < LANES / 32; w++) best = fmaxf(best, scratch[w]);
    return best;
}

// The sum over 32 lanes (32i .. 32i + 31), in all of them; scratch is the other dialect's.
INLINE float warp_total(float value, float* scratch)
{
    return warp_sum(value);
}

// sum + the dot product of four signed bytes with four others.
INLINE int dot4(int a, int b, int sum)
{
    return __dp4a(a, b, sum);
}
