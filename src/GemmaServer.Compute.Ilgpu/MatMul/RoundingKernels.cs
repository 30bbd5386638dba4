using ILGPU;
using ILGPU.Algorithms;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>Rows of activations brought to a grid of fewer bits, as other devices multiply them; what comes out is floats again.</summary>
/// <remarks>Products of such floats are those of the integers times the scales, but for what sums in floats round.</remarks>
internal static class RoundingKernels
{
    /// <summary>1.5 · 2^23: adding it rounds to a whole number, ties to even.</summary>
    private const float Magic = 12582912f;

    /// <summary>y = q · scale in blocks of 32, scale = max|x| / 127 and q = x / scale as a whole number: a lane for each block.</summary>
    /// <param name="blocks">Blocks of all rows: they lie side by side in both.</param>
    /// <param name="x">Input.</param>
    /// <param name="y">Output.</param>
    public static void ToBytes(int blocks, ArrayView<float> x, ArrayView<float> y)
    {
        ArrayView<Four> input = x.Cast<Four>(), output = y.Cast<Four>();
        for (int block = Lanes.Global; block < blocks; block += Lanes.Count)
        {
            float most = 0;
            for (int i = 8 * block; i < 8 * block + 8; i++) most = IntrinsicMath.Max(most, input[i].Most);
            // Below this 127 / most would overflow; such a block counts as zero.
            float inverse = most > 1e-36f ? 127f / most : 0f, scale = most / 127f;
            for (int i = 8 * block; i < 8 * block + 8; i++)
            {
                Four v = input[i].Times(inverse);
                output[i] = new Four(Whole(v.X), Whole(v.Y), Whole(v.Z), Whole(v.W)).Times(scale);
            }
        }
    }

    /// <summary>y = x in bfloat16: a lane for four.</summary>
    public static void ToBFloats(int fours, ArrayView<float> x, ArrayView<float> y)
    {
        ArrayView<Four> input = x.Cast<Four>(), output = y.Cast<Four>();
        for (int i = Lanes.Global; i < fours; i += Lanes.Count)
        {
            Four v = input[i];
            output[i] = new Four(BFloat(v.X), BFloat(v.Y), BFloat(v.Z), BFloat(v.W));
        }
    }

    private static float Whole(float x) => x + Magic - Magic;

    private static float BFloat(float x) => Interop.IntAsFloat(Lanes.FloatToBFloat(x) << 16);
}
