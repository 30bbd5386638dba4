namespace GemmaServer.Text;

/// <summary>
/// The tokens that are made of certain characters alone, or of a blank before them, by length, and the tree of all others: in free
/// text nearly every token is allowed, and looking at each would take milliseconds.
/// </summary>
internal sealed class TokenSlice
{
    /// <summary>Longest tokens in a slice, in characters; the few longer ones stay in the tree.</summary>
    public const int MaxLength = 32;

    private const byte Blank = (byte)' ';

    public TokenSlice(CodePointRange[] ranges, TokenTrie trie, byte[][] bytes)
    {
        Characters = new CharacterAutomaton(ranges);
        int[] plain = Lengths(trie, Characters, afterBlank: false);
        bool hasBlank = Characters.Next(0, Blank) >= 0;
        int[] spaced = hasBlank ? plain : Lengths(trie, Characters, afterBlank: true);
        List<int> rest = [], behindBlank = [];
        for (int i = 0; i < plain.Length; i++)
        {
            if (plain[i] < 0 && spaced[i] < 0) rest.Add(trie.Sorted[i]);
            if (!hasBlank && spaced[i] >= 0) behindBlank.Add(trie.Sorted[i]);
        }
        Rest = new TrieNodes([.. rest], bytes);
        SpacedTree = new TrieNodes([.. behindBlank], bytes);
        Plain = new TokenRuns(plain, trie);
        Spaced = hasBlank ? null : new TokenRuns(spaced, trie);
    }

    public CharacterAutomaton Characters { get; }

    /// <summary>The tokens of these characters.</summary>
    public TokenRuns Plain { get; }

    /// <summary>The tokens of a blank and these characters, of which their lengths speak; null where a blank is one of them.</summary>
    public TokenRuns? Spaced { get; }

    /// <summary>The same as a tree.</summary>
    public TrieNodes SpacedTree { get; }

    /// <summary>All tokens that are in neither.</summary>
    public TrieNodes Rest { get; }

    /// <summary>Characters of the longest run.</summary>
    public int Longest => Math.Max(Plain.Longest, Spaced?.Longest ?? 0);

    public long ByteSize => Rest.ByteSize + SpacedTree.ByteSize + Plain.ByteSize + (Spaced?.ByteSize ?? 0);

    /// <summary>Characters of each sorted token; -1 where it has others or too many, or ends within one.</summary>
    private static int[] Lengths(TokenTrie trie, CharacterAutomaton characters, bool afterBlank)
    {
        int[] lengths = new int[trie.Sorted.Length];
        Array.Fill(lengths, -1);
        TrieNode[] nodes = trie.All.Nodes;
        int[] states = new int[trie.All.MaxDepth + 1], counts = new int[trie.All.MaxDepth + 1];
        for (int i = 0; i < nodes.Length - 1;)
        {
            TrieNode node = nodes[i];
            bool isLead = afterBlank && node.Depth == 1;
            int state = isLead ? (node.Byte == Blank ? 0 : -1) : characters.Next(states[node.Depth - 1], node.Byte);
            int count = isLead ? 0 : counts[node.Depth - 1] + (state == 0 ? 1 : 0);
            if (state < 0 || count > MaxLength)
            {
                i = node.Skip;
                continue;
            }
            states[node.Depth] = state;
            counts[node.Depth] = count;
            if (state == 0 && count > 0) lengths.AsSpan(node.FirstToken..nodes[i + 1].FirstToken).Fill(count);
            i++;
        }
        return lengths;
    }
}

/// <summary>Sets of tokens by their length in characters.</summary>
internal sealed class TokenRuns
{
    private readonly ulong[][] _upTo;   // [characters] → tokens of at most so many
    private readonly int[] _counts;

    /// <param name="lengths">Of each sorted token; -1 where it is not in.</param>
    /// <param name="trie">The vocabulary.</param>
    public TokenRuns(int[] lengths, TokenTrie trie)
    {
        int longest = 0;
        foreach (int length in lengths) longest = Math.Max(longest, length);
        _upTo = new ulong[longest + 1][];
        _counts = new int[longest + 1];
        for (int length = 0; length <= longest; length++) _upTo[length] = new ulong[trie.MaskLength];
        for (int i = 0; i < lengths.Length; i++)
        {
            if (lengths[i] < 0) continue;
            int id = trie.Sorted[i];
            _upTo[lengths[i]][id >> 6] |= 1UL << id;
            _counts[lengths[i]]++;
        }
        for (int length = 1; length <= longest; length++)
        {
            TokenMask.Add(_upTo[length], _upTo[length - 1]);
            _counts[length] += _counts[length - 1];
        }
    }

    /// <summary>Characters of the longest token.</summary>
    public int Longest => _upTo.Length - 1;

    public long ByteSize => (long)_upTo.Length * _upTo[0].Length * sizeof(ulong);

    /// <summary>The tokens of at most so many characters.</summary>
    public ReadOnlySpan<ulong> UpTo(int characters) => _upTo[Math.Min(characters, Longest)];

    /// <summary>How many these are.</summary>
    public int CountUpTo(int characters) => _counts[Math.Clamp(characters, 0, Longest)];
}
