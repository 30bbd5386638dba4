using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace GemmaServer.Benchmarks;

/// <summary>Reads so many bytes from front to back on all threads and does nothing with them: the wall that a decode stands at.</summary>
internal sealed unsafe class PlainRead(ThreadTeam team, long bytes) : IDisposable
{
    private readonly HugeBuffer _buffer = new(bytes);
    private readonly ulong[] _sinks = new ulong[team.Count * 8];     // a cache line each; without a result the loop could go

    /// <summary>Bytes a second: the median of <paramref name="passes"/> after one that is not counted.</summary>
    public double BytesPerSecond(int passes) => bytes / Figures.Median(Passes(passes));

    /// <summary>Bytes a second of the best pass, to hold the best runs of kernels against.</summary>
    public double BestBytesPerSecond(int passes) => bytes / Passes(passes).Min();

    private double[] Passes(int count)
    {
        team.Run(ReadShare);
        return [.. Enumerable.Range(0, count).Select(_ => team.Run(ReadShare))];
    }

    public void Dispose() => _buffer.Dispose();

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void ReadShare(int thread)
    {
        // In lines of 512 bytes, eight loads in flight.
        const int Line = 512;
        long lines = bytes / Line, first = lines * thread / team.Count, last = lines * (thread + 1) / team.Count;
        Vector512<ulong> a = default, b = default, c = default, d = default;
        for (byte* p = _buffer.Pointer + first * Line, end = _buffer.Pointer + last * Line; p < end; p += Line)
        {
            a ^= Vector512.Load((ulong*)p) ^ Vector512.Load((ulong*)(p + 64));
            b ^= Vector512.Load((ulong*)(p + 128)) ^ Vector512.Load((ulong*)(p + 192));
            c ^= Vector512.Load((ulong*)(p + 256)) ^ Vector512.Load((ulong*)(p + 320));
            d ^= Vector512.Load((ulong*)(p + 384)) ^ Vector512.Load((ulong*)(p + 448));
        }
        _sinks[thread * 8] = Vector512.Sum(a ^ b ^ c ^ d);
    }
}
