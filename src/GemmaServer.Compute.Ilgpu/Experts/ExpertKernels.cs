using ILGPU;
using ILGPU.Algorithms;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>Mixture of experts: choice, order by expert, and the weighted sum.</summary>
internal static class ExpertKernels
{
    /// <summary>
    /// A lane for each row: the best <paramref name="used"/> experts in ascending order, with softmax over them times each one's
    /// own scale. Scores are used up.
    /// </summary>
    public static void Top(
        int rows, int experts, int stride, int used, ArrayView<float> scores, ArrayView<float> expertScale, ArrayView<int> chosen, ArrayView<float> shares)
    {
        for (int row = Lanes.Global; row < rows; row += Lanes.Count)
        {
            int at = row * stride, to = row * used;
            float max = 0, sum = 0;
            for (int k = 0; k < used; k++)
            {
                int best = 0;
                float score = scores[at];
                for (int e = 1; e < experts; e++)
                {
                    float other = scores[at + e];
                    if (other > score)
                    {
                        score = other;
                        best = e;
                    }
                }
                scores[at + best] = float.NegativeInfinity;
                if (k == 0) max = score;
                float share = XMath.Exp(score - max);
                sum += share;
                // Into its place among those before it.
                int place = k;
                while (place > 0 && chosen[to + place - 1] > best)
                {
                    chosen[to + place] = chosen[to + place - 1];
                    shares[to + place] = shares[to + place - 1];
                    place--;
                }
                chosen[to + place] = best;
                shares[to + place] = share;
            }
            for (int k = 0; k < used; k++) shares[to + k] = shares[to + k] / sum * expertScale[chosen[to + k]];
        }
    }

    /// <summary>A lane for each expert: how many of the choices are its.</summary>
    public static void Count(int choices, int experts, ArrayView<int> chosen, ArrayView<int> counts)
    {
        for (int e = Lanes.Global; e < experts; e += Lanes.Count)
        {
            int count = 0;
            for (int i = 0; i < choices; i++)
                if (chosen[i] == e) count++;
            counts[e] = count;
        }
    }

    /// <summary>
    /// A lane for each expert: its choices get places side by side, in the order of the rows, cut into tiles.
    /// <code>
    /// tiles    [4]  how many, then [4] each: expert, first place, places
    /// inputs   by place, the row
    /// places   by choice, its place
    /// </code>
    /// </summary>
    public static void Place(
        int choices, int experts, int used, int tileRows, ArrayView<int> chosen, ArrayView<int> counts, ArrayView<int> tiles, ArrayView<int> inputs, ArrayView<int> places)
    {
        for (int e = Lanes.Global; e < experts; e += Lanes.Count)
        {
            int place = 0, tile = 0;
            for (int before = 0; before < e; before++)
            {
                place += counts[before];
                tile += (counts[before] + tileRows - 1) / tileRows;
            }
            int end = place + counts[e];
            for (int first = place; first < end; first += tileRows, tile++)
            {
                tiles[4 * tile + 4] = e;
                tiles[4 * tile + 5] = first;
                tiles[4 * tile + 6] = IntrinsicMath.Min(tileRows, end - first);
            }
            if (e == experts - 1) tiles[0] = tile;
            for (int i = 0; i < choices; i++)
            {
                if (chosen[i] == e)
                {
                    inputs[place] = i / used;
                    places[i] = place;
                    place++;
                }
            }
        }
    }

    /// <summary>y = Σ share · output over a row's experts, in ascending order.</summary>
    public static void Scatter(
        int rows, int columns, int used, int outputStride, int yStride, ArrayView<float> outputs, ArrayView<int> places, ArrayView<float> shares, ArrayView<float> y)
    {
        for (int i = Lanes.Global; i < rows * columns; i += Lanes.Count)
        {
            int row = i / columns, column = i % columns;
            float sum = 0;
            for (int k = 0; k < used; k++) sum += outputs[places[row * used + k] * outputStride + column] * shares[row * used + k];
            y[row * yStride + column] = sum;
        }
    }
}
