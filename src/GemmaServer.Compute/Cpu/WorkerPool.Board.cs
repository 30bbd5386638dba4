using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace GemmaServer.Compute;

public sealed unsafe partial class WorkerPool
{
    /// <summary>
    /// What workers share, outside the collector's heap: words that different threads write lie 128 bytes apart, because
    /// processors fetch cache lines of 64 bytes in pairs.
    /// </summary>
    private sealed class Board : IDisposable
    {
        private const int Line = 128;
        private readonly byte* _memory;

        public Board(int threads)
        {
            nuint bytes = (nuint)((3 + threads) * Line);
            _memory = (byte*)NativeMemory.AlignedAlloc(bytes, Line);
            NativeMemory.Clear(_memory, bytes);
        }

        // Written by the caller once a run. The job is on the word's own line: who sees the run has the job.
        public ref long Run => ref At<long>(0);
        public ref void* Job => ref *(void**)(_memory + 8);
        public ref delegate*<void*, int, int, int, void> Body => ref *(delegate*<void*, int, int, int, void>*)(_memory + 16);

        // Written by each worker at the end of a run.
        public ref int Completed => ref At<int>(Line);
        public ref int CallerParked => ref At<int>(Line + 4);

        // Read all the time and seldom written.
        public ref int Parked => ref At<int>(2 * Line);
        public ref long SpinTicks => ref At<long>(2 * Line + 8);

        /// <summary>Run and next item of a worker's share.</summary>
        public ref long Claimed(int worker) => ref At<long>((3 + worker) * Line);

        public void Dispose() => NativeMemory.AlignedFree(_memory);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        private ref T At<T>(int offset) where T : unmanaged => ref *(T*)(_memory + offset);
    }
}
