using GemmaServer.Engine;

namespace GemmaServer.Tests.Engine;

public sealed class WaitingQueueTests
{
    private static Sequence NewSequence(long arrival, int priority, string client)
    {
        GenerationRequest request = new() { Id = "", Prompt = [1], Sampling = new GemmaServer.Compute.SamplingParams(), MaxTokens = 1, Priority = priority, Client = client };
        Sequence sequence = new(request, 1, null, new Generation(request, 1, 0), long.MaxValue, long.MaxValue);
        sequence.Place.Arrival = arrival;
        return sequence;
    }

    /// <summary>Against a list that is searched for its best each time.</summary>
    [Fact]
    public void It_picks_as_a_search_through_all_would()
    {
        for (int seed = 0; seed < 60; seed++)
        {
            Random random = new(seed);
            WaitingQueue queue = new();
            List<Sequence> lines = [], preempted = [], running = [];
            List<(Sequence Sequence, Sequence Leader)> followers = [];
            for (int i = 0; i < 600; i++)
            {
                switch (random.Next(10))
                {
                    case < 4:
                        Sequence added = NewSequence(i, random.Next(3) - 1, $"client {random.Next(5)}");
                        queue.Add(added);
                        lines.Add(added);
                        break;
                    case < 6 when queue.Peek() is { } picked:
                        queue.Remove(picked);
                        Assert.True(lines.Remove(picked) || preempted.Remove(picked));
                        picked.Place.Account!.ChargePrompt(random.Next(1, 50));
                        running.Add(picked);
                        break;
                    case 6 when lines.Count > 0:
                        Sequence gone = lines[random.Next(lines.Count)];
                        queue.Remove(gone);
                        queue.Ended(gone);
                        lines.Remove(gone);
                        break;
                    case 7 when running.Count > 0:
                        Sequence victim = running[random.Next(running.Count)];
                        Wake(victim, int.MaxValue);
                        running.Remove(victim);
                        queue.AddPreempted(victim);
                        preempted.Add(victim);
                        break;
                    case 8 when running.Count > 0 && lines.Count > 0:
                        (Sequence follower, Sequence leader) = (lines[random.Next(lines.Count)], running[random.Next(running.Count)]);
                        queue.Follow(follower, leader, random.Next(1, 100));
                        lines.Remove(follower);
                        followers.Add((follower, leader));
                        break;
                    case 9 when running.Count > 0:
                        Sequence advanced = running[random.Next(running.Count)];
                        for (int n = random.Next(20); n > 0; n--) advanced.Place.Account!.ChargeOutput();
                        Wake(advanced, random.Next(100));
                        break;
                }
                Assert.Equal(lines.Count + preempted.Count + followers.Count, queue.Count);
                Assert.Same(Best(lines, preempted), queue.Peek());
            }

            void Wake(Sequence leader, int computed)
            {
                queue.Wake(leader, computed);
                lines.AddRange(followers.Where(f => f.Leader == leader && f.Sequence.Place.SharedUntil <= computed).Select(f => f.Sequence));
                followers.RemoveAll(f => f.Leader == leader && f.Sequence.Place.SharedUntil <= computed);
            }
        }
    }

    private static Sequence? Best(List<Sequence> lines, List<Sequence> preempted) => preempted.Count > 0
        ? preempted.OrderBy(s => s.Place.Priority).ThenBy(s => s.Place.Arrival).First()
        : lines.OrderBy(s => s.Place.Priority).ThenBy(s => s.Place.Account!.Counter)
            // Of two clients that were served the same, the one whose oldest is older.
            .ThenBy(s => lines.Where(o => o.Place.Account == s.Place.Account && o.Place.Priority == s.Place.Priority).Min(o => o.Place.Arrival))
            .ThenBy(s => s.Place.Arrival).FirstOrDefault();

    [Fact]
    public void A_thousand_that_wait_cost_a_step_no_walk_through_them()
    {
        // Comparisons are what a heap costs; each of these would be a thousand or more in a walk.
        Heap<Counted> heap = new();
        Random random = new(1);
        List<Counted> all = [.. Enumerable.Range(0, 1024).Select(_ => new Counted { Key = random.Next() })];
        foreach (Counted item in all) heap.Add(item);
        for (int i = 0; i < 2000; i++)
        {
            Counted.Comparisons = 0;
            Counted item = all[random.Next(all.Count)];
            item.Key = random.Next();
            heap.Moved(item);
            Assert.InRange(Counted.Comparisons, 0, 40);
            Counted.Comparisons = 0;
            heap.Remove(item);
            Assert.InRange(Counted.Comparisons, 0, 40);
            heap.Add(item);
            Assert.Equal(all.Min(a => a.Key), heap.Top.Key);
        }
    }

    private sealed class Counted : IHeapItem<Counted>
    {
        [ThreadStatic] public static int Comparisons;

        public int Key { get; set; }

        public int HeapIndex { get; set; } = -1;

        public bool ComesBefore(Counted other)
        {
            Comparisons++;
            return Key < other.Key;
        }
    }
}
