namespace GemmaServer.Engine;

/// <summary>
/// Prompt lookup: finds where a sequence's last tokens stood before and guesses that the same follows again. Saves steps
/// where an answer repeats its prompt or itself: edits, quotations, code, tables.
/// </summary>
/// <remarks>
/// Source: A. Saxena, "Prompt Lookup Decoding" (2023). The places of each run of <see cref="Shortest"/> tokens hang in a
/// chain, latest first, as in LZ77 compressors; of the latest few the one with the longest match wins. Extending and
/// looking up allocate nothing until the room that was asked for is full.
/// </remarks>
internal sealed class NgramIndex
{
    /// <summary>Tokens that must match: two match by chance too often in text that does not repeat.</summary>
    public const int Shortest = 3;

    private const int MostCandidates = 16;
    private const int LongestCompared = 32;

    private int[] _latest;      // by hash: 1 + the place of the last run with it; 0 for none
    private int[] _before;      // by place of a run's last token: 1 + the place before with the same hash
    private int _indexed;       // runs that end before this place are in the chains

    /// <param name="room">Tokens expected at most.</param>
    public NgramIndex(int room)
    {
        _latest = new int[Capacity(room)];
        _before = new int[_latest.Length];
    }

    /// <summary>Takes new tokens in.</summary>
    /// <param name="tokens">All tokens of the sequence so far.</param>
    public void Extend(ReadOnlySpan<int> tokens)
    {
        // The last run stays out: nothing is known to follow it.
        int end = tokens.Length - 1;
        if (end > _before.Length) Grow(end);
        for (int place = Math.Max(_indexed, Shortest - 1); place < end; place++)
        {
            ref int latest = ref _latest[Hash(tokens, place)];
            _before[place] = latest;
            latest = place + 1;
        }
        _indexed = Math.Max(_indexed, end);
    }

    /// <summary>Guesses what follows the last token and returns how many tokens it guessed; call <see cref="Extend"/> first.</summary>
    /// <param name="tokens">All tokens of the sequence so far.</param>
    /// <param name="drafts">Filled with guesses from the start.</param>
    public int Guess(ReadOnlySpan<int> tokens, Span<int> drafts)
    {
        int found = drafts.IsEmpty ? -1 : Find(tokens, tokens);
        if (found < 0) return 0;

        // What follows may reach into the guesses themselves: a period shorter than the draft goes on.
        for (int i = 0; i < drafts.Length; i++)
        {
            int source = found + 1 + i;
            drafts[i] = source < tokens.Length ? tokens[source] : drafts[source - tokens.Length];
        }
        return drafts.Length;
    }

    /// <summary>Where the last tokens stood before, as the place of their last one; −1 for nowhere.</summary>
    /// <param name="text">What was given to <see cref="Extend"/>.</param>
    /// <param name="tokens">All tokens of the sequence so far: the text itself, or another.</param>
    public int Find(ReadOnlySpan<int> text, ReadOnlySpan<int> tokens)
    {
        int last = tokens.Length - 1;
        if (last < Shortest) return -1;

        int longest = Shortest - 1, found = -1;
        int place = _latest[Hash(tokens, last)] - 1;
        for (int candidates = 0; place >= 0 && candidates < MostCandidates; candidates++, place = _before[place] - 1)
        {
            int length = MatchLength(text, place, tokens);
            if (length <= longest) continue;
            (longest, found) = (length, place);
            if (length == LongestCompared) break;
        }
        return found;
    }

    private static int MatchLength(ReadOnlySpan<int> text, int place, ReadOnlySpan<int> tokens)
    {
        int last = tokens.Length - 1, most = Math.Min(Math.Min(place, last) + 1, LongestCompared), length = 0;
        while (length < most && text[place - length] == tokens[last - length]) length++;
        return length;
    }

    private int Hash(ReadOnlySpan<int> tokens, int place)
    {
        uint hash = 0;
        for (int i = place - Shortest + 1; i <= place; i++) hash = (hash ^ (uint)tokens[i]) * 0x9E3779B1;
        return (int)((hash ^ (hash >> 15)) & (uint)(_latest.Length - 1));
    }

    private void Grow(int places)
    {
        _latest = new int[Capacity(places)];
        _before = new int[_latest.Length];
        _indexed = 0;       // Extend goes on from there
    }

    private static int Capacity(int places) => (int)uint.Max(64, System.Numerics.BitOperations.RoundUpToPowerOf2((uint)places));
}
