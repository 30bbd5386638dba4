using ILGPU;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>
/// The n-th best of a row without sorting it. Columns whose greatest logit cannot matter are left out, the other columns' tokens
/// that can are listed, and the cut among these is found bit by bit of its key. Lanes of a row work together.
/// </summary>
internal static class SelectionKernels
{
    /// <summary>Which tokens take part in the draw: top-k, then top-p of these or of all.</summary>
    /// <param name="s">Logits.</param>
    /// <param name="lanes">Lanes of a row.</param>
    /// <param name="table">Output rows.</param>
    /// <param name="logits">Adjusted ones.</param>
    /// <param name="maxima">Of columns.</param>
    /// <param name="listed">Room for a number a row.</param>
    /// <param name="tokens">Room for all tokens of a row.</param>
    /// <param name="bounds">By row: the greatest logit, key and index of the last that takes part.</param>
    public static void Cut(
        LogitShape s, int lanes, ArrayView<int> table, ArrayView<float> logits, ArrayView<float> maxima, ArrayView<int> listed, ArrayView<int> tokens, ArrayView<int> bounds)
    {
        ArrayView<long> scratch = SharedMemory.Allocate<long>(Lanes.MostRowLanes);
        int lane = Lanes.RowLane(lanes), advance = Lanes.RowStep(lanes);
        for (int row = Lanes.FirstRow(lanes); row < s.Rows; row += advance)
        {
            int about = (s.Start + row) * OutputRow.Ints, flags = table[about], k = table[about + OutputRow.TopK];
            long most = 0;
            for (int c = lane; c < s.Columns; c += lanes) most = IntrinsicMath.Max(most, (long)Ordered.Key(maxima[row * s.Columns + c]));
            uint best = (uint)Lanes.Most(most, lanes, scratch);
            float greatest = Ordered.Value(best), inverse = Lanes.AsFloat(table[about + OutputRow.InverseT]);
            bool hasNucleus = (flags & OutputRow.HasNucleus) != 0;
            uint key = Ordered.Least;
            int index = Ordered.Nobody;
            if ((flags & (OutputRow.Samples | OutputRow.IsGreedy)) == OutputRow.Samples && best >= Ordered.Least && (k > 0 || hasNucleus))
            {
                uint floor = k > 0
                    ? Column(s, row, k, maxima, tokens, lanes, scratch)
                    : IntrinsicMath.Max(Ordered.Least, Ordered.Key(greatest - Lanes.AsFloat(table[about + OutputRow.Depth])));
                int count = List(s, row, floor, lanes, logits, maxima, listed, tokens);
                Listed list = new(row * s.Stride, count, 1, 0f, 0f);
                // Where no more are listed than wanted, who is not listed is out all the same.
                if (k > 0) key = floor;
                if (k > 0 && k < count)
                {
                    key = Nth(list, key, index, k, lanes, logits, tokens, scratch);
                    index = NthEqual(list, key, key, index, k, lanes, logits, tokens, scratch);
                }
                if (hasNucleus)
                {
                    list = new Listed(row * s.Stride, count, 1, greatest, inverse);
                    // Of all tokens: also those that are too far below to be listed weigh something.
                    Listed all = new(row * s.Stride, k > 0 ? count : s.Vocabulary, k > 0 ? 1 : 0, greatest, inverse);
                    long wanted = Ordered.Part(Amount(all, Ordered.Least, key, index, lanes, logits, tokens, scratch), table[about + OutputRow.TopP]);
                    uint last = Nth(list, key, index, wanted, lanes, logits, tokens, scratch);
                    index = NthEqual(list, last, key, index, wanted, lanes, logits, tokens, scratch);
                    key = last;
                }
            }
            if (lane == 0)
            {
                bounds[3 * row] = Lanes.AsInt(greatest);
                bounds[3 * row + 1] = (int)key;
                bounds[3 * row + 2] = index;
            }
        }
    }

    /// <summary>The best tokens of untouched logits, in no order: pairs of token and logit, where the row's begin.</summary>
    /// <param name="s">Logits.</param>
    /// <param name="lanes">Lanes of a row.</param>
    /// <param name="table">Output rows.</param>
    /// <param name="logits">Untouched.</param>
    /// <param name="maxima">Theirs.</param>
    /// <param name="listed">Room for a number a row.</param>
    /// <param name="tokens">Room for all tokens of a row.</param>
    /// <param name="results">Gets how many there are.</param>
    /// <param name="tops">Output.</param>
    public static void Best(
        LogitShape s, int lanes, ArrayView<int> table, ArrayView<float> logits, ArrayView<float> maxima, ArrayView<int> listed, ArrayView<int> tokens,
        ArrayView<int> results, ArrayView<int> tops)
    {
        ArrayView<long> scratch = SharedMemory.Allocate<long>(Lanes.MostRowLanes);
        int lane = Lanes.RowLane(lanes), advance = Lanes.RowStep(lanes);
        for (int row = Lanes.FirstRow(lanes); row < s.Rows; row += advance)
        {
            int about = (s.Start + row) * OutputRow.Ints, n = table[about + OutputRow.Top], to = table[about + OutputRow.Top + 1];
            if (n > 0)
            {
                int count = List(s, row, Column(s, row, n, maxima, tokens, lanes, scratch), lanes, logits, maxima, listed, tokens);
                Listed list = new(row * s.Stride, count, 1, 0f, 0f);
                uint key = Ordered.Least;
                int index = Ordered.Nobody;
                if (n < count)
                {
                    key = Nth(list, key, index, n, lanes, logits, tokens, scratch);
                    index = NthEqual(list, key, key, index, n, lanes, logits, tokens, scratch);
                }
                if (lane == 0) listed[row] = 0;
                Lanes.Meet(lanes);
                for (int i = lane; i < count; i += lanes)
                {
                    int token = tokens[list.Begin + i];
                    float x = logits[list.Begin + token];
                    if (IsKept(Ordered.Key(x), token, key, index))
                    {
                        int place = to + 2 * Atomic.Add(ref listed[row], 1);
                        tops[place] = token;
                        tops[place + 1] = Lanes.AsInt(x);
                    }
                }
                Lanes.Meet(lanes);
                if (lane == 0) results[(s.Start + row) * OutputRow.ResultInts + 5] = listed[row];
            }
        }
    }

    /// <summary>A key that at least n tokens of a row reach, because n columns' greatest do; the least where there are not so many columns.</summary>
    private static uint Column(LogitShape s, int row, int n, ArrayView<float> maxima, ArrayView<int> tokens, int lanes, ArrayView<long> scratch)
    {
        if (n > s.Columns) return Ordered.Least;
        Listed columns = new(row * s.Columns, s.Columns, 0, 0f, 0f);
        return IntrinsicMath.Max(Ordered.Least, Nth(columns, Ordered.Least, Ordered.Nobody, n, lanes, maxima, tokens, scratch));
    }

    /// <summary>Lists the tokens of a row that reach a key, in no order, and says how many they are.</summary>
    private static int List(LogitShape s, int row, uint floor, int lanes, ArrayView<float> logits, ArrayView<float> maxima, ArrayView<int> listed, ArrayView<int> tokens)
    {
        ArrayView<Four> fours = logits.Cast<Four>();
        int lane = Lanes.RowLane(lanes), at = row * (s.Stride / 4), to = row * s.Stride;
        if (lane == 0) listed[row] = 0;
        Lanes.Meet(lanes);
        for (int c = lane; c < s.Columns; c += lanes)
        {
            if (Ordered.Key(maxima[row * s.Columns + c]) >= floor)
            {
                for (int f = c; f < s.Fours; f += s.Columns)
                {
                    Four x = SamplingKernels.Within(fours[at + f], f, s.Vocabulary);
                    if (Ordered.Key(x.X) >= floor) tokens[to + Atomic.Add(ref listed[row], 1)] = 4 * f;
                    if (Ordered.Key(x.Y) >= floor) tokens[to + Atomic.Add(ref listed[row], 1)] = 4 * f + 1;
                    if (Ordered.Key(x.Z) >= floor) tokens[to + Atomic.Add(ref listed[row], 1)] = 4 * f + 2;
                    if (Ordered.Key(x.W) >= floor) tokens[to + Atomic.Add(ref listed[row], 1)] = 4 * f + 3;
                }
            }
        }
        Lanes.Meet(lanes);
        int count = listed[row];
        Lanes.Meet(lanes);
        return count;
    }

    /// <summary>The greatest key at which what reaches it, within a cut, amounts to what is wanted; the cut's where it never does.</summary>
    private static uint Nth(
        Listed list, uint withinKey, int withinIndex, long wanted, int lanes, ArrayView<float> values, ArrayView<int> tokens, ArrayView<long> scratch)
    {
        uint key = 0;
        for (uint bit = 0x80000000u; bit != 0; bit >>= 1)
            if (Amount(list, key | bit, withinKey, withinIndex, lanes, values, tokens, scratch) >= wanted) key |= bit;
        return IntrinsicMath.Max(key, withinKey);
    }

    /// <summary>Of several that have the key, the index of the last that is needed: they count in rising order.</summary>
    private static int NthEqual(
        Listed list, uint key, uint withinKey, int withinIndex, long wanted, int lanes, ArrayView<float> values, ArrayView<int> tokens, ArrayView<long> scratch)
    {
        int within = key == withinKey ? withinIndex : Ordered.Nobody;
        // The greatest index so that those before it do not suffice.
        int index = 0;
        long above = key == uint.MaxValue ? 0 : Amount(list, key + 1, withinKey, withinIndex, lanes, values, tokens, scratch);
        for (int bit = 1 << 23; bit > 0; bit >>= 1)
            if (above + Equals(list, key, index + bit, lanes, values, tokens, scratch) < wanted) index += bit;
        return IntrinsicMath.Min(within, index);
    }

    /// <summary>What the tokens that reach a key, within a cut, amount to: their number, or their weights.</summary>
    private static long Amount(
        Listed list, uint floor, uint withinKey, int withinIndex, int lanes, ArrayView<float> values, ArrayView<int> tokens, ArrayView<long> scratch)
    {
        long sum = 0;
        for (int i = Lanes.RowLane(lanes); i < list.Count; i += lanes)
        {
            int token = list.IsList != 0 ? tokens[list.Begin + i] : i;
            float x = values[list.Begin + token];
            uint key = Ordered.Key(x);
            if (key >= floor && IsKept(key, token, withinKey, withinIndex)) sum += list.InverseT == 0f ? 1 : Ordered.Weight((x - list.Greatest) * list.InverseT);
        }
        return Lanes.Sum(sum, lanes, scratch);
    }

    /// <summary>What the tokens below an index that have the key amount to.</summary>
    private static long Equals(Listed list, uint key, int below, int lanes, ArrayView<float> values, ArrayView<int> tokens, ArrayView<long> scratch)
    {
        long sum = 0;
        for (int i = Lanes.RowLane(lanes); i < list.Count; i += lanes)
        {
            int token = list.IsList != 0 ? tokens[list.Begin + i] : i;
            float x = values[list.Begin + token];
            if (Ordered.Key(x) == key && token < below) sum += list.InverseT == 0f ? 1 : Ordered.Weight((x - list.Greatest) * list.InverseT);
        }
        return Lanes.Sum(sum, lanes, scratch);
    }

    private static bool IsKept(uint key, int token, uint cutKey, int cutIndex) => key > cutKey || (key == cutKey && token <= cutIndex);

    /// <summary>Tokens of a row, or its first ones where there is no list; without a temperature they are counted, with one weighed.</summary>
    private readonly record struct Listed(int Begin, int Count, int IsList, float Greatest, float InverseT);
}
