namespace GemmaServer.Text;

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
