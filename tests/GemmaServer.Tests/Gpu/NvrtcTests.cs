using GemmaServer.Compute;

namespace GemmaServer.Tests.Gpu;

/// <summary>CUDA's own compiler on the kernels; no GPU is needed. Every kernel that other tests run on the stand-in driver passes it too.</summary>
[Trait("Category", "Gpu")]
public sealed class NvrtcTests
{
    /// <summary>One kernel that uses every word of cuda_tensor.h, so that each one's constraints are looked at.</summary>
    private const string AllWords = """
        KERNEL(32) words(GLOBAL const unsigned short* x, GLOBAL float* y, GLOBAL int* z)
        {
            DYNAMIC_SHARED(unsigned short, tile);
            cp_async_16(tile + LANE * 8, x + LANE * 8);
            cp_async_commit();
            cp_async_16_if(tile + 256 + LANE * 8, x + LANE * 8, LANE < 16);
            cp_async_4(tile + 1024 + LANE * 2, x);
            cp_async_commit();
            CP_ASYNC_WAIT(1);
            CP_ASYNC_WAIT(0);
            BARRIER;
            unsigned int a[4], b[2];
            float sum[4] = {0, 0, 0, 0};
            int whole[4] = {0, 0, 0, 0};
            ldmatrix_x4(a, tile + LANE % 16 * 16 + LANE / 16 * 8);
            ldmatrix_x2_trans(b, tile + LANE % 16 * 16);
            mma_bf16(sum, a, b);
            mma_f16(sum, a, b);
            ldmatrix_x4_trans(a, tile + LANE % 16 * 16 + LANE / 16 * 8);
            ldmatrix_x2(b, tile + LANE % 16 * 16);
            mma_s8(whole, a, b);
            for (int i = 0; i < 4; i++) {
                y[LANE * 4 + i] = sum[i] + HALF_TO_FLOAT(x, LANE);
                z[LANE * 4 + i] = whole[i];
            }
            FLOAT_TO_HALF(sum[0], z, LANE + 300);
            z[LANE + 400] = (int)(pack_bf16(sum[0], sum[1]) + pack_f16(sum[2], sum[3]));
            y[LANE + 400] = exp2_approximate(sum[0]);
        }
        """;

    [NvrtcFact]
    public void Every_word_of_the_tensor_header_assembles() => RealNvrtc.Check("words.cu", KernelSource.FromText("words.cu", AllWords, "cuda_tensor.h").Text(GpuApi.Cuda));

    [NvrtcFact]
    public void Kernels_of_rows_and_steps_compile()
    {
        RealNvrtc.Check("rows.cl", new KernelSource("rows.cl", [], ("GROUP", 256)).Text(GpuApi.Cuda));
        RealNvrtc.Check("step.cl", new KernelSource("step.cl").Text(GpuApi.Cuda));
    }

    [NvrtcFact]
    public void A_device_gets_its_own_architecture_or_the_newest_before_it()
    {
        NvrtcCompiler compiler = RealNvrtc.Compiler;
        Assert.Equal("sm_80", compiler.Target(80));
        Assert.Equal("sm_90a", compiler.Target(90));
        string newest = compiler.Target(990);
        Assert.StartsWith("compute_", newest);
        Assert.Contains("older than all it knows", Assert.Throws<GpuException>(() => compiler.Target(13)).Message);

        string text = new KernelSource("step.cl").Text(GpuApi.Cuda);
        byte[] machine = compiler.Compile("step.cl", text, NvrtcCompiler.Options("sm_80")).Image, ptx = compiler.Compile("step.cl", text, NvrtcCompiler.Options(newest)).Image;
        Assert.Equal("\x7f" + "ELF", System.Text.Encoding.Latin1.GetString(machine, 0, 4));
        Assert.Contains(".entry resolve_tokens", System.Text.Encoding.UTF8.GetString(ptx));
        // The driver takes PTX as a string.
        Assert.Equal(0, ptx[^1]);
    }

    [NvrtcFact]
    public void What_does_not_compile_is_told_with_the_compilers_words()
    {
        GpuException e = Assert.Throws<GpuException>(() => RealNvrtc.Compiler.Compile("wrong.cu", "__global__ void f() { unknown_word(); }", NvrtcCompiler.Options("sm_80")));
        Assert.Contains("wrong.cu", e.Message);
        Assert.Contains("unknown_word", e.Message);
        Assert.Contains("NVRTC_ERROR_COMPILATION", e.Message);
    }

    [NvrtcFact]
    public void A_kernel_that_spills_is_refused()
    {
        // 200 values that are all alive, in 32 registers of 512 lanes at 4 blocks.
        string sums = string.Concat(Enumerable.Range(0, 200).Select(static i => $"float v{i} = x[LANE + {i * 64}];\n"));
        string uses = string.Concat(Enumerable.Range(0, 200).Select(static i => $"x[LANE + {(199 - i) * 64}] = v{i} * v{(i + 71) % 200};\n"));
        string source = $"extern \"C\" __global__ void __launch_bounds__(512, 4) spill(volatile float* x)\n{{\n{sums}{uses}}}\n";
        GpuException e = Assert.Throws<GpuException>(() => RealNvrtc.Check("spill.cu", KernelSource.FromText("spill.cu", source).Text(GpuApi.Cuda)));
        Assert.Contains("spills", e.Message);
        Assert.Contains("sm_80", e.Message);
    }
}
