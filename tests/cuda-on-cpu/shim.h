// CUDA C's words as C++, put before a kernel's text: threads of a block are fibers, a block runs at a time, so atomics are plain.
#include "runtime.h"

#define CUDA_ON_CPU 1
#define __CUDACC_RTC__ 1
#define __global__ CUDA_ON_CPU_KERNEL
#define __launch_bounds__(...) CUDA_ON_CPU_BOUNDS(__VA_ARGS__)
#define __device__
#define __host__
#define __shared__ static __attribute__((aligned(16)))
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__

typedef decltype(sizeof(0)) size_t;

extern "C" {
__attribute__((visibility("default"))) cuda_on_cpu_thread* cuda_on_cpu_current;
__attribute__((visibility("default"))) const cuda_on_cpu_calls* cuda_on_cpu_runtime;
}
#define threadIdx (cuda_on_cpu_current->thread)
#define blockIdx (cuda_on_cpu_current->block)
#define blockDim (cuda_on_cpu_current->group)
#define gridDim (cuda_on_cpu_current->grid)
#define warpSize 32
#define CUDA_ON_CPU_INLINE static inline __attribute__((always_inline, unused))

// Kernels' entries: a pointer to each argument, as cuLaunchKernel has them.
template <int... I> struct cuda_on_cpu_places {};
template <int N, int... I> struct cuda_on_cpu_count : cuda_on_cpu_count<N - 1, N - 1, I...> {};
template <int... I> struct cuda_on_cpu_count<0, I...> { typedef cuda_on_cpu_places<I...> places; };
template <class... A, int... I> static void cuda_on_cpu_call(void (*kernel)(A...), void** values, cuda_on_cpu_places<I...>) { kernel(*(A*)values[I]...); }
template <class... A> static void cuda_on_cpu_call(void (*kernel)(A...), void** values) { cuda_on_cpu_call(kernel, values, typename cuda_on_cpu_count<sizeof...(A)>::places()); }
template <class... A> static int cuda_on_cpu_sizes(void (*)(A...), int* sizes)
{
    int all[] = {(int)sizeof(A)..., 0};
    for (unsigned i = 0; i < sizeof...(A); i++) sizes[i] = all[i];
    return sizeof...(A);
}
#define CUDA_ON_CPU_ENTRY(name, bounds) \
    extern "C" __attribute__((visibility("default"))) void name##__call(void** values) { cuda_on_cpu_call(name, values); } \
    extern "C" __attribute__((visibility("default"))) int name##__sizes(int* sizes) { return cuda_on_cpu_sizes(name, sizes); } \
    extern "C" __attribute__((visibility("default"))) int name##__bounds() { return bounds; }

// Vectors.
#define CUDA_ON_CPU_VECTORS(T, name, one) \
    struct __attribute__((aligned(2 * sizeof(T)))) name##2 { T x, y; }; \
    struct name##3 { T x, y, z; }; \
    struct __attribute__((aligned(4 * sizeof(T) > 16 ? 16 : 4 * sizeof(T)))) name##4 { T x, y, z, w; }; \
    CUDA_ON_CPU_INLINE name##2 make_##name##2(T x, T y) { return name##2{x, y}; } \
    CUDA_ON_CPU_INLINE name##3 make_##name##3(T x, T y, T z) { return name##3{x, y, z}; } \
    CUDA_ON_CPU_INLINE name##4 make_##name##4(T x, T y, T z, T w) { return name##4{x, y, z, w}; }
CUDA_ON_CPU_VECTORS(signed char, char, )
CUDA_ON_CPU_VECTORS(unsigned char, uchar, )
CUDA_ON_CPU_VECTORS(short, short, )
CUDA_ON_CPU_VECTORS(unsigned short, ushort, )
CUDA_ON_CPU_VECTORS(int, int, )
CUDA_ON_CPU_VECTORS(unsigned int, uint, )
CUDA_ON_CPU_VECTORS(long long, longlong, )
CUDA_ON_CPU_VECTORS(unsigned long long, ulonglong, )
CUDA_ON_CPU_VECTORS(float, float, )
CUDA_ON_CPU_VECTORS(double, double, )

// Bits.
template <class To, class From> CUDA_ON_CPU_INLINE To cuda_on_cpu_bits(From value)
{
    static_assert(sizeof(To) == sizeof(From), "as wide");
    To to;
    __builtin_memcpy(&to, &value, sizeof to);
    return to;
}
CUDA_ON_CPU_INLINE float __uint_as_float(unsigned int x) { return cuda_on_cpu_bits<float>(x); }
CUDA_ON_CPU_INLINE float __int_as_float(int x) { return cuda_on_cpu_bits<float>(x); }
CUDA_ON_CPU_INLINE unsigned int __float_as_uint(float x) { return cuda_on_cpu_bits<unsigned int>(x); }
CUDA_ON_CPU_INLINE int __float_as_int(float x) { return cuda_on_cpu_bits<int>(x); }
CUDA_ON_CPU_INLINE int __popc(unsigned int x) { return __builtin_popcount(x); }
CUDA_ON_CPU_INLINE int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
CUDA_ON_CPU_INLINE int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
CUDA_ON_CPU_INLINE int __ffs(int x) { return __builtin_ffs(x); }
CUDA_ON_CPU_INLINE unsigned int __umulhi(unsigned int a, unsigned int b) { return (unsigned int)(((unsigned long long)a * b) >> 32); }
CUDA_ON_CPU_INLINE int __mulhi(int a, int b) { return (int)(((long long)a * b) >> 32); }
CUDA_ON_CPU_INLINE unsigned int __brev(unsigned int x)
{
    unsigned int y = 0;
    for (int i = 0; i < 32; i++) y |= ((x >> i) & 1u) << (31 - i);
    return y;
}
CUDA_ON_CPU_INLINE unsigned int __byte_perm(unsigned int a, unsigned int b, unsigned int selector)
{
    unsigned long long both = ((unsigned long long)b << 32) | a;
    unsigned int y = 0;
    for (int i = 0; i < 4; i++) {
        unsigned int s = (selector >> (4 * i)) & 15u, byte = (unsigned int)(both >> (8 * (s & 7u))) & 255u;
        if (s & 8u) byte = byte & 128u ? 255u : 0u;
        y |= byte << (8 * i);
    }
    return y;
}
CUDA_ON_CPU_INLINE unsigned int __funnelshift_r(unsigned int low, unsigned int high, unsigned int by) { return (unsigned int)(((((unsigned long long)high) << 32) | low) >> (by & 31u)); }
CUDA_ON_CPU_INLINE unsigned int __funnelshift_l(unsigned int low, unsigned int high, unsigned int by) { return (unsigned int)((((((unsigned long long)high) << 32) | low) << (by & 31u)) >> 32); }
CUDA_ON_CPU_INLINE int __dp4a(int a, int b, int c)
{
    for (int i = 0; i < 4; i++) c += (int)(signed char)(a >> (8 * i)) * (int)(signed char)(b >> (8 * i));
    return c;
}
CUDA_ON_CPU_INLINE unsigned int __dp4a(unsigned int a, unsigned int b, unsigned int c)
{
    for (int i = 0; i < 4; i++) c += ((a >> (8 * i)) & 255u) * ((b >> (8 * i)) & 255u);
    return c;
}
CUDA_ON_CPU_INLINE unsigned int __vadd4(unsigned int a, unsigned int b)
{
    unsigned int y = 0;
    for (int i = 0; i < 32; i += 8) y |= (((a >> i) + (b >> i)) & 255u) << i;
    return y;
}
CUDA_ON_CPU_INLINE unsigned int __vsub4(unsigned int a, unsigned int b)
{
    unsigned int y = 0;
    for (int i = 0; i < 32; i += 8) y |= (((a >> i) - (b >> i)) & 255u) << i;
    return y;
}
CUDA_ON_CPU_INLINE unsigned int __vsubss4(unsigned int a, unsigned int b)
{
    unsigned int y = 0;
    for (int i = 0; i < 32; i += 8) {
        int d = (int)(signed char)(a >> i) - (int)(signed char)(b >> i);
        y |= ((unsigned int)(d < -128 ? -128 : d > 127 ? 127 : d) & 255u) << i;
    }
    return y;
}

// Mathematics; overloads as in CUDA C.
#define CUDA_ON_CPU_MATH1(name) \
    CUDA_ON_CPU_INLINE float name##f(float x) { return __builtin_##name##f(x); } \
    CUDA_ON_CPU_INLINE float name(float x) { return __builtin_##name##f(x); } \
    CUDA_ON_CPU_INLINE double name(double x) { return __builtin_##name(x); } \
    CUDA_ON_CPU_INLINE double name(int x) { return __builtin_##name((double)x); }
#define CUDA_ON_CPU_MATH2(name) \
    CUDA_ON_CPU_INLINE float name##f(float x, float y) { return __builtin_##name##f(x, y); } \
    CUDA_ON_CPU_INLINE float name(float x, float y) { return __builtin_##name##f(x, y); } \
    CUDA_ON_CPU_INLINE double name(double x, double y) { return __builtin_##name(x, y); }
CUDA_ON_CPU_MATH1(exp) CUDA_ON_CPU_MATH1(exp2) CUDA_ON_CPU_MATH1(log) CUDA_ON_CPU_MATH1(log2) CUDA_ON_CPU_MATH1(log1p) CUDA_ON_CPU_MATH1(expm1)
CUDA_ON_CPU_MATH1(sqrt) CUDA_ON_CPU_MATH1(sin) CUDA_ON_CPU_MATH1(cos) CUDA_ON_CPU_MATH1(tanh) CUDA_ON_CPU_MATH1(erf) CUDA_ON_CPU_MATH1(fabs)
CUDA_ON_CPU_MATH1(floor) CUDA_ON_CPU_MATH1(ceil) CUDA_ON_CPU_MATH1(round) CUDA_ON_CPU_MATH1(rint) CUDA_ON_CPU_MATH1(trunc)
CUDA_ON_CPU_MATH2(pow) CUDA_ON_CPU_MATH2(fmod) CUDA_ON_CPU_MATH2(fmin) CUDA_ON_CPU_MATH2(fmax) CUDA_ON_CPU_MATH2(copysign)
CUDA_ON_CPU_INLINE float fmaf(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
CUDA_ON_CPU_INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
CUDA_ON_CPU_INLINE double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
CUDA_ON_CPU_INLINE float rsqrtf(float x) { return 1.0f / __builtin_sqrtf(x); }
CUDA_ON_CPU_INLINE float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }
CUDA_ON_CPU_INLINE float ldexpf(float x, int e) { return __builtin_ldexpf(x, e); }
CUDA_ON_CPU_INLINE float ldexp(float x, int e) { return __builtin_ldexpf(x, e); }
CUDA_ON_CPU_INLINE void sincosf(float x, float* s, float* c) { *s = __builtin_sinf(x); *c = __builtin_cosf(x); }
CUDA_ON_CPU_INLINE float __expf(float x) { return __builtin_expf(x); }
CUDA_ON_CPU_INLINE float __exp2f(float x) { return __builtin_exp2f(x); }
CUDA_ON_CPU_INLINE float __logf(float x) { return __builtin_logf(x); }
CUDA_ON_CPU_INLINE float __fdividef(float x, float y) { return x / y; }
CUDA_ON_CPU_INLINE float __frcp_rn(float x) { return 1.0f / x; }
CUDA_ON_CPU_INLINE float __fsqrt_rn(float x) { return __builtin_sqrtf(x); }
CUDA_ON_CPU_INLINE float __fadd_rn(float x, float y) { return x + y; }
CUDA_ON_CPU_INLINE float __fsub_rn(float x, float y) { return x - y; }
CUDA_ON_CPU_INLINE float __fmul_rn(float x, float y) { return x * y; }
CUDA_ON_CPU_INLINE float __fdiv_rn(float x, float y) { return x / y; }
CUDA_ON_CPU_INLINE float __fmaf_rn(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
CUDA_ON_CPU_INLINE int __float2int_rn(float x) { return (int)__builtin_rintf(x); }
CUDA_ON_CPU_INLINE int __float2int_rz(float x) { return (int)x; }
CUDA_ON_CPU_INLINE int __float2int_rd(float x) { return (int)__builtin_floorf(x); }
CUDA_ON_CPU_INLINE float __int2float_rn(int x) { return (float)x; }
CUDA_ON_CPU_INLINE bool isnan(float x) { return __builtin_isnan(x); }
CUDA_ON_CPU_INLINE bool isinf(float x) { return __builtin_isinf(x); }
CUDA_ON_CPU_INLINE bool isfinite(float x) { return __builtin_isfinite(x); }
template <class A, class B> CUDA_ON_CPU_INLINE auto min(A a, B b) -> decltype(a + b) { return b < a ? b : a; }
template <class A, class B> CUDA_ON_CPU_INLINE auto max(A a, B b) -> decltype(a + b) { return a < b ? b : a; }
CUDA_ON_CPU_INLINE int abs(int x) { return x < 0 ? -x : x; }
CUDA_ON_CPU_INLINE float abs(float x) { return __builtin_fabsf(x); }
#define __saturatef(x) fminf(fmaxf(x, 0.0f), 1.0f)
template <class T> CUDA_ON_CPU_INLINE T __ldg(const T* p) { return *p; }
template <class T> CUDA_ON_CPU_INLINE T __ldcs(const T* p) { return *p; }
template <class T> CUDA_ON_CPU_INLINE T __ldcg(const T* p) { return *p; }
template <class T> CUDA_ON_CPU_INLINE void __stcs(T* p, T v) { *p = v; }
CUDA_ON_CPU_INLINE float half_bits_to_float(unsigned short bits) { return (float)cuda_on_cpu_bits<_Float16>(bits); }
CUDA_ON_CPU_INLINE unsigned short float_to_half_bits(float value) { return cuda_on_cpu_bits<unsigned short>((_Float16)value); }

// Atomics: nothing runs beside.
#define CUDA_ON_CPU_ATOMIC(name, result) \
    template <class T, class U> CUDA_ON_CPU_INLINE T name(T* p, U given) { T value = (T)given, old = *p; *p = result; return old; }
CUDA_ON_CPU_ATOMIC(atomicAdd, old + value)
CUDA_ON_CPU_ATOMIC(atomicSub, old - value)
CUDA_ON_CPU_ATOMIC(atomicMax, old < value ? value : old)
CUDA_ON_CPU_ATOMIC(atomicMin, value < old ? value : old)
CUDA_ON_CPU_ATOMIC(atomicExch, value)
CUDA_ON_CPU_ATOMIC(atomicOr, old | value)
CUDA_ON_CPU_ATOMIC(atomicAnd, old & value)
CUDA_ON_CPU_ATOMIC(atomicXor, old ^ value)
CUDA_ON_CPU_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
template <class T> CUDA_ON_CPU_INLINE T atomicCAS(T* p, T compare, T value) { T old = *p; if (old == compare) *p = value; return old; }
#define __threadfence()
#define __threadfence_block()

// Meetings.
CUDA_ON_CPU_INLINE void __syncthreads() { cuda_on_cpu_runtime->barrier(); }
CUDA_ON_CPU_INLINE void __syncwarp(unsigned int mask = 0xffffffffu) { cuda_on_cpu_runtime->meet(mask, 0); }
CUDA_ON_CPU_INLINE int cuda_on_cpu_lane() { return (int)(cuda_on_cpu_current->thread.x & 31u); }
template <class T> CUDA_ON_CPU_INLINE T cuda_on_cpu_from(unsigned int mask, T value, int lane)
{
    static_assert(sizeof(T) <= 8, "a register or two");
    unsigned long long mine = 0;
    __builtin_memcpy(&mine, &value, sizeof value);
    const unsigned long long* all = cuda_on_cpu_runtime->meet(mask, mine);
    __builtin_memcpy(&value, &all[lane & 31], sizeof value);
    return value;
}
template <class T> CUDA_ON_CPU_INLINE T __shfl_sync(unsigned int mask, T value, int from, int width = 32)
{
    const int lane = cuda_on_cpu_lane();
    return cuda_on_cpu_from(mask, value, (lane & ~(width - 1)) | (from & (width - 1)));
}
template <class T> CUDA_ON_CPU_INLINE T __shfl_xor_sync(unsigned int mask, T value, int bits, int width = 32)
{
    const int lane = cuda_on_cpu_lane(), from = lane ^ bits;
    return cuda_on_cpu_from(mask, value, (from & ~(width - 1)) > (lane & ~(width - 1)) ? lane : from);
}
template <class T> CUDA_ON_CPU_INLINE T __shfl_down_sync(unsigned int mask, T value, int by, int width = 32)
{
    const int lane = cuda_on_cpu_lane();
    return cuda_on_cpu_from(mask, value, (lane & (width - 1)) + by < width ? lane + by : lane);
}
template <class T> CUDA_ON_CPU_INLINE T __shfl_up_sync(unsigned int mask, T value, int by, int width = 32)
{
    const int lane = cuda_on_cpu_lane();
    return cuda_on_cpu_from(mask, value, (lane & (width - 1)) - by >= 0 ? lane - by : lane);
}
CUDA_ON_CPU_INLINE unsigned int __ballot_sync(unsigned int mask, int predicate)
{
    const unsigned long long* all = cuda_on_cpu_runtime->meet(mask, predicate != 0);
    unsigned int votes = 0;
    for (int i = 0; i < 32; i++)
        if ((mask >> i) & 1u) votes |= (unsigned int)all[i] << i;
    return votes;
}
CUDA_ON_CPU_INLINE int __any_sync(unsigned int mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
CUDA_ON_CPU_INLINE int __all_sync(unsigned int mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }
#define CUDA_ON_CPU_REDUCE(name, result) \
    template <class T> CUDA_ON_CPU_INLINE T name(unsigned int mask, T mine) \
    { \
        const unsigned long long* all = cuda_on_cpu_runtime->meet(mask, (unsigned long long)(unsigned int)mine); \
        bool first = true; \
        T old = 0; \
        for (int i = 0; i < 32; i++) \
            if ((mask >> i) & 1u) { T value = (T)(unsigned int)all[i]; old = first ? value : (T)(result); first = false; } \
        return old; \
    }
CUDA_ON_CPU_REDUCE(__reduce_add_sync, old + value)
CUDA_ON_CPU_REDUCE(__reduce_max_sync, old < value ? value : old)
CUDA_ON_CPU_REDUCE(__reduce_min_sync, value < old ? value : old)

#include "tensor.h"
