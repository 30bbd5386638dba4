using GemmaServer.Engine;

namespace GemmaServer.Tests.Engine;

public sealed class TokenEventQueueTests
{
    private static TokenEvent Token(int token, FinishReason finish = FinishReason.None) => new(token, float.NaN, null, finish);

    [Fact]
    public void A_reader_far_behind_still_gets_everything_in_order()
    {
        TokenEventQueue queue = new(4);
        for (int i = 0; i < 5000; i++) queue.Write(Token(i));
        for (int i = 0; i < 5000; i++)
        {
            Assert.True(queue.TryRead(out TokenEvent e));
            Assert.Equal(i, e.Token);
        }
        Assert.False(queue.TryRead(out _));
    }

    [Theory]
    [InlineData(2)]
    [InlineData(64)]
    public async Task Events_written_on_one_thread_arrive_on_another_in_order(int capacity)
    {
        const int count = 200_000;
        TokenEventQueue queue = new(capacity);
        Thread writer = new(() =>
        {
            for (int i = 0; i < count; i++)
            {
                queue.Write(Token(i, i == count - 1 ? FinishReason.Length : FinishReason.None));
                if (i % 1000 == 0) Thread.Yield();      // lets the reader fall asleep now and then
            }
        });
        writer.Start();
        int next = 0;
        while (await queue.WaitToReadAsync(CancellationToken.None))
            while (queue.TryRead(out TokenEvent e)) Assert.Equal(next++, e.Token);
        Assert.Equal(count, next);
        writer.Join();
    }

    [Fact]
    public async Task The_readers_code_never_runs_on_the_writers_thread()
    {
        TokenEventQueue queue = new(2);
        Task<int> reader = Task.Run(async () =>
        {
            Assert.True(await queue.WaitToReadAsync(CancellationToken.None).ConfigureAwait(false));
            return Environment.CurrentManagedThreadId;
        });
        int writerId = 0;
        Thread writer = new(() =>
        {
            writerId = Environment.CurrentManagedThreadId;
            Thread.Sleep(20);       // so that the reader most likely sleeps; the assertion holds either way
            queue.Write(Token(1));
        });
        writer.Start();
        Assert.NotEqual(await reader, writerId);
        writer.Join();
    }

    [Fact]
    public async Task After_the_last_event_waiting_says_false()
    {
        TokenEventQueue queue = new(2);
        queue.Write(Token(7, FinishReason.Stop));
        Assert.True(await queue.WaitToReadAsync(CancellationToken.None));
        Assert.True(queue.TryRead(out _));
        Assert.False(await queue.WaitToReadAsync(CancellationToken.None));
    }

    [Fact]
    public async Task A_cancelled_wait_ends_and_a_later_one_works()
    {
        TokenEventQueue queue = new(2);
        for (int i = 0; i < 50; i++)
        {
            using CancellationTokenSource source = new();
            ValueTask<bool> wait = queue.WaitToReadAsync(source.Token);
            Assert.False(wait.IsCompleted);
            source.Cancel();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(async () => await wait);
        }
        ValueTask<bool> last = queue.WaitToReadAsync(CancellationToken.None);
        queue.Write(Token(1));
        Assert.True(await last);
    }

    [Fact]
    public async Task A_second_reader_is_refused()
    {
        TokenEventQueue queue = new(2);
        ValueTask<bool> first = queue.WaitToReadAsync(CancellationToken.None);
        Assert.Throws<InvalidOperationException>(() => { _ = queue.WaitToReadAsync(CancellationToken.None); });
        queue.Write(Token(1));
        Assert.True(await first);
    }
}
