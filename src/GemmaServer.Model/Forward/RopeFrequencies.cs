namespace GemmaServer.Model;

/// <summary>Inverse rotation frequencies per layer type, in fp32; spec §1.3.</summary>
public static class RopeFrequencies
{
    /// <summary>
    /// Sliding: base^(−2i/d) for every pair. Global ("proportional"): the same with the full head dim in the exponent, divided
    /// by the file's divisors, so the first quarter of the pairs turns and the rest stands still.
    /// </summary>
    /// <returns><c>[headDim/2]</c>.</returns>
    public static float[] For(ModelConfig config, LayerConfig layer)
    {
        float[] frequencies = new float[layer.HeadDim / 2];
        double theta = layer.IsSliding ? config.RopeBaseSliding : config.RopeBaseGlobal;
        for (int i = 0; i < frequencies.Length; i++)
        {
            float divisor = layer.IsSliding ? 1f : config.GlobalRopeDivisors[i];
            // Files write 1e30 where a pair does not rotate.
            frequencies[i] = divisor >= 1e29f ? 0f : (float)(1.0 / Math.Pow(theta, 2.0 * i / layer.HeadDim)) / divisor;
        }
        return frequencies;
    }
}
