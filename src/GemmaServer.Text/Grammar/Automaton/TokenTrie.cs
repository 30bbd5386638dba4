using System.Buffers.Binary;

namespace GemmaServer.Text;

/// <summary>
/// What the tokens of a vocabulary spell, as a tree of bytes: made once per tokenizer, shared by all grammars. Any number of
/// threads may use it.
/// </summary>
/// <remarks>
/// Control tokens are not in it, nor tokens without text: only <see cref="GrammarNode.Token"/> allows those. Byte tokens
/// (<c>&lt;0x..&gt;</c>) are, so a token may end inside a character.
/// </remarks>
public sealed class TokenTrie
{
    private const int MaxSliceBytes = 96 << 20;

    private readonly byte[][] _bytes;   // by id; empty where the token spells nothing
    private readonly Dictionary<CodePointRange[], TokenSlice> _slices = new(RangesComparer.Instance);
    private readonly Queue<CodePointRange[]> _sliceAge = new();
    private readonly Lock _lock = new();
    private long _sliceBytes;

    /// <summary>Sorts a vocabulary.</summary>
    /// <param name="tokenizer">The vocabulary.</param>
    /// <param name="vocabularySize">Rows of the model's embedding: ids beyond the tokenizer's are never allowed.</param>
    public TokenTrie(Tokenizer tokenizer, int vocabularySize)
        : this(BytesOf(tokenizer, vocabularySize))
    {
    }

    /// <summary>Sorts tokens given by their bytes; those without any are control tokens.</summary>
    internal TokenTrie(byte[][] bytes)
    {
        _bytes = bytes;
        VocabularySize = bytes.Length;
        MaskLength = (bytes.Length + 63) / 64;
        Sorted = Sort(bytes);
        All = new TrieNodes(Sorted, bytes);
        foreach (int id in Sorted)
        {
            if (bytes[id].Length == 1) SpelledBytes[bytes[id][0]] = true;
            int starts = 0;
            foreach (byte value in bytes[id])
                if ((value & 0xC0) != 0x80) starts++;
            MostCharacters = Math.Max(MostCharacters, starts + 1);
        }
    }

    /// <summary>Number of ids.</summary>
    public int VocabularySize { get; }

    /// <summary>Number of 64-bit words of a mask.</summary>
    public int MaskLength { get; }

    /// <summary>Characters that one token can complete at most; the first of them may have begun before.</summary>
    internal int MostCharacters { get; }

    /// <summary>Ids that spell something, by their bytes.</summary>
    internal int[] Sorted { get; }

    internal TrieNodes All { get; }

    /// <summary>The bytes that are tokens by themselves.</summary>
    internal bool[] SpelledBytes { get; } = new bool[256];

    /// <summary>What an ordinary token spells; nothing for control tokens and ids that are none.</summary>
    internal ReadOnlySpan<byte> Bytes(int id) => (uint)id < (uint)_bytes.Length ? _bytes[id] : default;

    /// <summary>The tokens made of some characters alone; kept for the next grammar that asks.</summary>
    /// <param name="ranges">Normalized.</param>
    internal TokenSlice Slice(CodePointRange[] ranges)
    {
        lock (_lock)
        {
            if (_slices.TryGetValue(ranges, out TokenSlice? known)) return known;
            TokenSlice slice = new(ranges, this, _bytes);
            _sliceBytes += slice.ByteSize;
            while (_sliceBytes > MaxSliceBytes && _sliceAge.TryDequeue(out CodePointRange[]? oldest))
            {
                _sliceBytes -= _slices[oldest].ByteSize;
                _slices.Remove(oldest);
            }
            _slices.Add(ranges, slice);
            _sliceAge.Enqueue(ranges);
            return slice;
        }
    }

    private static byte[][] BytesOf(Tokenizer tokenizer, int vocabularySize)
    {
        byte[][] bytes = new byte[vocabularySize][];
        for (int id = 0; id < bytes.Length; id++) bytes[id] = tokenizer.IsSpecial(id) ? [] : tokenizer.TokenBytes(id).ToArray();
        return bytes;
    }

    private static int[] Sort(byte[][] bytes)
    {
        List<int> ids = new(bytes.Length);
        for (int id = 0; id < bytes.Length; id++)
            if (bytes[id].Length > 0) ids.Add(id);
        int[] sorted = [.. ids];
        ulong[] heads = new ulong[sorted.Length];
        Span<byte> head = stackalloc byte[8];
        for (int i = 0; i < sorted.Length; i++)
        {
            byte[] token = bytes[sorted[i]];
            head.Clear();
            token.AsSpan(0, Math.Min(8, token.Length)).CopyTo(head);
            heads[i] = BinaryPrimitives.ReadUInt64BigEndian(head);
        }
        Array.Sort(heads, sorted);
        // The first eight bytes are in order; runs that share them are put right by the rest.
        for (int start = 0; start < sorted.Length;)
        {
            int end = start + 1;
            while (end < sorted.Length && heads[end] == heads[start]) end++;
            if (end - start > 1) sorted.AsSpan(start, end - start).Sort((a, b) => Compare(bytes, a, b));
            start = end;
        }
        return sorted;
    }

    private static int Compare(byte[][] bytes, int a, int b)
    {
        int order = bytes[a].AsSpan().SequenceCompareTo(bytes[b]);
        return order != 0 ? order : a.CompareTo(b);
    }
}
