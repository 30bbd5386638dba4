// The words of Kernels/cuda_tensor.h as plain loops, in the fragment layouts of the PTX ISA ("Matrix Fragments for mma.m16n8k16",
// "… mma.m16n8k32", "ldmatrix"). g is lane / 4 and t is lane % 4 there.
#define DYNAMIC_SHARED(type, name) type* name = (type*)cuda_on_cpu_runtime->shared
#define CP_ASYNC_WAIT(left) cuda_on_cpu_runtime->wait(left)

CUDA_ON_CPU_INLINE void cp_async_16(void* shared, const void* global) { cuda_on_cpu_runtime->copy_later(shared, global, 16, 16); }
CUDA_ON_CPU_INLINE void cp_async_16_if(void* shared, const void* global, bool isThere) { cuda_on_cpu_runtime->copy_later(shared, global, 16, isThere ? 16 : 0); }
CUDA_ON_CPU_INLINE void cp_async_4(void* shared, const void* global) { cuda_on_cpu_runtime->copy_later(shared, global, 4, 4); }
CUDA_ON_CPU_INLINE void cp_async_commit() { cuda_on_cpu_runtime->commit(); }

// The lanes' operands side by side: each lane shows where its own lie, and all stay until everybody has read them.
struct cuda_on_cpu_operands {
    const unsigned int *a, *b;
};

template <class Body> CUDA_ON_CPU_INLINE void cuda_on_cpu_together(const unsigned int* a, const unsigned int* b, Body body)
{
    cuda_on_cpu_operands mine = {a, b};
    const unsigned long long* all = cuda_on_cpu_runtime->meet(0xffffffffu, (unsigned long long)&mine);
    const cuda_on_cpu_operands* lanes[32];
    for (int i = 0; i < 32; i++) lanes[i] = (const cuda_on_cpu_operands*)all[i];
    body(lanes);
    cuda_on_cpu_runtime->meet(0xffffffffu, 0);
}

// A[row][k] and B[k][column] of m16n8k16: a register holds two values of 16 bits.
CUDA_ON_CPU_INLINE unsigned short cuda_on_cpu_a16(const cuda_on_cpu_operands* const* lanes, int row, int k)
{
    const unsigned int word = lanes[(row & 7) * 4 + (k & 7) / 2]->a[(row >= 8 ? 1 : 0) + (k >= 8 ? 2 : 0)];
    return (unsigned short)(word >> (16 * (k & 1)));
}
CUDA_ON_CPU_INLINE unsigned short cuda_on_cpu_b16(const cuda_on_cpu_operands* const* lanes, int k, int column)
{
    const unsigned int word = lanes[column * 4 + (k & 7) / 2]->b[k >= 8 ? 1 : 0];
    return (unsigned short)(word >> (16 * (k & 1)));
}
// A[row][k] and B[k][column] of m16n8k32: a register holds four bytes.
CUDA_ON_CPU_INLINE int cuda_on_cpu_a8(const cuda_on_cpu_operands* const* lanes, int row, int k)
{
    const unsigned int word = lanes[(row & 7) * 4 + (k & 15) / 4]->a[(row >= 8 ? 1 : 0) + (k >= 16 ? 2 : 0)];
    return (int)(signed char)(word >> (8 * (k & 3)));
}
CUDA_ON_CPU_INLINE int cuda_on_cpu_b8(const cuda_on_cpu_operands* const* lanes, int k, int column)
{
    const unsigned int word = lanes[column * 4 + (k & 15) / 4]->b[k >= 16 ? 1 : 0];
    return (int)(signed char)(word >> (8 * (k & 3)));
}
// Of C and D, a lane has rows g and g + 8, columns 2t and 2t + 1.
#define CUDA_ON_CPU_ROW(i) (cuda_on_cpu_lane() / 4 + ((i) >= 2 ? 8 : 0))
#define CUDA_ON_CPU_COLUMN(i) (cuda_on_cpu_lane() % 4 * 2 + ((i) & 1))

CUDA_ON_CPU_INLINE void mma_bf16(float* sum, const unsigned int* a, const unsigned int* b)
{
    cuda_on_cpu_together(a, b, [&](const cuda_on_cpu_operands* const* lanes) {
        for (int i = 0; i < 4; i++)
            for (int k = 0; k < 16; k++)
                sum[i] += __uint_as_float((unsigned int)cuda_on_cpu_a16(lanes, CUDA_ON_CPU_ROW(i), k) << 16) * __uint_as_float((unsigned int)cuda_on_cpu_b16(lanes, k, CUDA_ON_CPU_COLUMN(i)) << 16);
    });
}

CUDA_ON_CPU_INLINE void mma_f16(float* sum, const unsigned int* a, const unsigned int* b)
{
    cuda_on_cpu_together(a, b, [&](const cuda_on_cpu_operands* const* lanes) {
        for (int i = 0; i < 4; i++)
            for (int k = 0; k < 16; k++)
                sum[i] += half_bits_to_float(cuda_on_cpu_a16(lanes, CUDA_ON_CPU_ROW(i), k)) * half_bits_to_float(cuda_on_cpu_b16(lanes, k, CUDA_ON_CPU_COLUMN(i)));
    });
}

CUDA_ON_CPU_INLINE void mma_s8(int* sum, const unsigned int* a, const unsigned int* b)
{
    cuda_on_cpu_together(a, b, [&](const cuda_on_cpu_operands* const* lanes) {
        for (int i = 0; i < 4; i++)
            for (int k = 0; k < 32; k++) sum[i] += cuda_on_cpu_a8(lanes, CUDA_ON_CPU_ROW(i), k) * cuda_on_cpu_b8(lanes, k, CUDA_ON_CPU_COLUMN(i));
    });
}

// Lane l gives the address of row l % 8 of matrix l / 8; a lane gets of each matrix row g, elements 2t and 2t + 1.
CUDA_ON_CPU_INLINE void cuda_on_cpu_ldmatrix(unsigned int* to, const void* row, int matrices, bool isTransposed)
{
    if ((size_t)row % 16 != 0) __builtin_trap();
    const unsigned long long* rows = cuda_on_cpu_runtime->meet(0xffffffffu, (unsigned long long)row);
    const int g = cuda_on_cpu_lane() / 4, t = cuda_on_cpu_lane() % 4;
    for (int m = 0; m < matrices; m++) {
        unsigned short low, high;
        if (isTransposed) {
            low = ((const unsigned short*)rows[m * 8 + 2 * t])[g];
            high = ((const unsigned short*)rows[m * 8 + 2 * t + 1])[g];
        } else {
            low = ((const unsigned short*)rows[m * 8 + g])[2 * t];
            high = ((const unsigned short*)rows[m * 8 + g])[2 * t + 1];
        }
        to[m] = (unsigned int)low | (unsigned int)high << 16;
    }
    // Nobody writes over the rows before all have read.
    cuda_on_cpu_runtime->meet(0xffffffffu, 0);
}
CUDA_ON_CPU_INLINE void ldmatrix_x4(unsigned int* to, const void* row) { cuda_on_cpu_ldmatrix(to, row, 4, false); }
CUDA_ON_CPU_INLINE void ldmatrix_x2(unsigned int* to, const void* row) { cuda_on_cpu_ldmatrix(to, row, 2, false); }
CUDA_ON_CPU_INLINE void ldmatrix_x4_trans(unsigned int* to, const void* row) { cuda_on_cpu_ldmatrix(to, row, 4, true); }
CUDA_ON_CPU_INLINE void ldmatrix_x2_trans(unsigned int* to, const void* row) { cuda_on_cpu_ldmatrix(to, row, 2, true); }

CUDA_ON_CPU_INLINE unsigned int cuda_on_cpu_bf16(float value)
{
    const unsigned int bits = __float_as_uint(value);
    return value != value ? 0x7fffu : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
}
CUDA_ON_CPU_INLINE unsigned int pack_bf16(float low, float high) { return cuda_on_cpu_bf16(low) | cuda_on_cpu_bf16(high) << 16; }
CUDA_ON_CPU_INLINE unsigned int pack_f16(float low, float high) { return (unsigned int)float_to_half_bits(low) | (unsigned int)float_to_half_bits(high) << 16; }

CUDA_ON_CPU_INLINE float exp2_approximate(float x)
{
    const float y = __builtin_exp2f(x);
    return y < 1.17549435e-38f ? 0.0f : y;
}

CUDA_ON_CPU_INLINE uint4 load_once_16(const void* global)
{
    if ((size_t)global % 16 != 0) __builtin_trap();
    return *(const uint4*)global;
}
