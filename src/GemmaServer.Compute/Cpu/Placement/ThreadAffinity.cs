using System.Runtime.InteropServices;

namespace GemmaServer.Compute;

/// <summary>Which CPUs a thread may run on. Linux only; elsewhere nothing is restricted.</summary>
/// <remarks>
/// Source: sched_setaffinity(2). Both calls take a thread's id, 0 for the caller; a mask has the bit <c>1 &lt;&lt; cpu % 64</c>
/// in word <c>cpu / 64</c> (CPU_SET(3); on little-endian machines words of 32 bits look the same). The kernel refuses to fill
/// a mask with fewer bits than it was built for, so there is room for <see cref="CpuList.Limit"/>.
/// </remarks>
public static unsafe partial class ThreadAffinity
{
    private const int Words = CpuList.Limit / 64;

    /// <summary>Whether threads can be pinned here.</summary>
    public static bool IsSupported => OperatingSystem.IsLinux();

    /// <summary>CPUs of the calling thread, ascending.</summary>
    /// <exception cref="InvalidOperationException">The system does not say.</exception>
    public static int[] Get() => Get(0);

    /// <summary>CPUs that the process was started with: those of its first thread, which nobody pins.</summary>
    /// <exception cref="InvalidOperationException">The system does not say.</exception>
    public static int[] OfProcess() => Get(Environment.ProcessId);

    /// <summary>Restricts the calling thread.</summary>
    /// <exception cref="InvalidOperationException">The process may use none of them, or the system allows no restriction.</exception>
    public static void Set(ReadOnlySpan<int> cpus)
    {
        ulong* mask = stackalloc ulong[Words];
        new Span<ulong>(mask, Words).Clear();
        foreach (int cpu in cpus) mask[cpu / 64] |= 1ul << (cpu % 64);
        if (SetAffinity(0, Words * sizeof(ulong), mask) != 0)
            throw new InvalidOperationException($"A thread cannot be pinned to CPUs {CpuList.Format(cpus.ToArray())}: {Marshal.GetLastPInvokeErrorMessage()}.");
    }

    /// <summary>Restricts the calling thread until the result is disposed on it; no CPUs leave it as it is.</summary>
    /// <exception cref="InvalidOperationException">As <see cref="Set"/>.</exception>
    public static Stay StayOn(ReadOnlySpan<int> cpus)
    {
        if (cpus.IsEmpty) return default;
        Stay stay = new(Get());
        Set(cpus);
        return stay;
    }

    private static int[] Get(int thread)
    {
        ulong* mask = stackalloc ulong[Words];
        new Span<ulong>(mask, Words).Clear();
        if (GetAffinity(thread, Words * sizeof(ulong), mask) != 0)
            throw new InvalidOperationException($"The CPUs of thread {thread} are not known: {Marshal.GetLastPInvokeErrorMessage()}.");
        List<int> cpus = [];
        for (int cpu = 0; cpu < CpuList.Limit; cpu++)
            if ((mask[cpu / 64] >> (cpu % 64) & 1) != 0) cpus.Add(cpu);
        return [.. cpus];
    }

    [LibraryImport("libc", EntryPoint = "sched_setaffinity", SetLastError = true)]
    private static partial int SetAffinity(int thread, nuint bytes, ulong* mask);

    [LibraryImport("libc", EntryPoint = "sched_getaffinity", SetLastError = true)]
    private static partial int GetAffinity(int thread, nuint bytes, ulong* mask);

    /// <summary>A restriction that ends.</summary>
    public readonly ref struct Stay
    {
        private readonly int[]? _before;

        internal Stay(int[] before) => _before = before;

        /// <summary>Gives the thread its CPUs back.</summary>
        public void Dispose()
        {
            if (_before is not null) Set(_before);
        }
    }
}
