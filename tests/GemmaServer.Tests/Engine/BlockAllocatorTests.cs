using GemmaServer.Compute;
using GemmaServer.Engine;

namespace GemmaServer.Tests.Engine;

public sealed class BlockAllocatorTests
{
    public static TheoryData<int, int> WindowsAndPages => new()
    {
        { 1, 1 }, { 1, 4 }, { 2, 1 }, { 4, 4 }, { 5, 4 }, { 7, 3 }, { 8, 16 }, { 16, 4 },
    };

    [Theory]
    [MemberData(nameof(WindowsAndPages))]
    public void A_sliding_page_is_held_exactly_while_a_coming_query_sees_into_it(int window, int tokensPerPage)
    {
        BlockAllocator blocks = new(new KvCachePlan([new KvGroup([0], window, tokensPerPage, 1)], tokensPerPage, 100, KvCacheType.F32));
        BlockTable table = blocks.NewTable();
        blocks.Grow(table, 60);
        for (int committed = 0; committed <= 60; committed++)
        {
            blocks.ReleaseLeftWindow(table, committed);
            for (int page = 0; page < table.Count(0); page++)
            {
                // The coming query at `committed` sees committed − window + 1 and later.
                bool seen = (page + 1) * tokensPerPage - 1 >= committed - window + 1;
                Assert.Equal(seen, table.Pages(0)[page] != BlockTable.Released);
            }
            blocks.CheckIntegrity([table]);
        }
    }

    [Fact]
    public void A_global_page_is_never_given_back_early()
    {
        BlockAllocator blocks = new(new KvCachePlan([new KvGroup([0], 0, 4, 1)], 4, 100, KvCacheType.F32));
        BlockTable table = blocks.NewTable();
        blocks.Grow(table, 50);
        Assert.Equal(0, blocks.ReleaseLeftWindow(table, 50));
        Assert.DoesNotContain(BlockTable.Released, table.Pages(0).ToArray());
    }

    [Fact]
    public void Rows_that_fit_is_the_largest_number_the_free_pages_hold()
    {
        for (int pages = 0; pages < 40; pages++)
        {
            BlockAllocator blocks = new(EngineHarness.PlanOf(pages));
            BlockTable table = blocks.NewTable();
            int first = blocks.RowsThatFit(table, 0, 7);
            blocks.Grow(table, first);
            int rows = blocks.RowsThatFit(table, first, 30);
            Assert.True(blocks.PagesMissing(table, first + rows) <= blocks.FreePages);
            if (rows < 30) Assert.True(blocks.PagesMissing(table, first + rows + 1) > blocks.FreePages);
        }
    }

    [Fact]
    public void A_chunked_run_never_holds_more_pages_than_the_plan_says()
    {
        for (int chunk = 1; chunk < 20; chunk++)
        {
            KvCachePlan plan = EngineHarness.PlanOf(300);
            BlockAllocator blocks = new(plan);
            BlockTable table = blocks.NewTable();
            for (int start = 0; start < 100; start += chunk)
            {
                int end = Math.Min(100, start + chunk);
                blocks.Grow(table, end);
                Assert.True(plan.PageCount - blocks.FreePages <= plan.PagesForSequence(100, chunk));
                blocks.ReleaseLeftWindow(table, end);
            }
        }
    }

    [Fact]
    public void A_page_in_two_tables_is_found()
    {
        BlockAllocator blocks = new(EngineHarness.PlanOf(20));
        BlockTable one = blocks.NewTable();
        BlockTable two = blocks.NewTable();
        blocks.Grow(one, 1);
        two.Add(0, one.Pages(0)[0]);
        Assert.Throws<InvalidOperationException>(() => blocks.CheckIntegrity([one, two]));
    }
}
