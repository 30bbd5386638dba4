namespace GemmaServer.Benchmarks;

/// <summary>The rows with their bounds: what "fast on a CPU" means here.</summary>
internal static class ContestTable
{
    /// <summary>Type of the file, least ratio of a decode from nothing and after a long context, least share of a plain read.</summary>
    private static readonly (string Type, double Decode, double Deep, double Wall)[] s_types =
        [("q8_0", 0.97, 1.0, 0.9), ("q4_0", 1.25, 1.25, 0.8), ("q4_k_m", 1.7, 1.7, 0.8)];

    public static IEnumerable<Contest> Of(string group, CompareSettings settings, OurProgram ours, PeerProgram peer, ModelFiles files, ThreadTeam team)
    {
        switch (group)
        {
            case "decode":
                foreach ((string type, double bound, _, double wall) in s_types)
                    yield return new DecodeContest(settings, ours, peer, team, files.E2B(type), $"E2B {type}", depth: 0, bound, wall);
                break;
            case "depth":
                foreach ((string type, _, double bound, _) in s_types)
                    yield return new DecodeContest(settings, ours, peer, team, files.E2B(type), $"E2B {type}", settings.Depth, bound, wall: null);
                break;
            case "batch":
                yield return new BatchContest(settings, ours, peer, files.E2B("q4_0"), "E2B q4_0", batch: 8, bound: 1.3);
                yield return new StreamsContest(settings, ours, files.E2B("q4_0"), "E2B q4_0", streams: 16, bound: 3);
                break;
            case "moe":
                yield return new DecodeContest(settings, ours, peer, team, files.Moe("q4_k_m"), "26B-A4B, 6 layers, q4_k_m", depth: 0, bound: 1.3, wall: null);
                yield return new BatchContest(settings, ours, peer, files.Moe("q4_k_m"), "26B-A4B, 6 layers, q4_k_m", batch: 8, bound: 1.3);
                break;
            case "prefill":
                foreach ((string type, _, _, _) in s_types)
                    yield return new PrefillContest(settings, ours, peer, files.E2B(type), $"E2B {type}", settings.Amx ? 1.5 : 1.3);
                break;
            case "server":
                yield return new ServerContest(settings, ours, peer, files.E2B("q4_0"), "E2B q4_0");
                break;
            case "startup":
                yield return new StartupContest(settings, ours, peer, files.E2B("q4_0"), "E2B q4_0");
                break;
        }
    }
}
