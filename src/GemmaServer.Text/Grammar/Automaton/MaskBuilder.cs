namespace GemmaServer.Text;

/// <summary>Works out which tokens may follow a state, by walking the tree of tokens and the grammar together.</summary>
/// <remarks>
/// Free text is what would be slow: nearly the whole tree is alive. So the tokens that are made of one set of characters are taken
/// as one prepared mask where the grammar takes any run of these characters up to some length, and only the others are walked. Words
/// come with a blank before them as often as without, so a blank before such a run is taken along.
/// </remarks>
internal sealed class MaskBuilder(GrammarMachine machine, GrammarStore store, TokenTrie trie, TokenSlice[] slices, int maxWork)
{
    private const int MaxFrontier = 8;       // states that a run of characters may be in
    private const int MaxCharacterSteps = 4_000;

    private readonly GrammarState[] _path = new GrammarState[trie.All.MaxDepth + 1];
    private readonly HashSet<(GrammarState, int)> _seen = [];
    private readonly Stack<(GrammarState State, int At)> _open = new();
    private readonly List<GrammarState> _frontier = [], _nextFrontier = [];

    /// <summary>One bit for each token that may come next.</summary>
    public ulong[] Build(GrammarState state)
    {
        GrammarState afterBlank = machine.Next(state, (byte)' ');
        TokenSlice? best = null;
        int bestRun = 0, bestSpacedRun = 0, bestCount = 0;
        for (int i = 0; i < slices.Length; i++)
        {
            TokenSlice slice = slices[i];
            int run = Run(state, i);
            if (run < 0) continue;
            int spacedRun = slice.Spaced is null || afterBlank == GrammarState.Dead ? 0 : Run(afterBlank, i);
            int count = slice.Plain.CountUpTo(run) + (slice.Spaced?.CountUpTo(spacedRun) ?? 0);
            if (count > bestCount) (best, bestRun, bestSpacedRun, bestCount) = (slice, run, spacedRun, count);
        }
        ulong[] mask = best is null ? new ulong[trie.MaskLength] : GC.AllocateUninitializedArray<ulong>(trie.MaskLength);
        best?.Plain.UpTo(bestRun).CopyTo(mask);
        if (bestSpacedRun > 0) TokenMask.Add(mask, best!.Spaced!.UpTo(bestSpacedRun));
        bool isWhole = bestSpacedRun >= 0 || Walk(state, best!.SpacedTree, mask);
        isWhole &= Walk(state, best?.Rest ?? trie.All, mask);
        if (!isWhole) AllowSingleBytes(state, mask);
        foreach ((int token, _) in machine.Specials(state)) mask[token >> 6] |= 1UL << token;
        return mask;
    }

    /// <summary>False where it took too much work and was left.</summary>
    private bool Walk(GrammarState start, TrieNodes tree, ulong[] mask)
    {
        TrieNode[] nodes = tree.Nodes;
        int[] ids = tree.Ids;
        GrammarState[] path = _path;
        path[0] = start;
        long mostWork = machine.Work + maxWork;
        for (int i = 0; i < nodes.Length - 1;)
        {
            TrieNode node = nodes[i];
            GrammarState next = machine.Next(path[node.Depth - 1], node.Byte);
            if (next == GrammarState.Dead)
            {
                i = node.Skip;
                continue;
            }
            path[node.Depth] = next;
            i++;
            for (int t = node.FirstToken; t < nodes[i].FirstToken; t++) mask[ids[t] >> 6] |= 1UL << ids[t];
            if (machine.Work > mostWork) return false;
        }
        return true;
    }

    /// <summary>There is always one of these, so that the mask is never empty.</summary>
    private void AllowSingleBytes(GrammarState state, ulong[] mask)
    {
        TrieNode[] nodes = trie.All.Nodes;
        for (int i = 0; i < nodes.Length - 1; i = nodes[i].Skip)
        {
            if (machine.Next(state, nodes[i].Byte) == GrammarState.Dead) continue;
            foreach (int id in trie.All.Ids.AsSpan(nodes[i].FirstToken..nodes[i + 1].FirstToken)) mask[id >> 6] |= 1UL << id;
        }
    }

    /// <summary>
    /// How many characters of a slice may follow in any order, where after so many none may; as many as its longest token has where
    /// there is no end to it. -1 where some may and some may not, so that the slice says nothing.
    /// </summary>
    private int Run(GrammarState state, int slice)
    {
        int longest = slices[slice].Longest;
        _frontier.Clear();
        _frontier.Add(state);
        for (int run = 0; run < longest; run++)
        {
            _nextFrontier.Clear();
            bool anyAll = false, anyNone = false;
            foreach (GrammarState at in _frontier)
            {
                CharacterStep step = Step(at, slice);
                if (step.Next is null) return -1;
                if (step.All) anyAll = true;
                else if (step.Next.Length == 0) anyNone = true;
                else return -1;
                foreach (GrammarState next in step.Next)
                    if (!_nextFrontier.Contains(next)) _nextFrontier.Add(next);
            }
            if (anyNone) return anyAll ? -1 : run;
            if (_nextFrontier.Count > MaxFrontier) return -1;
            if (SameFrontier()) return longest;
            _frontier.Clear();
            _frontier.AddRange(_nextFrontier);
        }
        return longest;
    }

    private bool SameFrontier()
    {
        if (_frontier.Count != _nextFrontier.Count) return false;
        foreach (GrammarState state in _nextFrontier)
            if (!_frontier.Contains(state)) return false;
        return true;
    }

    /// <summary>Where each character of a slice leads.</summary>
    private CharacterStep Step(GrammarState state, int slice)
    {
        CharacterStep?[] steps = state.Characters ??= new CharacterStep?[slices.Length];
        if (steps[slice] is { } known) return known;
        store.Hold(state, 120);
        return steps[slice] = Follow(state, slices[slice].Characters);
    }

    private CharacterStep Follow(GrammarState start, CharacterAutomaton characters)
    {
        List<GrammarState> reached = [];
        bool all = true;
        byte[] lastAlike = machine.Classes.Last;
        _seen.Clear();
        _open.Clear();
        _open.Push((start, 0));
        while (_open.TryPop(out (GrammarState State, int At) item))
        {
            foreach (ByteRange range in characters.RangesOf(item.At))
            {
                for (int value = range.First; value <= range.Last; value = lastAlike[value] + 1)
                {
                    GrammarState next = machine.Next(item.State, (byte)value);
                    if (next == GrammarState.Dead) all = false;
                    else if (range.Target > 0) Follow(next, range.Target);
                    else if (!reached.Contains(next)) reached.Add(next);
                    // Some may come and some may not, or they lead too far apart: the slice says nothing then.
                    if ((!all && reached.Count > 0) || reached.Count > MaxFrontier || _seen.Count > MaxCharacterSteps) return CharacterStep.Unknown;
                }
            }
        }
        return new CharacterStep([.. reached], all);

        void Follow(GrammarState state, int at)
        {
            if (_seen.Add((state, at))) _open.Push((state, at));
        }
    }
}
