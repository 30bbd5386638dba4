namespace GemmaServer.Text;

/// <summary>
/// The tokens that are made of certain characters alone, by length, and the tree of all others: in free text nearly every token
/// is allowed, and looking at each would take milliseconds.
/// </summary>
internal sealed class TokenSlice
{
    /// <summary>Longest tokens in a slice, in characters; the few longer ones stay in the tree.</summary>
    public const int MaxLength = 32;

    private readonly ulong[][] _upTo;   // [characters] → tokens of at most so many

    public TokenSlice(CodePointRange[] ranges, TokenTrie trie, byte[][] bytes)
    {
        Characters = new CharacterAutomaton(ranges);
        int[] lengths = Lengths(trie, Characters);
        List<int> rest = [];
        int longest = 0;
        for (int i = 0; i < lengths.Length; i++)
        {
            if (lengths[i] < 0) rest.Add(trie.Sorted[i]);
            longest = Math.Max(longest, lengths[i]);
        }
        Rest = new TrieNodes([.. rest], bytes);
        _upTo = new ulong[longest + 1][];
        Counts = new int[longest + 1];
        for (int length = 0; length <= longest; length++)
        {
            _upTo[length] = length == 0 ? new ulong[trie.MaskLength] : [.. _upTo[length - 1]];
            Counts[length] = length == 0 ? 0 : Counts[length - 1];
            for (int i = 0; i < lengths.Length; i++)
            {
                if (lengths[i] != length) continue;
                int id = trie.Sorted[i];
                _upTo[length][id >> 6] |= 1UL << id;
                Counts[length]++;
            }
        }
    }

    public CharacterAutomaton Characters { get; }

    /// <summary>All tokens that are not in the slice.</summary>
    public TrieNodes Rest { get; }

    /// <summary>Characters of the longest token.</summary>
    public int Longest => _upTo.Length - 1;

    /// <summary>Number of tokens of at most so many characters.</summary>
    public int[] Counts { get; }

    public long ByteSize => Rest.ByteSize + (long)_upTo.Length * _upTo[0].Length * sizeof(ulong);

    /// <summary>The tokens of at most so many characters.</summary>
    public ReadOnlySpan<ulong> UpTo(int characters) => _upTo[Math.Min(characters, Longest)];

    /// <summary>Characters of each sorted token; -1 where it has others or too many, or ends within one.</summary>
    private static int[] Lengths(TokenTrie trie, CharacterAutomaton characters)
    {
        int[] lengths = new int[trie.Sorted.Length];
        Array.Fill(lengths, -1);
        TrieNode[] nodes = trie.All.Nodes;
        int[] states = new int[trie.All.MaxDepth + 1], counts = new int[trie.All.MaxDepth + 1];
        for (int i = 0; i < nodes.Length - 1;)
        {
            TrieNode node = nodes[i];
            int state = characters.Next(states[node.Depth - 1], node.Byte);
            int count = counts[node.Depth - 1] + (state == 0 ? 1 : 0);
            if (state < 0 || count > MaxLength)
            {
                i = node.Skip;
                continue;
            }
            states[node.Depth] = state;
            counts[node.Depth] = count;
            if (state == 0) lengths.AsSpan(node.FirstToken..nodes[i + 1].FirstToken).Fill(count);
            i++;
        }
        return lengths;
    }
}

/// <summary>Reads characters of a set in UTF-8; state 0 is between two of them.</summary>
internal sealed class CharacterAutomaton
{
    private readonly List<short[]> _next = [];
    private readonly ByteRange[][] _ranges;

    /// <param name="ranges">Normalized.</param>
    public CharacterAutomaton(CodePointRange[] ranges)
    {
        Ranges = ranges;
        AddState();
        List<Utf8Range> pieces = [];
        Utf8Ranges.Split(ranges, pieces);
        // Pieces are in order, so those with a common lead follow one another, and a range is either new or the one before.
        Dictionary<int, int> tails = [];   // by length: any continuation bytes, so many
        foreach (Utf8Range piece in pieces) Place(piece, tails);
        _ranges = [.. _next.Select(RangesIn)];
    }

    public CodePointRange[] Ranges { get; }

    public int StateCount => _next.Count;

    /// <summary>The state behind a byte; -1 where no character of the set goes on so.</summary>
    public int Next(int state, byte value) => _next[state][value];

    /// <summary>The bytes that go on from a state, and where to.</summary>
    public ReadOnlySpan<ByteRange> RangesOf(int state) => _ranges[state];

    private static ByteRange[] RangesIn(short[] row)
    {
        List<ByteRange> ranges = [];
        for (int value = 0; value < 256; value++)
        {
            if (row[value] < 0) continue;
            if (ranges.Count > 0 && ranges[^1].Target == row[value] && ranges[^1].Last == value - 1) ranges[^1] = ranges[^1] with { Last = (byte)value };
            else ranges.Add(new((byte)value, (byte)value, row[value]));
        }
        return [.. ranges];
    }

    private void Place(Utf8Range piece, Dictionary<int, int> tails)
    {
        int state = 0;
        for (int at = 0; at < piece.Length; at++)
        {
            bool isLast = at == piece.Length - 1;
            int existing = _next[state][piece.Low(at)];
            bool whole = true;   // what follows is any continuation, whichever piece it is
            for (int rest = at + 1; rest < piece.Length; rest++) whole &= piece.Low(rest) == 0x80 && piece.High(rest) == 0xBF;
            int target = isLast ? 0 : existing >= 0 && !whole ? existing : whole ? Tail(piece.Length - 1 - at, tails) : AddState();
            for (int value = piece.Low(at); value <= piece.High(at); value++) _next[state][value] = (short)target;
            if (whole) return;
            state = target;
        }
    }

    private int Tail(int length, Dictionary<int, int> tails)
    {
        if (length == 0) return 0;
        if (tails.TryGetValue(length, out int known)) return known;
        int state = AddState();
        tails.Add(length, state);
        int next = Tail(length - 1, tails);
        for (int value = 0x80; value <= 0xBF; value++) _next[state][value] = (short)next;
        return state;
    }

    private int AddState()
    {
        short[] row = new short[256];
        Array.Fill(row, (short)-1);
        _next.Add(row);
        return _next.Count - 1;
    }
}
