using GemmaServer.Engine;

namespace GemmaServer.Tests.Engine;

public sealed class KvBlockPoolTests
{
    [Fact]
    public void Every_page_is_given_out_once()
    {
        KvBlockPool pool = new(5);
        int[] pages = [.. Enumerable.Range(0, 5).Select(_ => pool.Take())];
        Assert.Equal([0, 1, 2, 3, 4], pages.Order());
        Assert.Equal(0, pool.FreePages);
        pool.CheckIntegrity(held: 5);
    }

    [Fact]
    public void A_page_given_back_can_be_taken_again()
    {
        KvBlockPool pool = new(1);
        pool.Return(pool.Take());
        Assert.Equal(0, pool.Take());
    }

    [Fact]
    public void Giving_a_page_back_twice_is_refused()
    {
        KvBlockPool pool = new(2);
        int page = pool.Take();
        pool.Return(page);
        Assert.Throws<InvalidOperationException>(() => pool.Return(page));
    }

    [Fact]
    public void A_page_that_nobody_remembers_is_found()
    {
        KvBlockPool pool = new(4);
        pool.Take();
        pool.Take();
        Assert.Throws<InvalidOperationException>(() => pool.CheckIntegrity(held: 1));
    }
}
