using GemmaServer.Compute;

namespace GemmaServer.Tests.Gpu;

/// <summary>The CUDA runtime: kernels, memory, copies, events, and what it says when something fails.</summary>
[Trait("Category", "Gpu")]
public sealed unsafe class CudaTests
{
    private const float Epsilon = 1e-6f;

    [CudaTheory]
    [InlineData(1, 96)]
    [InlineData(5, 640)]
    public void Rows_are_normed_as_their_twin_does(int rows, int columns)
    {
        using GpuBench bench = new(gpu: CudaDriver.Open());
        GpuRows kernels = new(bench.Gpu, bench.Step, Epsilon);
        float[] x = GpuBench.Random((rows + 1) * columns, 1, 3), w = GpuBench.Random(columns, 3), before = GpuBench.Random((rows + 1) * columns, 4);
        using GpuTensor gx = bench.Tensor(rows + 1, columns, x), gy = bench.Tensor(rows + 1, columns, before);
        using GpuVector gw = new(bench.Gpu, w);

        bench.Begin(rows);
        kernels.RmsNorm(gx, gw, gy, add: false);

        float[] y = GpuBench.Rows(gy, rows + 1), expected = new float[columns];
        for (int r = 0; r < rows; r++)
        {
            RmsNorm.RowReference(x.AsSpan(r * columns, columns), w, Epsilon, expected);
            for (int i = 0; i < columns; i++) Assert.Equal(expected[i], y[r * columns + i], 1e-5f);
        }
        Assert.Equal(before[(rows * columns)..], y[(rows * columns)..]);
    }

    [CudaFact]
    public void Uploads_longer_than_a_staging_piece_arrive_whole()
    {
        using CudaContext gpu = CudaDriver.Open();
        byte[] sent = new byte[(40 << 20) + 12345], received = new byte[sent.Length];
        new Random(1).NextBytes(sent);
        GpuBuffer buffer = gpu.Allocate(sent.Length + 1, "a test");
        byte[] small = [1, 2, 3, 4, 5];
        GpuBuffer beside = gpu.Allocate(small.Length, "a test");
        fixed (byte* from = sent, to = received, s = small)
        {
            gpu.Upload(beside, 0, s, small.Length);
            gpu.Upload(buffer, 1, from, sent.Length);
            // The source may change as soon as the call is back.
            s[0] = 9;
            gpu.Download(to, buffer, 1, sent.Length);
            Assert.True(sent.AsSpan().SequenceEqual(received));
            gpu.Download(to, beside, 0, small.Length);
        }
        Assert.Equal([1, 2, 3, 4, 5], received[..5]);
    }

    [CudaFact]
    public void Copies_through_pinned_memory_keep_the_queues_order()
    {
        using CudaContext gpu = CudaDriver.Open();
        using PinnedBuffer host = gpu.AllocatePinned(64), back = gpu.AllocatePinned(64);
        GpuBuffer buffer = gpu.Allocate(64, "a test");
        gpu.Clear(buffer, 64);
        host.Span<int>()[3] = 42;
        gpu.Write(buffer, 8, host, 12, 4);
        gpu.Read(back, 4, buffer, 0, 16);
        GpuEvent mark = gpu.Record();
        gpu.Wait(mark);
        Assert.Equal([0, 0, 42, 0], back.Span<int>().Slice(1, 4).ToArray());
    }

    [CudaFact]
    public void A_context_follows_the_thread_that_calls()
    {
        using CudaContext gpu = CudaDriver.Open();
        int value = 0;
        GpuBuffer buffer = default;
        Exception? failed = null;
        Thread other = new(() =>
        {
            try
            {
                int sent = 7;
                buffer = gpu.Allocate(4, "a test");
                gpu.Upload(buffer, 0, &sent, 4);
            }
            catch (Exception e)
            {
                failed = e;
            }
        });
        other.Start();
        other.Join();
        Assert.Null(failed);
        gpu.Download(&value, buffer, 0, 4);
        Assert.Equal(7, value);
    }

    [CudaFact]
    public void Memory_that_is_not_there_is_refused_with_figures()
    {
        using CudaContext gpu = CudaDriver.Open();
        GpuBuffer taken = gpu.Allocate(1000, "a test");
        long wanted = 2 * gpu.Info.TotalBytes;
        GpuException e = Assert.Throws<GpuException>(() => gpu.Allocate(wanted, "the KV cache"));
        Assert.Contains($"{wanted} bytes left for the KV cache", e.Message);
        Assert.Contains($"{gpu.UsedBytes} are taken", e.Message);
        Assert.Contains("--gpu-memory-utilization", e.Message);
        // What was there still works.
        gpu.Clear(taken, 1000);
        gpu.Finish();
    }

    [CudaFact]
    public void A_kernel_that_does_not_compile_says_why()
    {
        using CudaContext gpu = new(0, new KernelCache(null));
        GpuException e = Assert.Throws<GpuException>(() => gpu.Kernel(new KernelSource("rows.cl"), "rms_norm"));
        Assert.Contains("rows.cl", e.Message);
        Assert.Contains("GROUP", e.Message);
    }

    [CudaFact]
    public void A_kernel_that_is_not_in_its_source_is_named()
    {
        using CudaContext gpu = CudaDriver.Open();
        GpuException e = Assert.Throws<GpuException>(() => gpu.Kernel(new KernelSource("rows.cl", [], ("GROUP", 64)), "no_such_kernel"));
        Assert.Contains("no_such_kernel", e.Message);
        Assert.Contains("rows.cl", e.Message);
        Assert.Contains("CUDA_ERROR_NOT_FOUND (500)", e.Message);
    }

    [CudaFact]
    public void A_wrong_number_of_arguments_is_noticed_before_the_launch()
    {
        using CudaContext gpu = CudaDriver.Open();
        GpuKernel kernel = gpu.Kernel(new KernelSource("rows.cl", [], ("GROUP", 64)), "gate_by_input");
        ArgumentException e = Assert.Throws<ArgumentException>(() => kernel.Begin().Add(1).Run(64, 1));
        Assert.Contains("takes 6 arguments, not 1", e.Message);
    }

    [CudaFact]
    public void A_device_that_is_not_there_is_named_beside_those_that_are()
    {
        GpuException e = Assert.Throws<GpuException>(() => new CudaContext(99));
        Assert.Contains("cuda:99", e.Message);
        Assert.Contains("cuda:0", e.Message);
    }

    [CudaFact]
    public void Compiled_kernels_are_taken_from_disk()
    {
        string folder = Directory.CreateTempSubdirectory("kernels-").FullName;
        try
        {
            using (CudaContext gpu = new(0, new KernelCache(folder))) gpu.Kernel(new KernelSource("rows.cl", [], ("GROUP", 64)), "rms_norm");
            string stored = Assert.Single(Directory.GetFiles(folder));
            byte[] image = File.ReadAllBytes(stored);
            DateTime written = new(2020, 1, 1, 0, 0, 0, DateTimeKind.Utc);
            File.SetLastWriteTimeUtc(stored, written);
            using (CudaContext gpu = new(0, new KernelCache(folder))) gpu.Kernel(new KernelSource("rows.cl", [], ("GROUP", 64)), "rms_norm");
            Assert.Equal(written, File.GetLastWriteTimeUtc(stored));

            // One that the driver refuses is compiled again.
            File.WriteAllText(stored, "not a program of any kind, but long enough to have a header of sixty-four bytes");
            using (CudaContext gpu = new(0, new KernelCache(folder))) gpu.Kernel(new KernelSource("rows.cl", [], ("GROUP", 64)), "rms_norm");
            Assert.Equal(image, File.ReadAllBytes(stored));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
