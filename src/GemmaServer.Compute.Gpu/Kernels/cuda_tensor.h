// Words of CUDA-only kernels (sm_80 and later): tensor cores, copies past the registers, dynamic shared memory. Inline assembly stands
// here and in prelude_cuda.h alone, each in a function of its own: the stand-in driver of the tests has the same functions as loops.
//
// Fragments, with g = lane / 4 and t = lane % 4, lane = LANE % 32 and all 32 lanes taking part:
//   C, D  [16][8]   sum[0..1]: row g, columns 2t, 2t + 1;  sum[2..3]: row g + 8
//   A     [16][16]  a[0]: row g, columns 2t, 2t + 1;  a[1]: row g + 8;  a[2], a[3]: the same rows, columns + 8
//   B     [16][8]   b[0]: rows 2t, 2t + 1 of column g;  b[1]: rows + 8
//   A s8  [16][32]  a[0]: row g, columns 4t .. 4t + 3;  a[1]: row g + 8;  a[2], a[3]: columns + 16
//   B s8  [32][8]   b[0]: rows 4t .. 4t + 3 of column g;  b[1]: rows + 16
// The first of several values in a register is in its low bits.
#ifndef CUDA_ON_CPU

// Shared memory whose size the launch gives (sharedBytes of KernelCall.Run); beyond 48 KiB there is no other. One such name a kernel;
// 16-byte aligned.
extern __shared__ uint4 dynamic_shared_memory[];
#define DYNAMIC_SHARED(type, name) type* name = (type*)dynamic_shared_memory

INLINE unsigned int shared_address(const void* shared)
{
    return (unsigned int)__cvta_generic_to_shared(shared);
}

// Copies 16 bytes from global to shared memory, both 16-byte aligned, past the registers; there after commit and CP_ASYNC_WAIT.
INLINE void cp_async_16(void* shared, const void* global)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(shared_address(shared)), "l"(__cvta_generic_to_global(global)) : "memory");
}

// The same, or 16 zeros where there is nothing to copy: global is not read then.
INLINE void cp_async_16_if(void* shared, const void* global, bool isThere)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(shared_address(shared)), "l"(__cvta_generic_to_global(global)), "r"(isThere ? 16 : 0) : "memory");
}

INLINE void cp_async_4(void* shared, const void* global)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" :: "r"(shared_address(shared)), "l"(__cvta_generic_to_global(global)) : "memory");
}

// Ends a group of this thread's copies.
INLINE void cp_async_commit()
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most so many (a constant) of this thread's groups are on their way; other threads' copies show after a barrier.
#define CP_ASYNC_WAIT(left) asm volatile("cp.async.wait_group %0;" :: "n"(left) : "memory")

// sum += A B, m16n8k16.
INLINE void mma_bf16(float* sum, const unsigned int* a, const unsigned int* b)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

INLINE void mma_f16(float* sum, const unsigned int* a, const unsigned int* b)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// sum += A B of signed bytes, m16n8k32; whole numbers, exact.
INLINE void mma_s8(int* sum, const unsigned int* a, const unsigned int* b)
{
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Matrices of 8 x 8 values of 16 bits from shared memory: lane l gives the address (16-byte aligned) of row l % 8 of matrix l / 8, and
// gets into to[m] of matrix m row g, elements 2t and 2t + 1; transposed: of column g, elements 2t and 2t + 1. So A of m16n8k16 is one x4
// (rows 0..7, rows 8..15, then both again 8 columns on), and B stored by columns one x2.
INLINE void ldmatrix_x4(unsigned int* to, const void* row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(shared_address(row)) : "memory");
}

INLINE void ldmatrix_x2(unsigned int* to, const void* row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(to[0]), "=r"(to[1]) : "r"(shared_address(row)) : "memory");
}

INLINE void ldmatrix_x4_trans(unsigned int* to, const void* row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3]) : "r"(shared_address(row)) : "memory");
}

INLINE void ldmatrix_x2_trans(unsigned int* to, const void* row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(to[0]), "=r"(to[1]) : "r"(shared_address(row)) : "memory");
}

// Two values as bf16, rounded to the nearest, ties to even; what is not a number stays that.
INLINE unsigned int pack_bf16(float low, float high)
{
    unsigned int both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

// The same as halves; what is too large becomes infinite.
INLINE unsigned int pack_f16(float low, float high)
{
    unsigned int both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

// 2 to the power x, two units of the last place off at most; below 2^-126 zero.
INLINE float exp2_approximate(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// 16 bytes that nobody writes while the kernel runs and that it reads once: past the first cache, and the second takes in a line.
INLINE uint4 load_once_16(const void* global)
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(__cvta_generic_to_global(global)));
    return v;
}

#endif
