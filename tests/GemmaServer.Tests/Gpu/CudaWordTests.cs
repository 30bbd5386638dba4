using GemmaServer.Compute;

namespace GemmaServer.Tests.Gpu;

/// <summary>
/// The words of CUDA-only kernels. On a GPU these hold the hardware against the fragment layouts that Kernels/cuda_tensor.h states; on
/// the stand-in driver they hold its emulation against the same.
/// </summary>
[Trait("Category", "Gpu")]
public sealed unsafe class CudaWordTests
{
    [CudaTheory]
    [InlineData("mma_bf16", false)]
    [InlineData("mma_bf16", true)]
    [InlineData("mma_f16", true)]
    public void Tensor_cores_multiply_tiles_that_ldmatrix_brings(string mma, bool transposed)
    {
        // B lies by columns for the plain load, by rows for the transposed one.
        string load = transposed ? "ldmatrix_x2_trans(b, tb + LANE % 16 * 8)" : "ldmatrix_x2(b, tb + LANE % 8 * 16 + LANE / 8 % 2 * 8)";
        string source = $$"""
            KERNEL(32) multiply(GLOBAL const unsigned short* x, GLOBAL const unsigned short* w, GLOBAL float* y)
            {
                DYNAMIC_SHARED(unsigned short, ta);
                unsigned short* tb = ta + 256;
                cp_async_16(ta + LANE * 8, x + LANE * 8);
                cp_async_16(ta + 8 * 32 + LANE * 0 + (LANE % 16) * 8, w + LANE % 16 * 8);
                cp_async_commit();
                CP_ASYNC_WAIT(0);
                BARRIER;
                cp_async_16(ta + LANE * 8, x + 256 + LANE * 8);
                cp_async_commit();
                CP_ASYNC_WAIT(0);
                BARRIER;
                unsigned int a[4], b[2];
                float sum[4] = {0, 0, 0, 0};
                ldmatrix_x4(a, ta + LANE % 16 * 16 + LANE / 16 * 8);
                {{load}};
                {{mma}}(sum, a, b);
                for (int i = 0; i < 4; i++) y[(LANE / 4 + i / 2 * 8) * 8 + LANE % 4 * 2 + i % 2] = sum[i];
            }
            """;
        // The first 256 of x are never multiplied: they show that the second copy was waited for.
        Random random = new(3);
        float[] x = [.. Enumerable.Range(0, 512).Select(_ => random.Next(-32, 33) / 16f)], w = [.. Enumerable.Range(0, 128).Select(_ => random.Next(-32, 33) / 16f)];
        float[] y = Run<float>(source, "multiply", 128, 1024, mma == "mma_f16" ? Halves(x) : Upper(x), mma == "mma_f16" ? Halves(w) : Upper(w));
        for (int r = 0; r < 16; r++)
            for (int c = 0; c < 8; c++)
            {
                float sum = 0;
                for (int k = 0; k < 16; k++) sum += x[256 + r * 16 + k] * (transposed ? w[k * 8 + c] : w[c * 16 + k]);
                Assert.Equal(sum, y[r * 8 + c], 1e-4f);
            }
    }

    [CudaFact]
    public void Tensor_cores_multiply_bytes()
    {
        const string Source = """
            KERNEL(32) multiply(GLOBAL const unsigned int* x, GLOBAL const unsigned int* w, GLOBAL int* y)
            {
                const int g = LANE / 4, t = LANE % 4;
                unsigned int a[4] = {x[g * 8 + t], x[(g + 8) * 8 + t], x[g * 8 + t + 4], x[(g + 8) * 8 + t + 4]};
                unsigned int b[2] = {w[g * 8 + t], w[g * 8 + t + 4]};
                int sum[4] = {1, 2, 3, 4};
                mma_s8(sum, a, b);
                for (int i = 0; i < 4; i++) y[(g + i / 2 * 8) * 8 + t * 2 + i % 2] = sum[i];
            }
            """;
        sbyte[] x = new sbyte[16 * 32], w = new sbyte[8 * 32];
        Random random = new(4);
        for (int i = 0; i < x.Length; i++) x[i] = (sbyte)random.Next(-128, 128);
        for (int i = 0; i < w.Length; i++) w[i] = (sbyte)random.Next(-128, 128);
        int[] y = Run<int>(Source, "multiply", 128, 0, System.Runtime.InteropServices.MemoryMarshal.AsBytes<sbyte>(x).ToArray(), System.Runtime.InteropServices.MemoryMarshal.AsBytes<sbyte>(w).ToArray());
        for (int r = 0; r < 16; r++)
            for (int c = 0; c < 8; c++)
                Assert.Equal(1 + r / 8 * 2 + c % 2 + Enumerable.Range(0, 32).Sum(k => x[r * 32 + k] * w[c * 32 + k]), y[r * 8 + c]);
    }

    [CudaFact]
    public void Warps_meet()
    {
        const string Source = """
            KERNEL(64) meet(GLOBAL const int* x, GLOBAL const int* unused, GLOBAL int* y)
            {
                const int mine = x[LANE];
                int at = LANE * 8;
                y[at++] = __shfl_xor_sync(0xffffffffu, mine, 5);
                y[at++] = __shfl_down_sync(0xffffffffu, mine, 3);
                y[at++] = __shfl_up_sync(0xffffffffu, mine, 2, 8);
                y[at++] = __shfl_sync(0xffffffffu, mine, 9, 16);
                y[at++] = (int)__ballot_sync(0xffffffffu, mine % 3 == 0);
                if (LANE % 32 < 8) y[at] = __shfl_xor_sync(0xffu, mine, 1);
                else y[at] = __shfl_xor_sync(0xffffff00u, mine, 8);
                at++;
                SHARED int all[64];
                all[LANE] = mine;
                BARRIER;
                y[at++] = all[63 - LANE];
                y[at++] = __dp4a(mine * 0x01010101, 0x01ff02fe, 5);
            }
            """;
        int[] x = [.. Enumerable.Range(0, 64).Select(static i => i * 7 % 61)];
        int[] y = Run<int>(Source, "meet", 64 * 8, 0, System.Runtime.InteropServices.MemoryMarshal.AsBytes<int>(x).ToArray(), new byte[4]);
        for (int i = 0; i < 64; i++)
        {
            int warp = i / 32 * 32, lane = i % 32, votes = 0;
            for (int l = 0; l < 32; l++) votes |= x[warp + l] % 3 == 0 ? 1 << l : 0;
            int[] expected =
            [
                x[warp + (lane ^ 5)], x[warp + (lane + 3 < 32 ? lane + 3 : lane)], x[warp + (lane % 8 >= 2 ? lane - 2 : lane)], x[warp + lane / 16 * 16 + 9], votes,
                x[warp + (lane < 8 ? lane ^ 1 : lane ^ 8)], x[63 - i], 5,
            ];
            // 1 - 1 + 2 - 2: the dot product of equal bytes is nothing.
            if (lane is >= 8 and < 16) expected[5] = y[i * 8 + 5];
            Assert.Equal(expected, y[(i * 8)..(i * 8 + 8)]);
        }
    }

    [CudaFact]
    public void More_shared_memory_than_usual_is_asked_for()
    {
        const int Bytes = 96 << 10;
        const string Source = """
            KERNEL(64) turn(GLOBAL const int* x, GLOBAL const int* unused, GLOBAL int* y)
            {
                DYNAMIC_SHARED(int, all);
                for (int i = LANE; i < 24576; i += 64) all[i] = i * 3;
                BARRIER;
                y[LANE] = all[24575 - LANE] + x[0];
            }
            """;
        int[] y = Run<int>(Source, "turn", 64, Bytes, BitConverter.GetBytes(1), new byte[4]);
        Assert.Equal([.. Enumerable.Range(0, 64).Select(static i => (24575 - i) * 3 + 1)], y);
        using CudaContext gpu = CudaDriver.Open();
        GpuKernel kernel = gpu.Kernel(KernelSource.FromText("turn.cu", Source, "cuda_tensor.h"), "turn");
        GpuException e = Assert.Throws<GpuException>(() => kernel.Begin().Add(GpuBuffer.None).Add(GpuBuffer.None).Add(GpuBuffer.None).Run(64, 1, sharedBytes: 1 << 20));
        Assert.Contains("1048576 bytes of shared memory", e.Message);
    }

    [CudaStandInFact]
    public void A_write_outside_of_a_buffer_is_a_lost_context()
    {
        using CudaContext gpu = CudaDriver.Open();
        GpuBuffer buffer = gpu.Allocate(20, "a test");
        gpu.Kernel(KernelSource.FromText("outside.cl", "KERNEL(64) outside(GLOBAL int* y) { y[5] = 1; }"), "outside").Begin().Add(buffer).Run(64, 1);
        GpuException e = Assert.Throws<GpuException>(gpu.Finish);
        Assert.Contains("CUDA_ERROR_ILLEGAL_ADDRESS (700): an illegal memory access", e.Message);
        Assert.Contains("restart the server", e.Message);
        Assert.Throws<GpuException>(gpu.Finish);
    }

    [CudaStandInFact]
    public void A_meeting_that_not_all_come_to_is_a_failed_launch()
    {
        using CudaContext gpu = CudaDriver.Open();
        const string Source = "KERNEL(32) alone(GLOBAL int* y) { if (LANE < 5) y[LANE] = __shfl_xor_sync(0xffffffffu, LANE, 1); }";
        GpuBuffer buffer = gpu.Allocate(128, "a test");
        gpu.Kernel(KernelSource.FromText("alone.cl", Source), "alone").Begin().Add(buffer).Run(32, 1);
        Assert.Contains("CUDA_ERROR_LAUNCH_FAILED (719)", Assert.Throws<GpuException>(gpu.Finish).Message);
    }

    [CudaStandInFact]
    public void A_copy_that_is_not_waited_for_is_not_there()
    {
        const string Source = """
            KERNEL(32) early(GLOBAL const float* x, GLOBAL const float* unused, GLOBAL float* y)
            {
                DYNAMIC_SHARED(float, all);
                cp_async_16(all + LANE * 4, x + LANE * 4);
                cp_async_commit();
                y[LANE] = all[LANE * 4];
                CP_ASYNC_WAIT(0);
                y[32 + LANE] = all[LANE * 4];
            }
            """;
        float[] y = Run<float>(Source, "early", 64, 512, new byte[512], new byte[4]);
        Assert.All(y[..32], static v => Assert.True(float.IsNaN(v)));
        Assert.All(y[32..], static v => Assert.Equal(0, v));
    }

    private static T[] Run<T>(string source, string name, int results, int sharedBytes, byte[] x, byte[] w) where T : unmanaged
    {
        using CudaContext gpu = CudaDriver.Open();
        GpuKernel kernel = gpu.Kernel(KernelSource.FromText(name + ".cu", source, "cuda_tensor.h"), name);
        GpuBuffer gx = gpu.Allocate(x.Length, "a test"), gw = gpu.Allocate(w.Length, "a test"), gy = gpu.Allocate(results * sizeof(T), "a test");
        fixed (byte* px = x, pw = w)
        {
            gpu.Upload(gx, 0, px, x.Length);
            gpu.Upload(gw, 0, pw, w.Length);
        }
        kernel.Begin().Add(gx).Add(gw).Add(gy).Run(source.Contains("KERNEL(64)") ? 64 : 32, 1, sharedBytes: sharedBytes);
        T[] y = new T[results];
        fixed (T* p = y) gpu.Download(p, gy, 0, results * sizeof(T));
        return y;
    }

    private static byte[] Upper(float[] values) => [.. values.SelectMany(static v => BitConverter.GetBytes((ushort)(BitConverter.SingleToUInt32Bits(v) >> 16)))];

    private static byte[] Halves(float[] values) => [.. values.SelectMany(static v => BitConverter.GetBytes((Half)v))];
}
