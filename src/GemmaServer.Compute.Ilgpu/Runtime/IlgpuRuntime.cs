using ILGPU;
using ILGPU.Algorithms;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using ILGPU.Runtime.Cuda;
using ILGPU.Runtime.OpenCL;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>Which of ILGPU's back ends runs the kernels.</summary>
public enum IlgpuBackend
{
    /// <summary>NVIDIA's driver, through PTX.</summary>
    Cuda,

    /// <summary>An OpenCL driver with generic pointers (2.0's, optional in 3.0).</summary>
    OpenCl,

    /// <summary>ILGPU's own simulator: runs .NET code, for tests.</summary>
    Cpu,
}

/// <summary>One context with one accelerator, and its loaded kernels.</summary>
/// <remarks>
/// After a kernel fails to compile, every later one fails in that context with a null reference. So the first failure is kept
/// and repeated, and whoever tries another back end makes another runtime.
/// </remarks>
internal sealed class IlgpuRuntime : IDisposable
{
    private readonly Context _context;
    private IlgpuException? _broken;

    public IlgpuRuntime(IlgpuBackend backend, LaunchShape? shape = null)
    {
        IlgpuLibraries.Register();
        Backend = backend;
        Shape = shape ?? (backend == IlgpuBackend.Cpu ? LaunchShape.Simulator : LaunchShape.Gpu);
        _context = CreateContext(backend);
        try
        {
            if (_context.Devices.Length == 0) throw new IlgpuException($"ILGPU finds no device for its {backend} back end.");
            // The strongest first, as ILGPU prefers them.
            Accelerator = _context.GetPreferredDevice(preferCPU: backend == IlgpuBackend.Cpu).CreateAccelerator(_context);
        }
        catch (Exception e)
        {
            _context.Dispose();
            throw e as IlgpuException ?? new IlgpuException($"ILGPU's {backend} back end does not start: {e.Message}", e);
        }
    }

    public IlgpuBackend Backend { get; }

    public LaunchShape Shape { get; }

    public Accelerator Accelerator { get; }

    /// <summary>Bytes that others leave; where the driver does not say, all.</summary>
    public long FreeBytes => Accelerator is CudaAccelerator cuda ? cuda.GetFreeMemory() : Accelerator.MemorySize;

    /// <summary>Contexts of the simulator have groups of NVIDIA's kind; its default ends at 16 lanes.</summary>
    public static Context CreateContext(IlgpuBackend backend) => Context.Create(builder =>
    {
        builder.EnableAlgorithms().Optimize(OptimizationLevel.O2);
        switch (backend)
        {
            case IlgpuBackend.Cuda: builder.Cuda(); break;
            case IlgpuBackend.OpenCl: builder.OpenCL(); break;
            default: builder.CPU(CPUDevice.Nvidia); break;
        }
    });

    /// <summary>Compiles a kernel: <paramref name="load"/> calls one of ILGPU's LoadStreamKernel.</summary>
    /// <exception cref="IlgpuException">It, or one before it, does not compile.</exception>
    public T Load<T>(string name, Func<Accelerator, T> load)
    {
        if (_broken is not null) throw _broken;
        try
        {
            return load(Accelerator);
        }
        catch (Exception e)
        {
            throw _broken = new IlgpuException($"ILGPU cannot compile {name} for {Accelerator.Name}: {e.GetBaseException().Message}", e);
        }
    }

    public MemoryBuffer1D<T, Stride1D.Dense> Allocate<T>(long count) where T : unmanaged
    {
        MemoryBuffer1D<T, Stride1D.Dense> buffer = Accelerator.Allocate1D<T>(Math.Max(1, count));
        buffer.MemSetToZero();
        return buffer;
    }

    /// <summary>Lanes that work alone, one for each item.</summary>
    public KernelConfig Flat(long items) => new(Shape.Groups(items), Shape.Group);

    /// <summary>Lanes that share rows, see <see cref="LaunchShape.RowLanes"/>.</summary>
    public KernelConfig Rows(long rows) => new(Shape.RowGroups(rows), Shape.RowGroup);

    public void Finish() => Accelerator.Synchronize();

    public void Dispose()
    {
        Accelerator.Dispose();
        _context.Dispose();
    }
}
