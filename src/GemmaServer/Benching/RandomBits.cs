using System.Runtime.InteropServices;

namespace GemmaServer;

/// <summary>SplitMix64: fast, and the same numbers for a seed on every machine and runtime.</summary>
/// <remarks>Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.</remarks>
internal sealed class RandomBits(ulong seed)
{
    private ulong _state = seed;

    public ulong Next()
    {
        ulong z = _state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }

    /// <summary>0 … bound − 1.</summary>
    public int Below(int bound) => (int)Math.BigMul(Next(), (ulong)bound, out _);

    /// <summary>Evenly in −1 … 1.</summary>
    public double Signed() => (long)Next() * (1.0 / (1UL << 63));

    /// <summary>Above 0, up to 1.</summary>
    public double Positive() => ((Next() >> 11) + 1) * (1.0 / (1UL << 53));

    public void Fill(Span<byte> bytes)
    {
        Span<ulong> words = MemoryMarshal.Cast<byte, ulong>(bytes);
        for (int i = 0; i < words.Length; i++) words[i] = Next();
        for (int i = words.Length * 8; i < bytes.Length; i++) bytes[i] = (byte)Next();
    }
}
