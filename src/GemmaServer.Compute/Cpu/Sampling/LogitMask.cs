using System.Numerics;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>Which tokens a step allows, one bit each: puts −∞ in the others' place.</summary>
internal static class LogitMask
{
    /// <param name="logits">A whole row, or a part of one.</param>
    /// <param name="allowed">Bit by token id; tokens beyond it are barred.</param>
    /// <param name="from">Token id of the first logit, a multiple of 64.</param>
    public static void Apply(Span<float> logits, ulong[] allowed, int from = 0)
    {
        for (int at = 0; at < logits.Length; at += 64)
        {
            int word = (from + at) / 64;
            ulong bits = word < allowed.Length ? allowed[word] : 0;
            if (bits == ulong.MaxValue) continue;
            Span<float> part = logits.Slice(at, Math.Min(64, logits.Length - at));
            if (bits == 0) part.Fill(float.NegativeInfinity);
            else if (part.Length == 64) Apply64(part, bits);
            else
                for (int i = 0; i < part.Length; i++)
                    if ((bits >> i & 1) == 0) part[i] = float.NegativeInfinity;
        }
    }

    /// <summary>Whether the bans leave a token that may be chosen. Only few of them are asked about: more are allowed than banned, or nearly so.</summary>
    public static bool LeavesAny(ulong[] allowed, SamplingParams p, SlotState slot) => LeavesAny(allowed, p, slot.Generated < p.MinTokens);

    /// <summary>As <see cref="LeavesAny(ulong[], SamplingParams, SlotState)"/>, where it is said whether end tokens are banned.</summary>
    public static bool LeavesAny(ulong[] allowed, SamplingParams p, bool mayNotEnd)
    {
        int left = p.BannedTokens.Count + (mayNotEnd ? p.EndTokens.Count : 0);
        if (left == 0) return true;
        for (int word = 0; word < allowed.Length; word++)
        {
            for (ulong bits = allowed[word]; bits != 0; bits &= bits - 1)
            {
                int token = word * 64 + BitOperations.TrailingZeroCount(bits);
                if (left-- == 0 || !(Contains(p.BannedTokens, token) || (mayNotEnd && Contains(p.EndTokens, token)))) return true;
            }
        }
        return false;
    }

    private static bool Contains(IReadOnlyList<int> tokens, int token)
    {
        for (int i = 0; i < tokens.Count; i++)
            if (tokens[i] == token) return true;
        return false;
    }

    private static void Apply64(Span<float> part, ulong bits)
    {
        Vector512<uint> lanes = Vector512.Create(1u, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768);
        for (int i = 0; i < 64; i += 16, bits >>= 16)
        {
            Vector512<uint> isBarred = Vector512.Equals(Vector512.Create((uint)bits) & lanes, Vector512<uint>.Zero);
            Vector512<float> logits = Vector512.Create<float>(part.Slice(i, 16));
            Vector512.ConditionalSelect(isBarred.AsSingle(), Vector512.Create(float.NegativeInfinity), logits).CopyTo(part[i..]);
        }
    }
}
