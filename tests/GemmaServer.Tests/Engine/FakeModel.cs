using GemmaServer.Compute;
using GemmaServer.Text;

namespace GemmaServer.Tests.Engine;

/// <summary>
/// A "model" whose next token is a hash of every token that any layer group can see, of the seed and of the penalty counts:
/// one wrong, missing or repeated token anywhere changes all that follows. Here computed straight from the token list, as
/// the oracle for what the engine gets through pages.
/// </summary>
internal static class FakeModel
{
    public const int Vocabulary = 1000;

    public static ulong Start(SamplingParams sampling, int position) => Mix(sampling.Seed, position + 1);

    public static ulong Mix(ulong hash, int value)
    {
        hash ^= (uint)value;
        hash *= 0x9E3779B97F4A7C15;
        return hash ^ (hash >> 29);
    }

    public static int Token(ulong hash) => (int)((hash >> 17) % Vocabulary);

    /// <summary>The token after a position. Where the sampling has a top-k, the text has that period, with a surprise now and then.</summary>
    public static int Token(SamplingParams sampling, int position, ulong hash) =>
        sampling.TopK > 0 && (hash >> 40) % 16 != 0 ? Token(Mix(sampling.Seed, (position + 1) % sampling.TopK)) : Token(hash);

    public static float Logprob(ulong hash, int token) => -(float)(Mix(hash, token) % 4096) / 256f;

    /// <summary>The given token first, then the n "best".</summary>
    public static TokenLogprob[] Logprobs(ulong hash, int token, int best)
    {
        TokenLogprob[] all = new TokenLogprob[best + 1];
        all[0] = new TokenLogprob(token, Logprob(hash, token));
        for (int i = 0; i < best; i++) all[i + 1] = new TokenLogprob(Token(Mix(hash, i)), -i);
        return all;
    }

    /// <summary>What penalties look at: the outputs as a bag, the prompt as another.</summary>
    public static int Bag(ReadOnlySpan<int> prompt, ReadOnlySpan<int> output)
    {
        int bag = 0;
        foreach (int token in prompt) bag += token * 31 + 7;
        foreach (int token in output) bag += token * 101 + 13;
        return bag;
    }

    /// <summary>The token itself, or the next one that is allowed.</summary>
    public static int Masked(int token, ulong[]? allowed)
    {
        while (allowed is not null && (allowed[token / 64] >> (token % 64) & 1) == 0) token = (token + 1) % Vocabulary;
        return token;
    }

    /// <summary>The tokens that follow a prompt.</summary>
    public static int[] Generate(KvCachePlan plan, ReadOnlySpan<int> prompt, SamplingParams sampling, int count, TokenConstraint? constraint = null)
    {
        List<int> tokens = [.. prompt];
        for (int n = 0; n < count; n++)
        {
            int position = tokens.Count - 1;
            int[] all = [.. tokens];
            ulong hash = See(plan, all, sampling, position);
            if (sampling.HasPenalties) hash = Mix(hash, Bag(prompt, all.AsSpan(prompt.Length)));
            tokens.Add(Masked(Token(sampling, position, hash), constraint?.Allowed));
            if (constraint is not null) Assert.True(constraint.TryPush(tokens[^1]));
        }
        return [.. tokens.Skip(prompt.Length)];
    }

    public static TokenLogprob[][] PromptLogprobs(KvCachePlan plan, int[] prompt, SamplingParams sampling, int best) =>
        [.. Enumerable.Range(0, prompt.Length - 1).Select(p => Logprobs(See(plan, prompt, sampling, p), prompt[p + 1], best))];

    private static ulong See(KvCachePlan plan, int[] tokens, SamplingParams sampling, int position)
    {
        ulong hash = Start(sampling, position);
        foreach (KvGroup group in plan.Groups)
            for (int j = group.Window == 0 ? 0 : Math.Max(0, position - group.Window + 1); j <= position; j++)
                hash = Mix(hash, tokens[j]);
        return hash;
    }
}
