namespace GemmaServer.GoldenTests;

/// <summary>Gemma 4's drafter in plain double loops, from the published description: it reads what a target's reference left in its caches.</summary>
internal sealed class ReferenceDrafter(ReferenceShape shape, IReadOnlyDictionary<string, double[]> weights, ReferenceModel target)
{
    private readonly ReferenceModel _layers = new(shape, weights);

    /// <summary>One guess at <paramref name="position"/>: keys below it count, in a window those above position − W.</summary>
    /// <returns>Logits over every token, the row before the head, and the next hidden row.</returns>
    public (double[] Logits, double[] Row, double[] Hidden) Step(int token, double[] hidden, int position, (double[][] Keys, double[][] Values)[] caches)
    {
        int width = hidden.Length;
        double[] embedding = target.Embedding[(token * width)..((token + 1) * width)];
        for (int i = 0; i < width; i++) embedding[i] *= Math.Sqrt(width);
        double[] z = ReferenceModel.Times(weights["pre_projection.weight"], [.. embedding, .. hidden]);
        for (int layer = 0; layer < shape.Layers; layer++)
        {
            Attention(layer, z, position, caches[target.Shape.Pattern.LastIndexOf(shape.Pattern[layer], target.Shape.Layers - target.Shape.SharedLayers - 1)]);
            ReferenceModel.AddTo(z, ReferenceModel.Norm(_layers.FeedForward(layer, z), _layers.Layer(layer, "post_feedforward_layernorm.weight")));
            double scalar = _layers.Layer(layer, "layer_scalar")[0];
            for (int i = 0; i < z.Length; i++) z[i] *= scalar;
        }
        double[] n = ReferenceModel.Norm(z, weights["norm.weight"]);
        return (ReferenceModel.Times(weights["embed_tokens.weight"], n), n, ReferenceModel.Times(weights["post_projection.weight"], n));
    }

    private void Attention(int layer, double[] z, int position, (double[][] Keys, double[][] Values) cache)
    {
        int dim = shape.HeadDim(layer), perKv = shape.Heads / shape.KvHeads(layer);
        int first = shape.Slides(layer) ? Math.Max(0, position - shape.Window + 1) : 0;
        double[] query = ReferenceModel.Times(_layers.Layer(layer, "self_attn.q_proj.weight"), ReferenceModel.Norm(z, _layers.Layer(layer, "input_layernorm.weight")));
        double[] heads = new double[shape.Heads * dim];
        for (int h = 0; h < shape.Heads && first < position; h++)
        {
            double[] q = _layers.Rotate(layer, position, ReferenceModel.Norm(query[(h * dim)..((h + 1) * dim)], _layers.Layer(layer, "self_attn.q_norm.weight")));
            int at = h / perKv * dim;
            double[] share = ReferenceModel.Softmax([.. Enumerable.Range(first, position - first).Select(j => ReferenceModel.Dot(q, 0, cache.Keys[j], at, dim))]);
            for (int j = first; j < position; j++)
                for (int i = 0; i < dim; i++) heads[h * dim + i] += share[j - first] * cache.Values[j][at + i];
        }
        ReferenceModel.AddTo(z, ReferenceModel.Norm(
            ReferenceModel.Times(_layers.Layer(layer, "self_attn.o_proj.weight"), heads), _layers.Layer(layer, "post_attention_layernorm.weight")));
    }
}
