using ILGPU;
using ILGPU.Algorithms;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>A portion's logits.</summary>
/// <param name="Start">Output row of its first.</param>
/// <param name="Rows">Rows of it.</param>
/// <param name="Vocabulary">Logits of a row.</param>
/// <param name="Stride">Floats from one row to the next, a multiple of four.</param>
/// <param name="Columns">Lanes that look through a row: lane c has fours c, c + Columns, c + 2 · Columns …, so that neighbours read side by side.</param>
internal readonly record struct LogitShape(int Start, int Rows, int Vocabulary, int Stride, int Columns)
{
    /// <summary>Fours of a row.</summary>
    public int Fours => (Vocabulary + 3) / 4;
}

/// <summary>From a head's logits to tokens and logprobs: what is done to single logits, and what looks at all of them.</summary>
internal static class SamplingKernels
{
    /// <summary>Adds to single logits, or bars them: a lane for each patch. No row has a token twice.</summary>
    /// <param name="s">Logits.</param>
    /// <param name="first">First patch.</param>
    /// <param name="count">How many.</param>
    /// <param name="bars">Puts −∞ instead.</param>
    /// <param name="patches">Output row, token and bias (a float) of each.</param>
    /// <param name="logits">In and out.</param>
    public static void Patch(LogitShape s, int first, int count, int bars, ArrayView<int> patches, ArrayView<float> logits)
    {
        for (int i = first + Lanes.Global; i < first + count; i += Lanes.Count)
        {
            int row = patches[3 * i] - s.Start, at = row * s.Stride + patches[3 * i + 1];
            if (row >= 0 && row < s.Rows) logits[at] = bars != 0 ? float.NegativeInfinity : logits[at] + Lanes.AsFloat(patches[3 * i + 2]);
        }
    }

    /// <summary>Penalties, and −∞ for what the step does not allow: a lane for each logit.</summary>
    /// <param name="s">Logits.</param>
    /// <param name="table">Output rows.</param>
    /// <param name="counts">[places][vocabulary]: 0 for a token not seen, else one more than its occurrences in the output.</param>
    /// <param name="masks">[masks][vocabulary / 32]: bit by token.</param>
    /// <param name="logits">In and out.</param>
    public static void Penalise(LogitShape s, ArrayView<int> table, ArrayView<ushort> counts, ArrayView<int> masks, ArrayView<float> logits)
    {
        for (int i = Lanes.Global; i < s.Rows * s.Vocabulary; i += Lanes.Count)
        {
            int row = i / s.Vocabulary, token = i % s.Vocabulary, about = (s.Start + row) * OutputRow.Ints, at = row * s.Stride + token;
            int place = table[about + OutputRow.Counts], mask = table[about + OutputRow.Mask];
            float x = logits[at];
            if (place >= 0)
            {
                int seen = counts[(long)place * s.Vocabulary + token];
                // Guesses before the row are part of its output: where one was wrong, the row is nobody's.
                for (int r = 1; r <= table[about + OutputRow.Run]; r++)
                    if (table[about - r * OutputRow.Ints + OutputRow.Guess] == token) seen = seen == 0 ? 2 : seen + 1;
                float repetition = Lanes.AsFloat(table[about + OutputRow.Penalties]);
                if (seen > 0) x = x > 0 ? x / repetition : x * repetition;
                if (seen > 1) x -= Lanes.AsFloat(table[about + OutputRow.Penalties + 1]) * (seen - 1) + Lanes.AsFloat(table[about + OutputRow.Penalties + 2]);
            }
            if (mask >= 0 && (masks[mask * ((s.Vocabulary + 31) / 32) + token / 32] >> token % 32 & 1) == 0) x = float.NegativeInfinity;
            logits[at] = x;
        }
    }

    /// <summary>counts[place][token] = count, for each pair once.</summary>
    /// <param name="n">Entries.</param>
    /// <param name="vocabulary">Counts of a place.</param>
    /// <param name="entries">Place, token and count of each.</param>
    /// <param name="counts">Output.</param>
    public static void Count(int n, int vocabulary, ArrayView<int> entries, ArrayView<ushort> counts)
    {
        for (int i = Lanes.Global; i < n; i += Lanes.Count)
            counts[(long)entries[3 * i] * vocabulary + entries[3 * i + 1]] = (ushort)entries[3 * i + 2];
    }

    /// <summary>The greatest of each column, and where asked for Σ e^(logit − greatest).</summary>
    public static void Survey(LogitShape s, int hasSums, ArrayView<float> logits, ArrayView<float> maxima, ArrayView<float> sums)
    {
        ArrayView<Four> fours = logits.Cast<Four>();
        for (int i = Lanes.Global; i < s.Rows * s.Columns; i += Lanes.Count)
        {
            int at = i / s.Columns * (s.Stride / 4);
            float most = float.NegativeInfinity, sum = 0;
            for (int f = i % s.Columns; f < s.Fours; f += s.Columns)
            {
                Four x = Within(fours[at + f], f, s.Vocabulary);
                most = IntrinsicMath.Max(most, IntrinsicMath.Max(IntrinsicMath.Max(x.X, x.Y), IntrinsicMath.Max(x.Z, x.W)));
            }
            maxima[i] = most;
            if (hasSums != 0 && most > float.NegativeInfinity)
            {
                for (int f = i % s.Columns; f < s.Fours; f += s.Columns)
                {
                    Four x = Within(fours[at + f], f, s.Vocabulary);
                    sum += XMath.Exp(x.X - most) + XMath.Exp(x.Y - most) + XMath.Exp(x.Z - most) + XMath.Exp(x.W - most);
                }
            }
            if (hasSums != 0) sums[i] = sum;
        }
    }

    /// <summary>The best of each column: arg max of (logit − greatest) / T + noise over who takes part, or of the logits.</summary>
    /// <param name="s">Logits.</param>
    /// <param name="table">Output rows.</param>
    /// <param name="logits">Adjusted ones.</param>
    /// <param name="maxima">Of columns; read where something is drawn, as is what follows.</param>
    /// <param name="bounds">See <see cref="SelectionKernels.Cut"/>.</param>
    /// <param name="drawn">By column, <see cref="Ordered.Scored"/>; 0 for nobody.</param>
    public static void Draw(LogitShape s, ArrayView<int> table, ArrayView<float> logits, ArrayView<float> maxima, ArrayView<int> bounds, ArrayView<long> drawn)
    {
        ArrayView<Four> fours = logits.Cast<Four>();
        for (int i = Lanes.Global; i < s.Rows * s.Columns; i += Lanes.Count)
        {
            int row = i / s.Columns, about = (s.Start + row) * OutputRow.Ints, flags = table[about], at = row * (s.Stride / 4);
            long best = 0;
            if ((flags & OutputRow.IsGreedy) != 0)
            {
                for (int f = i % s.Columns; f < s.Fours; f += s.Columns)
                {
                    Four x = Within(fours[at + f], f, s.Vocabulary);
                    best = Better(best, x.X, 4 * f);
                    best = Better(best, x.Y, 4 * f + 1);
                    best = Better(best, x.Z, 4 * f + 2);
                    best = Better(best, x.W, 4 * f + 3);
                }
            }
            else if ((flags & OutputRow.Samples) != 0)
            {
                Race race = new(
                    Lanes.AsFloat(bounds[3 * row]), Lanes.AsFloat(table[about + OutputRow.InverseT]),
                    Lanes.AsFloat(table[about + OutputRow.LeastRelative]), (uint)bounds[3 * row + 1], bounds[3 * row + 2]);
                float reach = (maxima[i] - race.Greatest) * race.InverseT;
                // The best token's score is at least the least noise; a column so far below that no noise makes up for it is left alone.
                if (Ordered.Key(maxima[i]) >= race.Key && reach >= race.Least && reach >= Ordered.LeastNoise - Ordered.GreatestNoise)
                {
                    for (int f = i % s.Columns; f < s.Fours; f += s.Columns)
                    {
                        Four x = Within(fours[at + f], f, s.Vocabulary);
                        Quad bits = Ordered.Philox(
                            (uint)table[about + OutputRow.Seed], (uint)table[about + OutputRow.Seed + 1], (uint)f, (uint)table[about + OutputRow.Position]);
                        best = Better(best, race, x.X, 4 * f, bits.X);
                        best = Better(best, race, x.Y, 4 * f + 1, bits.Y);
                        best = Better(best, race, x.Z, 4 * f + 2, bits.Z);
                        best = Better(best, race, x.W, 4 * f + 3, bits.W);
                    }
                }
            }
            drawn[i] = best;
        }
    }

    /// <summary>The best column's token, and from untouched logits what logprobs are made of: lanes of a row together.</summary>
    /// <param name="s">Logits.</param>
    /// <param name="lanes">Lanes of a row.</param>
    /// <param name="keeps">Whether there are untouched logits.</param>
    /// <param name="table">Output rows.</param>
    /// <param name="logits">Untouched.</param>
    /// <param name="maxima">Theirs.</param>
    /// <param name="sums">Theirs.</param>
    /// <param name="drawn">By column.</param>
    /// <param name="results">By output row, see <see cref="OutputRow.ResultInts"/>.</param>
    public static void Pick(
        LogitShape s, int lanes, int keeps, ArrayView<int> table, ArrayView<float> logits, ArrayView<float> maxima, ArrayView<float> sums,
        ArrayView<long> drawn, ArrayView<int> results)
    {
        ArrayView<long> scratch = SharedMemory.Allocate<long>(Lanes.MostRowLanes);
        ArrayView<float> floats = SharedMemory.Allocate<float>(Lanes.MostRowLanes);
        int lane = Lanes.RowLane(lanes), advance = Lanes.RowStep(lanes);
        for (int row = Lanes.FirstRow(lanes); row < s.Rows; row += advance)
        {
            int about = (s.Start + row) * OutputRow.Ints, to = (s.Start + row) * OutputRow.ResultInts, at = row * s.Columns;
            long best = 0, most = 0;
            for (int c = lane; c < s.Columns; c += lanes) best = IntrinsicMath.Max(best, drawn[at + c]);
            int token = Ordered.Token(Lanes.Most(best, lanes, scratch));
            if (lane == 0) results[to] = (table[about] & OutputRow.Samples) != 0 ? token : -1;
            if (keeps != 0)
            {
                for (int c = lane; c < s.Columns; c += lanes) most = IntrinsicMath.Max(most, (long)Ordered.Key(maxima[at + c]));
                float greatest = Ordered.Value((uint)Lanes.Most(most, lanes, scratch)), sum = 0;
                for (int c = lane; c < s.Columns; c += lanes)
                    if (maxima[at + c] > float.NegativeInfinity) sum += sums[at + c] * XMath.Exp(maxima[at + c] - greatest);
                sum = Lanes.Sum(sum, lanes, floats);
                int next = table[about + OutputRow.PromptNext];
                if (lane == 0)
                {
                    results[to + 1] = Lanes.AsInt(logits[row * s.Stride + token]);
                    results[to + 2] = Lanes.AsInt(greatest);
                    results[to + 3] = Lanes.AsInt(XMath.Log(sum));
                    results[to + 4] = Lanes.AsInt(logits[row * s.Stride + IntrinsicMath.Max(next, 0)]);
                }
            }
        }
    }

    /// <summary>What is behind the last token cannot be chosen.</summary>
    internal static Four Within(Four x, int four, int vocabulary) => new(
        x.X, 4 * four + 1 < vocabulary ? x.Y : float.NegativeInfinity,
        4 * four + 2 < vocabulary ? x.Z : float.NegativeInfinity, 4 * four + 3 < vocabulary ? x.W : float.NegativeInfinity);

    private static long Better(long best, float x, int token) => x > float.NegativeInfinity ? IntrinsicMath.Max(best, Ordered.Scored(x, token)) : best;

    private static long Better(long best, Race race, float x, int token, uint bits)
    {
        uint key = Ordered.Key(x);
        float relative = (x - race.Greatest) * race.InverseT;
        bool isKept = key > race.Key || (key == race.Key && token <= race.Index);
        return isKept && relative >= race.Least ? IntrinsicMath.Max(best, Ordered.Scored(relative + Ordered.Noise(bits), token)) : best;
    }

    /// <summary>Who takes part in a draw, and how.</summary>
    private readonly record struct Race(float Greatest, float InverseT, float Least, uint Key, int Index);
}
