using System.Text;

namespace GemmaServer.Tests.Http;

public sealed class ResponseStoreTests
{
    private static StoredResponse Response(string id, string? previous = null, string owner = "me", int size = 0) => new(id, owner, previous,
        Encoding.UTF8.GetBytes($"[{{\"id\":\"in_{id}\",\"text\":\"{new string('x', size)}\"}}]"), Encoding.UTF8.GetBytes($"{{\"output\":[{{\"id\":\"out_{id}\"}}]}}"));

    [Fact]
    public void What_was_unused_for_longest_leaves_first()
    {
        ResponseStore store = new(3);
        foreach (string id in (string[])["a", "b", "c"]) store.Add(Response(id));
        Assert.NotNull(store.Find("a", "me"));
        store.Add(Response("d"));
        Assert.Null(store.Find("b", "me"));
        Assert.Null(store.FindItem("in_b", "me"));
        Assert.Equal(["a", "c", "d"], ((string[])["a", "b", "c", "d"]).Where(id => store.Find(id, "me") is not null));
        Assert.Equal(3, store.Count);
    }

    [Fact]
    public void Bytes_are_bounded_and_given_back()
    {
        ResponseStore store = new(1000, maxBytes: 10_000);
        for (int i = 0; i < 50; i++) store.Add(Response($"{i}", size: 1000));
        Assert.InRange(store.Bytes, 1, 10_000);
        Assert.InRange(store.Count, 2, 9);
        store.Add(Response("huge", size: 20_000));
        Assert.Null(store.Find("huge", "me"));
        Assert.NotNull(store.Find("49", "me"));
        for (int i = 0; i < 50; i++) store.Remove($"{i}", "me");
        Assert.Equal((0, 0L), (store.Count, store.Bytes));
    }

    [Fact]
    public void A_chain_comes_oldest_first_and_names_what_is_missing()
    {
        ResponseStore store = new(10);
        store.Add(Response("a"));
        store.Add(Response("b", "a"));
        store.Add(Response("c", "b"));
        Assert.Equal(["a", "b", "c"], store.FindChain("c", "me").Chain.Select(static r => r.Id));
        Assert.Equal("c", store.FindChain("c", "you").Missing);
        Assert.True(store.Remove("a", "me"));
        Assert.Equal("a", store.FindChain("c", "me").Missing);
        Assert.Empty(store.FindChain("c", "me").Chain);
    }

    [Fact]
    public void The_beginning_of_a_conversation_in_use_outlives_its_end()
    {
        ResponseStore store = new(3);
        store.Add(Response("a"));
        store.Add(Response("b", "a"));
        store.Add(Response("x"));
        Assert.Null(store.FindChain("b", "me").Missing);
        store.Add(Response("c", "b"));      // x leaves
        store.Add(Response("d", "c"));      // then b, the end of what was used
        Assert.NotNull(store.Find("a", "me"));
        Assert.Null(store.Find("b", "me"));
    }

    [Fact]
    public void Owners_do_not_see_each_other_even_with_equal_item_ids()
    {
        ResponseStore store = new(10);
        store.Add(Response("a", owner: "me"));
        store.Add(new StoredResponse("b", "you", null, "[{\"id\":\"in_a\"}]"u8.ToArray(), "{\"output\":[]}"u8.ToArray()));
        Assert.Equal("a", store.FindItem("in_a", "me")!.Id);
        Assert.Equal("b", store.FindItem("in_a", "you")!.Id);
        Assert.Null(store.Find("a", "you"));
        Assert.False(store.Remove("a", "you"));
        Assert.True(store.Remove("b", "you"));
        Assert.NotNull(store.FindItem("in_a", "me"));
    }

    [Fact]
    public void Threads_may_use_it_at_once()
    {
        ResponseStore store = new(20, maxBytes: 40_000);
        Parallel.For(0, 2000, i =>
        {
            store.Add(Response($"{i}", i > 0 ? $"{i - 1}" : null, size: i % 700));
            store.FindChain($"{i - 3}", "me");
            store.FindItem($"in_{i - 5}", "me");
            if (i % 7 == 0) store.Remove($"{i - 2}", "me");
        });
        Assert.InRange(store.Count, 1, 20);
        for (int i = 0; i < 2000; i++) store.Remove($"{i}", "me");
        Assert.Equal((0, 0L), (store.Count, store.Bytes));
    }

    [Theory]
    [InlineData("")]
    [InlineData("Two and two. Four.")]
    [InlineData("Grüße 👍🏽 日本\n")]
    public void A_sealed_thought_opens_again(string thought) => Assert.Equal(thought, SealedThought.Open(SealedThought.Seal(thought)));
}
