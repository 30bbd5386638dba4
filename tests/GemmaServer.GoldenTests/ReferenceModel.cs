namespace GemmaServer.GoldenTests;

/// <summary>
/// Gemma 4's text model in plain double loops, written from the published description and not from the product's recipe.
/// Weights go by their Hugging Face names (without prefix), matrices are <c>[out, in]</c>.
/// </summary>
internal sealed class ReferenceModel(ReferenceShape shape, IReadOnlyDictionary<string, double[]> weights)
{
    private const double Epsilon = 1e-6;

    public ReferenceShape Shape => shape;

    /// <summary>The same weights read as another model: what a mistake would compute.</summary>
    public ReferenceModel Mistaken(Func<ReferenceShape, ReferenceShape> mistake) => new(mistake(shape), weights);

    /// <summary>The token embedding <c>[vocabulary, hidden]</c>.</summary>
    public double[] Embedding => weights["embed_tokens.weight"];

    /// <summary>Logits after soft-capping at every position, <c>[position][vocabulary]</c>.</summary>
    public double[][] Logits(ReadOnlySpan<int> tokens) => Run(tokens).Logits;

    /// <summary>Logits, the rows after the last norm that they come from, and keys and values by layer (null where a layer borrows).</summary>
    public (double[][] Logits, double[][] Hidden, (double[][] Keys, double[][] Values)[] Caches) Run(ReadOnlySpan<int> tokens)
    {
        int count = tokens.Length;
        double[][] x = new double[count][];
        double[][] perLayer = new double[count][];
        double[] embedding = weights["embed_tokens.weight"];
        for (int t = 0; t < count; t++)
        {
            x[t] = embedding[(tokens[t] * shape.Hidden)..((tokens[t] + 1) * shape.Hidden)];
            for (int i = 0; i < shape.Hidden; i++) x[t][i] *= Math.Sqrt(shape.Hidden);
            if (shape.PerLayerWidth > 0) perLayer[t] = PerLayerInputs(tokens[t], x[t]);
        }

        (double[][] Keys, double[][] Values)[] caches = new (double[][], double[][])[shape.Layers];
        for (int layer = 0; layer < shape.Layers; layer++)
        {
            Attention(layer, x, caches);
            for (int t = 0; t < count; t++)
            {
                AddTo(x[t], Norm(FeedForward(layer, x[t]), Layer(layer, "post_feedforward_layernorm.weight")));
                if (shape.PerLayerWidth > 0) InjectPerLayer(layer, x[t], perLayer[t]);
                double scalar = Layer(layer, "layer_scalar")[0];
                for (int i = 0; i < shape.Hidden; i++) x[t][i] *= scalar;
            }
        }

        double[] head = weights.TryGetValue("lm_head.weight", out double[]? own) ? own : embedding;
        double[][] logits = new double[count][], hidden = new double[count][];
        for (int t = 0; t < count; t++)
        {
            logits[t] = Times(head, hidden[t] = Norm(x[t], weights["norm.weight"]));
            if (shape.Softcap == 0) continue;
            for (int v = 0; v < logits[t].Length; v++) logits[t][v] = shape.Softcap * Math.Tanh(logits[t][v] / shape.Softcap);
        }
        return (logits, hidden, caches);
    }

    /// <summary>(RMS(W·x / √h) + table row · √P) / √2, for each layer.</summary>
    private double[] PerLayerInputs(int token, double[] x)
    {
        int width = shape.PerLayerWidth, all = shape.Layers * width;
        double[] result = Times(weights["per_layer_model_projection.weight"], x);
        double[] table = weights["embed_tokens_per_layer.weight"];
        for (int layer = 0; layer < shape.Layers; layer++)
        {
            double[] part = result[(layer * width)..((layer + 1) * width)];
            for (int i = 0; i < width; i++) part[i] /= Math.Sqrt(shape.Hidden);
            part = Norm(part, weights["per_layer_projection_norm.weight"]);
            for (int i = 0; i < width; i++)
                result[layer * width + i] = (part[i] + table[token * all + layer * width + i] * Math.Sqrt(width)) / Math.Sqrt(2);
        }
        return result;
    }

    private void InjectPerLayer(int layer, double[] x, double[] perLayer)
    {
        double[] gate = Times(Layer(layer, "per_layer_input_gate.weight"), x);
        for (int i = 0; i < gate.Length; i++) gate[i] = Gelu(gate[i]) * perLayer[layer * gate.Length + i];
        AddTo(x, Norm(Times(Layer(layer, "per_layer_projection.weight"), gate), Layer(layer, "post_per_layer_input_norm.weight")));
    }

    /// <summary>Adds the attention block's output to every row of x and leaves the layer's keys and values in the caches.</summary>
    private void Attention(int layer, double[][] x, (double[][] Keys, double[][] Values)[] caches)
    {
        int count = x.Length, dim = shape.HeadDim(layer), kvHeads = shape.KvHeads(layer);
        double[][] normed = [.. x.Select(row => Norm(row, Layer(layer, "input_layernorm.weight")))];
        if (shape.OwnsKv(layer))
        {
            caches[layer] = (new double[count][], new double[count][]);
            for (int t = 0; t < count; t++)
            {
                double[] key = Times(Layer(layer, "self_attn.k_proj.weight"), normed[t]);
                double[] value = shape.HasValue(layer) ? Times(Layer(layer, "self_attn.v_proj.weight"), normed[t]) : [.. key];
                for (int h = 0; h < kvHeads; h++)
                {
                    Put(key, h * dim, Rotate(layer, t, Norm(key[(h * dim)..((h + 1) * dim)], Layer(layer, "self_attn.k_norm.weight"))));
                    Put(value, h * dim, Norm(value[(h * dim)..((h + 1) * dim)], null));
                }
                caches[layer].Keys[t] = key;
                caches[layer].Values[t] = value;
            }
        }

        (double[][] keys, double[][] values) = caches[shape.Donor(layer)];
        for (int t = 0; t < count; t++)
        {
            double[] query = Times(Layer(layer, "self_attn.q_proj.weight"), normed[t]);
            double[] heads = new double[shape.Heads * dim];
            int first = shape.Slides(layer) ? Math.Max(0, t - shape.Window + 1) : 0;
            for (int h = 0; h < shape.Heads; h++)
            {
                double[] q = Rotate(layer, t, Norm(query[(h * dim)..((h + 1) * dim)], Layer(layer, "self_attn.q_norm.weight")));
                int at = h / (shape.Heads / kvHeads) * dim;
                double[] share = Softmax([.. Enumerable.Range(first, t - first + 1).Select(j => Dot(q, 0, keys[j], at, dim))]);
                for (int j = first; j <= t; j++)
                    for (int i = 0; i < dim; i++) heads[h * dim + i] += share[j - first] * values[j][at + i];
            }
            AddTo(x[t], Norm(Times(Layer(layer, "self_attn.o_proj.weight"), heads), Layer(layer, "post_attention_layernorm.weight")));
        }
    }

    internal double[] FeedForward(int layer, double[] x)
    {
        double[] n = Norm(x, Layer(layer, "pre_feedforward_layernorm.weight"));
        double[] inner = Times(Layer(layer, "mlp.gate_proj.weight"), n);
        double[] up = Times(Layer(layer, "mlp.up_proj.weight"), n);
        for (int i = 0; i < inner.Length; i++) inner[i] = Gelu(inner[i]) * up[i];
        double[] dense = Times(Layer(layer, "mlp.down_proj.weight"), inner);
        if (shape.Experts == 0) return dense;

        dense = Norm(dense, Layer(layer, "post_feedforward_layernorm_1.weight"));
        AddTo(dense, Norm(Experts(layer, x), Layer(layer, "post_feedforward_layernorm_2.weight")));
        return dense;
    }

    private double[] Experts(int layer, double[] x)
    {
        double[] r = Norm(x, null), scale = Layer(layer, "router.scale");
        for (int i = 0; i < r.Length; i++) r[i] *= scale[i] / Math.Sqrt(shape.Hidden);
        double[] g = Softmax(Times(Layer(layer, "router.proj.weight"), r));
        int[] best = [.. Enumerable.Range(0, shape.Experts).OrderByDescending(e => g[e]).Take(shape.TopExperts)];
        double sum = best.Sum(e => g[e]);

        double[] n = Norm(x, Layer(layer, "pre_feedforward_layernorm_2.weight"));
        double[] y = new double[shape.Hidden];
        double[] gateUp = Layer(layer, "experts.gate_up_proj"), down = Layer(layer, "experts.down_proj");
        int width = shape.ExpertWidth, upSize = 2 * width * shape.Hidden, downSize = width * shape.Hidden;
        foreach (int e in best)
        {
            double[] both = Times(gateUp.AsSpan(e * upSize, upSize), n);
            double[] inner = new double[width];
            for (int i = 0; i < width; i++) inner[i] = Gelu(both[i]) * both[width + i];
            double[] expert = Times(down.AsSpan(e * downSize, downSize), inner);
            double share = g[e] / sum * Layer(layer, "router.per_expert_scale")[e];
            for (int i = 0; i < y.Length; i++) y[i] += share * expert[i];
        }
        return y;
    }

    /// <summary>Pairs (i, i + d/2); on full layers only the first share of the pairs turns, with the whole d in the exponent.</summary>
    internal double[] Rotate(int layer, int position, double[] head)
    {
        int half = head.Length / 2;
        int turning = shape.Slides(layer) ? half : (int)Math.Floor(shape.RotaryFactor * head.Length / 2);
        double theta = shape.Slides(layer) ? shape.SlidingBase : shape.FullBase;
        for (int i = 0; i < turning; i++)
        {
            (double sin, double cos) = Math.SinCos(position * Math.Pow(theta, -2.0 * i / head.Length));
            (double a, double b) = (head[i], head[i + half]);
            head[i] = a * cos - b * sin;
            head[i + half] = b * cos + a * sin;
        }
        return head;
    }

    internal double[] Layer(int layer, string name) => weights[$"layers.{layer}.{name}"];

    private static double Gelu(double x) => 0.5 * x * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)));

    internal static double[] Norm(double[] x, double[]? w)
    {
        double factor = 1 / Math.Sqrt(Dot(x, 0, x, 0, x.Length) / x.Length + Epsilon);
        double[] y = new double[x.Length];
        for (int i = 0; i < y.Length; i++) y[i] = x[i] * factor * (w is null ? 1 : w[i]);
        return y;
    }

    internal static double[] Softmax(double[] scores)
    {
        double max = scores.Max(), sum = 0;
        for (int i = 0; i < scores.Length; i++) sum += scores[i] = Math.Exp(scores[i] - max);
        for (int i = 0; i < scores.Length; i++) scores[i] /= sum;
        return scores;
    }

    internal static double[] Times(ReadOnlySpan<double> w, double[] x)
    {
        double[] y = new double[w.Length / x.Length];
        for (int r = 0; r < y.Length; r++)
        {
            ReadOnlySpan<double> row = w.Slice(r * x.Length, x.Length);
            double sum = 0;
            for (int i = 0; i < row.Length; i++) sum += row[i] * x[i];
            y[r] = sum;
        }
        return y;
    }

    internal static double Dot(double[] a, int aFrom, double[] b, int bFrom, int count)
    {
        double sum = 0;
        for (int i = 0; i < count; i++) sum += a[aFrom + i] * b[bFrom + i];
        return sum;
    }

    internal static void AddTo(double[] x, double[] delta)
    {
        for (int i = 0; i < x.Length; i++) x[i] += delta[i];
    }

    private static void Put(double[] into, int at, double[] from) => from.CopyTo(into, at);
}
