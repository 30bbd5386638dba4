// bf16 tiles multiplied from registers, sixteen independent sums a warp: what mma.sync gives when nothing is loaded. (Hopper's
// wgmma gives more; kernels that use it are to be held against the vendor's figure.)
KERNEL(GROUP) mma_bf16(GLOBAL float* RESTRICT y, const int turns)
{
    float c[16][4];
    #pragma unroll
    for (int i = 0; i < 16; i++) c[i][0] = c[i][1] = c[i][2] = c[i][3] = 0;
    const uint a0 = 0x3f803f80u + LANE, a1 = a0 + 1, a2 = a0 + 2, a3 = a0 + 3, b0 = a0 + 4, b1 = a0 + 5;
    for (int t = 0; t < turns; t++) {
        #pragma unroll
        for (int i = 0; i < 16; i++)
            asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                : "+f"(c[i][0]), "+f"(c[i][1]), "+f"(c[i][2]), "+f"(c[i][3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
    }
    float sum = 0;
    #pragma unroll
    for (int i = 0; i < 16; i++) sum += c[i][0] + c[i][1] + c[i][2] + c[i][3];
    y[GROUP_X * GROUP + LANE] = sum;
}
