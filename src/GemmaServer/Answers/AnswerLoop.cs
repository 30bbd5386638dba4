using System.Diagnostics;

namespace GemmaServer;

/// <summary>
/// Brings an answer from the engine to its client, whatever API asked: wait, take, write, flush; signs of life while nothing
/// comes; errors as HTTP errors as long as nothing was sent.
/// </summary>
internal sealed class AnswerLoop(
    HttpContext http, GenerationSet generations, IReadOnlyList<IAnswerChoice> choices, RequestWatch watch, TimeSpan keepAlive)
{
    private readonly Func<int, bool> _isDone = place => choices[place].IsDone;

    /// <summary>
    /// Tokens of a choice that become text in one go. A client that keeps up never has as many waiting; for one that does not,
    /// the rest waits as tokens, which are small, and not as text in the response's buffer.
    /// </summary>
    public const int MostAtOnce = 32;

    /// <summary>Runs a streamed answer.</summary>
    public async Task StreamAsync(IAnswerWriter writer)
    {
        CancellationToken aborted = http.RequestAborted;
        EventStream stream = writer.Stream;
        using Wake wake = new(aborted, keepAlive);
        while (true)
        {
            bool took = Take();
            if (Failure() is { } error)
            {
                await FailAsync(writer, error);
                return;
            }
            if (took)
            {
                wake.Heard();
                Open(writer);
                writer.Write();
                if (IsDone()) break;
                await stream.FlushAsync(aborted);
                continue;
            }
            try
            {
                await generations.WaitAsync(_isDone, wake.Arm());
            }
            catch (OperationCanceledException) when (!aborted.IsCancellationRequested)
            {
                if (!wake.IsDue) continue;
                wake.Heard();
                // Nothing for a while (a long prompt, a long queue): show life. From here on errors go into the stream.
                Open(writer);
                stream.KeepAlive();
                await stream.FlushAsync(aborted);
            }
        }
        writer.Close();
        await stream.FlushAsync(aborted);
    }

    /// <summary>Waits until all choices of a whole answer are complete; false when there is none, which the client was told.</summary>
    public async Task<bool> CollectAsync()
    {
        while (true)
        {
            bool took = Take();
            if (Failure() is { } error)
            {
                generations.Cancel();
                watch.Failed(error);
                await error.WriteAsync(http);
                return false;
            }
            if (IsDone()) return true;
            if (!took) await generations.WaitAsync(_isDone, http.RequestAborted);
        }
    }

    private static void Open(IAnswerWriter writer)
    {
        if (writer.Stream.IsStarted) return;
        writer.Stream.Start();
        writer.Open();
    }

    private async Task FailAsync(IAnswerWriter writer, ApiError error)
    {
        generations.Cancel();
        watch.Failed(error);
        if (!writer.Stream.IsStarted)
        {
            await error.WriteAsync(http);
            return;
        }
        writer.Fail(error);
        await writer.Stream.FlushAsync(http.RequestAborted);
    }

    private bool Take()
    {
        bool any = false;
        for (int i = 0; i < choices.Count; i++) any |= choices[i].Take(watch);
        return any;
    }

    private ApiError? Failure()
    {
        for (int i = 0; i < choices.Count; i++)
        {
            if (choices[i].Failure is { } failure) return failure;
        }
        return null;
    }

    private bool IsDone()
    {
        for (int i = 0; i < choices.Count; i++)
        {
            if (!choices[i].IsDone) return false;
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
