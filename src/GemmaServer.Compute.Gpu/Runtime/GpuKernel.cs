namespace GemmaServer.Compute;

/// <summary>A compiled kernel. <see cref="Begin"/>, its arguments in order, then Run: nothing is allocated.</summary>
internal abstract class GpuKernel(string name)
{
    public string Name { get; } = name;

    public KernelCall Begin() => new(this);

    public abstract void Set(int index, GpuBuffer buffer);

    public abstract void Set(int index, int value);

    public abstract void Set(int index, float value);

    /// <summary>Queues it over x · y · z groups of <paramref name="groupSize"/> work items; no groups is no launch.</summary>
    /// <param name="x">Groups in the first direction.</param>
    /// <param name="y">Groups in the second.</param>
    /// <param name="z">Groups in the third.</param>
    /// <param name="groupSize">Work items in a group.</param>
    /// <param name="arguments">How many arguments were given.</param>
    /// <param name="sharedBytes">CUDA-only kernels: bytes of DYNAMIC_SHARED memory, up to <see cref="GpuInfo.LocalBytes"/>.</param>
    public abstract void Launch(int x, int y, int z, int groupSize, int arguments, int sharedBytes);
}

/// <summary>A kernel with the arguments given so far.</summary>
internal ref struct KernelCall(GpuKernel kernel)
{
    private int _count;

    public KernelCall Add(GpuBuffer buffer)
    {
        kernel.Set(_count++, buffer);
        return this;
    }

    public KernelCall Add(int value)
    {
        kernel.Set(_count++, value);
        return this;
    }

    public KernelCall Add(float value)
    {
        kernel.Set(_count++, value);
        return this;
    }

    public readonly void Run(int groupSize, int x, int y = 1, int z = 1, int sharedBytes = 0)
    {
        if (x > 0 && y > 0 && z > 0) kernel.Launch(x, y, z, groupSize, _count, sharedBytes);
    }
}
