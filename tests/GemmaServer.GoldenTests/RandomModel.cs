namespace GemmaServer.GoldenTests;

/// <summary>A model nobody has seen: shape and weights from a seed. Scales are such that every part shows in the logits.</summary>
internal static class RandomModel
{
    /// <summary>A shape; widths are whole blocks of 32 only as far as the weights' types need it.</summary>
    /// <param name="random">Decides.</param>
    /// <param name="quantised">Whether blocks should fit into most rows.</param>
    public static ReferenceShape Shape(Random random, bool quantised)
    {
        string pattern = Pattern(random);
        int layers = pattern.Length;
        int heads = Pick(random, 1, 2, 3, 4, 6, 8);
        int[] dims = heads > 4 ? [16, 32, 48, 64] : quantised ? [32, 64, 80, 96, 128] : [16, 32, 48, 64, 80, 96, 128];
        int dim = Pick(random, dims), experts = Chance(random, 0.35) ? random.Next(2, 17) : 0;
        ReferenceShape shape = new()
        {
            Pattern = pattern,
            Hidden = quantised ? Pick(random, 32, 64, 96, 128, 160) : Pick(random, 24, 32, 37, 40, 48, 50, 64, 72, 96, 100, 128),
            Vocabulary = Pick(random, 97, 512, 1000, 4099),
            Heads = heads,
            SlidingKvHeads = Divisor(random, heads),
            FullKvHeads = Divisor(random, heads),
            SlidingHeadDim = dim,
            FullHeadDim = Chance(random, 0.3) ? dim : Pick(random, dims),
            Window = Pick(random, 1, 5, 16, 33, 100),
            FeedForward = quantised ? Pick(random, 32, 64, 96, 48, 128) : Pick(random, 16, 33, 40, 64, 100, 128),
            ValueIsKey = Chance(random, 0.5),
            PerLayerWidth = Chance(random, 0.35) ? Pick(random, 8, 16, 20, 32, 64) : 0,
            Experts = experts,
            TopExperts = experts == 0 ? 0 : random.Next(1, Math.Min(8, experts) + 1),
            ExpertWidth = experts == 0 ? 0 : quantised ? Pick(random, 32, 64) : Pick(random, 8, 24, 32, 33),
            Softcap = Pick(random, 30, 30, 0, 5),
            RotaryFactor = Pick(random, 0.25, 0.25, 0.5, 1.0),
            SlidingBase = Pick(random, 10_000, 10_000, 500, 160_000),
            FullBase = Pick(random, 1_000_000, 1_000_000, 10_000, 3e7),
        };
        return Chance(random, 0.5) ? WithSharing(random, shape) : shape;
    }

    /// <summary>Weights by Hugging Face name; K/V that borrowing layers do not use come along when asked for, as in real files.</summary>
    public static List<(string Name, int[] Shape, double[] Values)> Weights(Random random, ReferenceShape s, bool unusedKv, bool ownHead)
    {
        List<(string, int[], double[])> all = [];
        int h = s.Hidden;
        Matrix("embed_tokens.weight", 1 / Math.Sqrt(h), s.Vocabulary, h);
        if (ownHead) Matrix("lm_head.weight", 1 / Math.Sqrt(h), s.Vocabulary, h);
        Vector("norm.weight", 5, h);
        if (s.PerLayerWidth > 0)
        {
            Matrix("embed_tokens_per_layer.weight", 1 / Math.Sqrt(s.PerLayerWidth), s.Vocabulary, s.Layers * s.PerLayerWidth);
            Matrix("per_layer_model_projection.weight", 1, s.Layers * s.PerLayerWidth, h);
            Vector("per_layer_projection_norm.weight", 1, s.PerLayerWidth);
        }
        for (int layer = 0; layer < s.Layers; layer++) AddLayer(layer);
        return all;

        void AddLayer(int layer)
        {
            string p = $"layers.{layer}.";
            int dim = s.HeadDim(layer), q = s.Heads * dim, kv = s.KvHeads(layer) * dim, ff = s.FeedForwardOf(layer);
            Vector(p + "input_layernorm.weight", 1, h);
            Linear(p + "self_attn.q_proj.weight", q, h);
            // Scores get a spread of about 1.5, so that attention neither averages nor picks one key.
            Vector(p + "self_attn.q_norm.weight", 1.5 / Math.Sqrt(dim), dim);
            if (s.OwnsKv(layer) || unusedKv)
            {
                Linear(p + "self_attn.k_proj.weight", kv, h);
                Vector(p + "self_attn.k_norm.weight", 1, dim);
                if (s.HasValue(layer)) Linear(p + "self_attn.v_proj.weight", kv, h);
            }
            Linear(p + "self_attn.o_proj.weight", h, q);
            Vector(p + "post_attention_layernorm.weight", 0.5, h);
            Vector(p + "pre_feedforward_layernorm.weight", 1, h);
            Linear(p + "mlp.gate_proj.weight", ff, h);
            Linear(p + "mlp.up_proj.weight", ff, h);
            Linear(p + "mlp.down_proj.weight", h, ff);
            Vector(p + "post_feedforward_layernorm.weight", 0.5, h);
            all.Add((p + "layer_scalar", [1], [(0.6 + 0.8 * random.NextDouble()) * (random.Next(8) == 0 ? -1 : 1)]));
            if (s.PerLayerWidth > 0)
            {
                Linear(p + "per_layer_input_gate.weight", s.PerLayerWidth, h);
                Linear(p + "per_layer_projection.weight", h, s.PerLayerWidth);
                Vector(p + "post_per_layer_input_norm.weight", 0.5, h);
            }
            if (s.Experts > 0) AddExperts(p);
        }

        void AddExperts(string p)
        {
            Matrix(p + "router.proj.weight", 1.5, s.Experts, h);
            Vector(p + "router.scale", 1, h);
            Vector(p + "router.per_expert_scale", 1, s.Experts);
            Matrix(p + "experts.gate_up_proj", 1 / Math.Sqrt(h), s.Experts, 2 * s.ExpertWidth, h);
            Matrix(p + "experts.down_proj", 1 / Math.Sqrt(s.ExpertWidth), s.Experts, h, s.ExpertWidth);
            Vector(p + "pre_feedforward_layernorm_2.weight", 1, h);
            Vector(p + "post_feedforward_layernorm_1.weight", 1, h);
            Vector(p + "post_feedforward_layernorm_2.weight", 1, h);
        }

        void Linear(string name, int rows, int columns) => Matrix(name, 1 / Math.Sqrt(columns), rows, columns);

        void Matrix(string name, double deviation, params int[] size)
        {
            double[] values = new double[size.Aggregate(1, (a, b) => a * b)];
            // Uniform numbers of the same deviation; nothing depends on the distribution.
            for (int i = 0; i < values.Length; i++) values[i] = (random.NextDouble() - 0.5) * Math.Sqrt(12) * deviation;
            all.Add((name, size, values));
        }

        // Random signs: a norm taken as 1 + w, or as |w|, must show.
        void Vector(string name, double size, int length) => all.Add((name, [length],
            [.. Enumerable.Range(0, length).Select(_ => size * (0.6 + 0.8 * random.NextDouble()) * (random.Next(2) == 0 ? -1 : 1))]));
    }

    public static T Pick<T>(Random random, params ReadOnlySpan<T> choices) => choices[random.Next(choices.Length)];

    public static bool Chance(Random random, double share) => random.NextDouble() < share;

    private static string Pattern(Random random)
    {
        int layers = random.Next(2, 10), period = random.Next(2, 6), kind = random.Next(8);
        char[] pattern = new char[layers];
        for (int i = 0; i < layers; i++)
            pattern[i] = kind == 0 ? 'F' : kind < 4 ? (i % period == period - 1 ? 'F' : 'S') : random.Next(3) == 0 ? 'F' : 'S';
        pattern[^1] = 'F';
        return new string(pattern);
    }

    /// <summary>Lets up to all but two layers borrow, as many as have somebody to borrow from.</summary>
    private static ReferenceShape WithSharing(Random random, ReferenceShape shape)
    {
        for (int shared = random.Next(0, shape.Layers - 1); shared > 0; shared--)
        {
            ReferenceShape candidate = shape with { SharedLayers = shared, DoubleWide = Chance(random, 0.5) };
            if (Enumerable.Range(0, shape.Layers).All(l => candidate.Donor(l) >= 0)) return candidate;
        }
        return shape;
    }

    private static int Divisor(Random random, int of)
    {
        int[] divisors = [.. Enumerable.Range(1, of).Where(d => of % d == 0)];
        return divisors[random.Next(divisors.Length)];
    }
}
