using System.Diagnostics;

namespace GemmaServer;

/// <summary>
/// The part that streamed answers of chat and text completions share: wait, take, write, flush; keep-alives while nothing
/// comes; errors as HTTP errors as long as nothing was sent.
/// </summary>
internal sealed class AnswerLoop(HttpContext http, GenerationSet generations, RequestWatch watch, TimeSpan keepAlive)
{
    /// <summary>
    /// Tokens of a choice that become text in one go. A client that keeps up never has as many waiting; for one that does not,
    /// the rest waits as tokens, which are small, and not as text in the response's buffer.
    /// </summary>
    public const int MostAtOnce = 32;

    /// <summary>Runs a streamed answer.</summary>
    /// <param name="stream">Where it goes.</param>
    /// <param name="isDone">By place: this choice is complete.</param>
    /// <param name="take">Takes what has come for all choices, or a part of it; false when there was nothing.</param>
    /// <param name="failure">The first failure of a choice, if any.</param>
    /// <param name="open">Writes what stands before the first token.</param>
    /// <param name="write">Writes what was taken.</param>
    /// <param name="close">Writes what stands after the last token, before the end mark.</param>
    public async Task StreamAsync(
        SseStream stream, Func<int, bool> isDone, Func<bool> take, Func<ApiError?> failure, Action open, Action write, Action close)
    {
        CancellationToken aborted = http.RequestAborted;
        using Wake wake = new(aborted, keepAlive);
        bool isOpen = false;
        while (true)
        {
            bool took = take();
            if (failure() is { } error)
            {
                await FailAsync(stream, error);
                return;
            }
            if (took)
            {
                wake.Heard();
                Open();
                write();
                if (AllDone(isDone)) break;
                await stream.FlushAsync(aborted);
                continue;
            }
            try
            {
                await generations.WaitAsync(isDone, wake.Arm());
            }
            catch (OperationCanceledException) when (!aborted.IsCancellationRequested)
            {
                if (!wake.IsDue) continue;
                wake.Heard();
                // Nothing for a while (a long prompt, a long queue): show life. From here on errors go into the stream.
                Open();
                stream.KeepAlive();
                await stream.FlushAsync(aborted);
            }
        }
        close();
        stream.Done();
        await stream.FlushAsync(aborted);

        void Open()
        {
            if (isOpen) return;
            isOpen = true;
            stream.Start();
            open();
        }
    }

    /// <summary>Waits until all choices of a whole answer are complete; gives the first failure.</summary>
    public async Task<ApiError?> CollectAsync(Func<int, bool> isDone, Func<bool> take, Func<ApiError?> failure)
    {
        while (true)
        {
            bool took = take();
            if (failure() is { } error)
            {
                generations.Cancel();
                return error;
            }
            if (AllDone(isDone)) return null;
            if (!took) await generations.WaitAsync(isDone, http.RequestAborted);
        }
    }

    private async Task FailAsync(SseStream stream, ApiError error)
    {
        generations.Cancel();
        watch.Failed(error);
        if (!stream.IsStarted)
        {
            await error.WriteAsync(http);
            return;
        }
        // No end mark: a client must not take this for a complete answer.
        error.Write(stream.Begin());
        stream.End();
        await stream.FlushAsync(http.RequestAborted);
    }

    private bool AllDone(Func<int, bool> isDone)
    {
        for (int i = 0; i < generations.All.Count; i++)
        {
            if (!isDone(i)) return false;
        }
        return true;
    }

    /// <summary>A token that is cancelled when the client goes, or when nothing came for a while.</summary>
    /// <remarks>
    /// Setting a timer anew for each token would cost more than the wait itself. It runs to its end instead, once in a while
    /// for a stream that is not silent, and is then set for the rest of the time.
    /// </remarks>
    private sealed class Wake(CancellationToken aborted, TimeSpan after) : IDisposable
    {
        private CancellationTokenSource? _source;
        private long _heardAt = Stopwatch.GetTimestamp();

        /// <summary>Whether the silence has lasted long enough.</summary>
        public bool IsDue => Stopwatch.GetElapsedTime(_heardAt) >= after;

        /// <summary>Something came: the silence begins anew.</summary>
        public void Heard() => _heardAt = Stopwatch.GetTimestamp();

        /// <summary>The token for a wait; when it is cancelled, <see cref="IsDue"/> tells whether for silence.</summary>
        public CancellationToken Arm()
        {
            if (_source is { IsCancellationRequested: false }) return _source.Token;
            _source?.Dispose();
            _source = CancellationTokenSource.CreateLinkedTokenSource(aborted);
            TimeSpan left = after - Stopwatch.GetElapsedTime(_heardAt);
            // Timers count whole milliseconds, so one more or it would be early.
            _source.CancelAfter(TimeSpan.FromMilliseconds(Math.Max(0, left.TotalMilliseconds) + 1));
            return _source.Token;
        }

        public void Dispose() => _source?.Dispose();
    }
}
