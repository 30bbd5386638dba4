namespace GemmaServer.Model;

/// <summary>Inverse rotation frequencies per layer type, in fp32; spec §1.3.</summary>
public static class RopeFrequencies
{
    /// <summary>
    /// Sliding: base^(−2i/d) for every pair. Global ("proportional"): the same with the full head dim in the exponent for the
    /// first ⌊factor·d/2⌋ pairs, zero for the rest.
    /// </summary>
    /// <returns><c>[headDim/2]</c>.</returns>
    public static float[] For(ModelConfig config, LayerConfig layer)
    {
        int pairs = layer.HeadDim / 2;
        float[] frequencies = new float[pairs];
        double theta = layer.IsSliding ? config.RopeBaseSliding : config.RopeBaseGlobal;
        int rotated = layer.IsSliding ? pairs : (int)(config.PartialRotaryFactor * layer.HeadDim / 2);
        for (int i = 0; i < rotated; i++) frequencies[i] = (float)(1.0 / Math.Pow(theta, 2.0 * i / layer.HeadDim));
        return frequencies;
    }
}
