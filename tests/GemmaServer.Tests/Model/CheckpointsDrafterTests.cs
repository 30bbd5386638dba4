using GemmaServer.Model;

namespace GemmaServer.Tests.Model;

/// <summary>Drafters: the forms that exist, what is refused with which words, and whether they fit a target.</summary>
public sealed class CheckpointsDrafterTests
{
    private const string Name = "tiny-e-assistant";

    private static string Gguf => GoldenData.At(Name, Name + "-Q8_0.gguf");

    /// <summary>Every stored form at hand; the clone has one.</summary>
    private static string[] All => [.. GoldenModels.Ggufs(Name), .. GoldenData.Has(Name, "hf", "config.json") ? (string[])[GoldenModels.Folder(Name)] : []];

    /// <summary>Sets what is asked of the drafter; the file is written again for each.</summary>
    private static Checkpoint Open(GgufImage image, TempFolder folder, CheckpointKind kind = CheckpointKind.Drafter) =>
        Checkpoint.Open(folder.Write("drafter.gguf", image.Write()), kind);

    private static CheckpointException Refused(GgufImage image, CheckpointKind kind = CheckpointKind.Drafter)
    {
        using TempFolder folder = new();
        return Assert.Throws<CheckpointException>(() => Open(image, folder, kind));
    }

    [Fact]
    public void Every_form_opens_as_the_same_drafter()
    {
        Assert.Equal(GoldenData.IsFull ? 3 : 1, All.Length);
        using Checkpoint first = Checkpoint.Open(All[0], CheckpointKind.Drafter);
        foreach (string path in All)
        {
            using Checkpoint drafter = Checkpoint.Open(path, CheckpointKind.Drafter), any = Checkpoint.Open(path, CheckpointKind.Any);
            ModelConfig c = drafter.Config;
            ConfigAssert.Equal(first.Config, c);
            Assert.Equal((128, 0), (drafter.Drafter!.BackboneSize, drafter.Drafter.CentroidCount));
            Assert.Equal((4, 64, 4, 512, 32, 4, 0f), (c.LayerCount, c.HiddenSize, c.HeadCount, c.VocabularySize, c.SlidingWindow, c.SharedKvLayers, c.LogitSoftcap));
            Assert.Equal("SSSG", string.Concat(c.Layers.Select(l => l.IsSliding ? 'S' : 'G')));
            Assert.All(c.Layers, l => Assert.Equal((false, -1, l.IsSliding ? 32 : 64, 1, 128), (l.OwnsKv, l.KvSource, l.HeadDim, l.KvHeadCount, l.FeedForwardWidth)));
            Assert.Equal(first.Tensors.Keys.Order(), drafter.Tensors.Keys.Order());
            Assert.Equal((64L, 256), (drafter.Tensors["nextn.pre_projection.weight"].Rows, drafter.Tensors["nextn.pre_projection.weight"].Columns));
            Assert.Equal(48, drafter.Tensors.Count);
            Assert.Empty(drafter.Notes);
            string report = CheckpointInspector.Describe(any);
            Assert.Contains("Drafter (MTP assistant) for a Gemma 4 custom of width 128: 4 layers, width 64", report);
            Assert.Contains("every token", report);
        }
    }

    [Fact]
    public void A_drafter_is_no_model_and_a_model_no_drafter()
    {
        foreach (string path in All)
        {
            string message = Assert.Throws<CheckpointException>(() => Checkpoint.Open(path)).Message;
            Assert.Contains("drafter", message);
            Assert.Contains("--speculative-model", message);
        }
        foreach (string path in (string[])[GoldenModels.Folder("tiny-e"), .. GoldenModels.Ggufs("tiny-e")])
            Assert.Contains("this is a whole model, for --model", Assert.Throws<CheckpointException>(() => Checkpoint.Open(path, CheckpointKind.Drafter)).Message);
        string encoder = Refused(GgufImage.Read(Gguf).Set("general.architecture", "clip")).Message;
        Assert.Contains("encoder", encoder);
    }

    [Fact]
    public void A_missing_rope_freqs_is_made_up()
    {
        GgufImage image = GgufImage.Read(Gguf);
        image.Tensors.RemoveAt(image.Find("rope_freqs.weight"));
        using TempFolder folder = new();
        using Checkpoint with = Checkpoint.Open(Gguf, CheckpointKind.Drafter), without = Open(image, folder);
        ConfigAssert.Equal(with.Config, without.Config);
    }

    [Theory]
    [InlineData("gemma4_mtp", "gemma4_mtp")]
    [InlineData("gemma4", "gemma4")]
    public void Other_programs_spellings_open_too(string architecture, string prefix)
    {
        GgufImage image = GgufImage.Read(Gguf);
        for (int i = 0; i < image.Metadata.Count; i++)
            image.Metadata[i] = image.Metadata[i] with { Key = image.Metadata[i].Key.Replace("gemma4-assistant.", prefix + ".", StringComparison.Ordinal) };
        for (int i = 0; i < image.Tensors.Count; i++)
            if (image.Tensors[i].Name.StartsWith("nextn.", StringComparison.Ordinal))
                image.Tensors[i] = image.Tensors[i] with { Name = image.Tensors[i].Name.Replace("nextn.", "mtp.", StringComparison.Ordinal).Replace(".weight", "", StringComparison.Ordinal) };
        image.Set("general.architecture", architecture).Remove(prefix + ".embedding_length_out").Remove(prefix + ".attention.sliding_window_pattern");
        if (architecture == "gemma4") image.Set("gemma4.assistant.type", "mtp").Set("gemma4.assistant.backbone_hidden_size", 128u);
        using TempFolder folder = new();
        using Checkpoint plain = Checkpoint.Open(Gguf, CheckpointKind.Drafter), other = Open(image, folder);
        ConfigAssert.Equal(plain.Config, other.Config);
        Assert.Equal(plain.Tensors.Keys.Order(), other.Tensors.Keys.Order());
        Assert.Equal(128, other.Drafter!.BackboneSize);
        Assert.Contains("drafter", Refused(image, CheckpointKind.Model).Message);
    }

    [Theory]
    [InlineData("masked_embd_centroids.weight", "masked_embd_ordering", 27u)]
    [InlineData("mtp.centroids", "mtp.token_ordering", 26u)]
    public void Centroids_and_ordering_are_read(string centroids, string ordering, uint type)
    {
        using TempFolder folder = new();
        int[] order = [.. Enumerable.Range(0, 512).Select(i => i * 5 % 512)];
        using Checkpoint drafter = Open(WithCentroids(centroids, ordering, type, order), folder);
        Assert.Equal((16, 16), (drafter.Drafter!.CentroidCount, drafter.Drafter.CentroidsUsed));
        Assert.Equal(order, drafter.Drafter.TokenOrdering);
        Assert.Equal((16L, 64), (drafter.Tensors["masked_embd_centroids.weight"].Rows, drafter.Tensors["masked_embd_centroids.weight"].Columns));
        Assert.Contains("16 of 16 clusters of 32", CheckpointInspector.Describe(drafter));
        Assert.Empty(drafter.Notes);
    }

    [Theory]
    [InlineData("twice", "once")]
    [InlineData("negative", "once")]
    [InlineData("too large", "once")]
    [InlineData("short", "one token id for each")]
    [InlineData("floats", "expected integers")]
    [InlineData("alone", "both centroids and token ordering")]
    [InlineData("indivisible", "divisor")]
    [InlineData("narrow", "expected shape")]
    [InlineData("used", "1 … 16")]
    public void Bad_centroids_are_refused(string damage, string words)
    {
        int[] order = [.. Enumerable.Range(0, damage == "short" ? 511 : 512)];
        if (damage == "twice") order[7] = 8;
        if (damage == "negative") order[7] = -1;
        if (damage == "too large") order[7] = 512;
        GgufImage image = WithCentroids("masked_embd_centroids.weight", "masked_embd_ordering", damage == "floats" ? 0u : 26u, order,
            damage == "indivisible" ? 15 : 16, damage == "narrow" ? 32 : 64);
        if (damage == "alone") image.Tensors.RemoveAt(image.Find("masked_embd_ordering"));
        if (damage == "used") image.Set("gemma4-assistant.centroid_top_k", 17u);
        Assert.Contains(words, Refused(image).Message);
    }

    [Fact]
    public void An_hf_folder_says_whether_its_head_is_clustered()
    {
        if (!GoldenData.Has(Name, "hf", "config.json")) { Assert.False(GoldenData.IsFull); return; }
        HfImage image = HfImage.Read(GoldenModels.Folder(Name));
        image.Config["use_ordered_embeddings"] = true;
        image.Config["centroid_intermediate_top_k"] = 3;
        using (TempFolder folder = new())
        {
            image.WriteTo(folder);
            using Checkpoint dense = Checkpoint.Open(folder.Path, CheckpointKind.Drafter);
            Assert.Equal(0, dense.Drafter!.CentroidCount);
            Assert.Contains(dense.Notes, n => n.Contains("centroids", StringComparison.Ordinal));
        }
        image.Tensors.Add(("masked_embedding.centroids.weight", "BF16", [8, 64], new byte[8 * 64 * 2]));
        image.Tensors.Add(("masked_embedding.token_ordering", "I64", [512], [.. Enumerable.Range(0, 512).SelectMany(i => BitConverter.GetBytes(511L - i))]));
        using (TempFolder folder = new())
        {
            image.WriteTo(folder);
            using Checkpoint clustered = Checkpoint.Open(folder.Path, CheckpointKind.Drafter);
            Assert.Equal((8, 3, 511, 0), (clustered.Drafter!.CentroidCount, clustered.Drafter.CentroidsUsed, clustered.Drafter.TokenOrdering[0], clustered.Drafter.TokenOrdering[511]));
        }
        image.Config["use_ordered_embeddings"] = false;
        using (TempFolder folder = new())
        {
            image.WriteTo(folder);
            using Checkpoint off = Checkpoint.Open(folder.Path, CheckpointKind.Drafter);
            Assert.Equal(0, off.Drafter!.CentroidCount);
        }
        image.Config["backbone_hidden_size"] = 129;
        using (TempFolder folder = new())
        {
            image.WriteTo(folder);
            Assert.Contains("pre_projection", Assert.Throws<CheckpointException>(() => Checkpoint.Open(folder.Path, CheckpointKind.Drafter)).Message);
        }
    }

    [Theory]
    [InlineData("nextn.pre_projection.weight")]
    [InlineData("nextn.post_projection.weight")]
    [InlineData("blk.3.attn_q.weight")]
    [InlineData("blk.0.layer_output_scale.weight")]
    [InlineData("output_norm.weight")]
    [InlineData("token_embd.weight")]
    public void A_missing_or_misshaped_tensor_is_refused_by_name(string tensor)
    {
        GgufImage image = GgufImage.Read(Gguf);
        int at = image.Find(tensor);
        (string name, ulong[] dims, uint type, byte[] data) = image.Tensors[at];
        image.Tensors.RemoveAt(at);
        Assert.Contains(tensor, Refused(image).Message);
        image.Tensors.Insert(at, (name, [.. dims[..^1], dims[^1] + 1], type, [.. data, .. new byte[data.Length]]));
        Assert.True(Refused(image).Message.Contains(tensor, StringComparison.Ordinal) || tensor == "token_embd.weight");
    }

    [Fact]
    public void A_target_that_fits_is_taken_and_every_other_is_refused()
    {
        using Checkpoint drafter = Checkpoint.Open(Gguf, CheckpointKind.Drafter);
        using Checkpoint fits = Checkpoint.Open(GoldenModels.Folder("tiny-e"));
        DrafterFit.Check(drafter, fits);
        Assert.Equal((2, 3), (DrafterFit.SourceLayer(fits.Config, isSliding: true), DrafterFit.SourceLayer(fits.Config, isSliding: false)));

        (string Words, Func<ModelConfig, ModelConfig> Change)[] others =
        [
            ("vocabulary: the drafter does not fit", c => c with { VocabularySize = 513 }),
            ("backbone width", c => c with { HiddenSize = 256 }),
            ("RMS epsilon", c => c with { RmsEpsilon = 1e-5f }),
            ("head size of sliding layers", c => c with { Layers = [.. c.Layers.Select(l => l.IsSliding ? l with { HeadDim = 64 } : l)] }),
            ("head size of global layers", c => c with { Layers = [.. c.Layers.Select(l => l.IsSliding ? l : l with { HeadDim = 32 })] }),
            ("KV heads of sliding layers", c => c with { Layers = [.. c.Layers.Select(l => l.IsSliding ? l with { KvHeadCount = 2 } : l)] }),
            ("KV heads of global layers", c => c with { Layers = [.. c.Layers.Select(l => l.IsSliding ? l : l with { KvHeadCount = 4 })] }),
            ("sliding window", c => c with { SlidingWindow = 16 }),
            ("the model has none", c => c with { Layers = [.. c.Layers.Select(l => l with { IsSliding = true, HeadDim = 32 })] }),
        ];
        foreach ((string words, Func<ModelConfig, ModelConfig> change) in others)
        {
            using Checkpoint other = With(fits, change(fits.Config));
            Assert.Contains(words, Assert.Throws<CheckpointException>(() => DrafterFit.Check(drafter, other)).Message);
        }
        Assert.Throws<CheckpointException>(() => DrafterFit.Check(fits, fits));
        Assert.Throws<CheckpointException>(() => DrafterFit.Check(drafter, drafter));
    }

    [Fact]
    public void A_changed_header_is_refused_or_opens()
    {
        byte[] whole = WithCentroids("masked_embd_centroids.weight", "masked_embd_ordering", 27, [.. Enumerable.Range(0, 512)]).Write();
        int header = whole.Length - 300_000;
        using TempFolder folder = new();
        int refused = 0, opened = 0;
        for (int seed = 0; seed < 400; seed++)
        {
            byte[] damaged = [.. whole];
            Random random = new(seed);
            for (int n = random.Next(1, 5); n > 0; n--) damaged[random.Next(header > 0 ? header : 20_000)] ^= (byte)(1 << random.Next(8));
            try
            {
                using Checkpoint checkpoint = Checkpoint.Open(folder.Write("damaged.gguf", damaged), CheckpointKind.Any);
                opened++;
            }
            catch (CheckpointException)
            {
                refused++;
            }
        }
        Assert.True(refused > 30 && opened > 30, $"refused {refused}, opened {opened}");
    }

    private static GgufImage WithCentroids(string centroids, string ordering, uint type, int[] order, int count = 16, int width = 64)
    {
        GgufImage image = GgufImage.Read(Gguf);
        image.Tensors.Add((centroids, [(ulong)width, (ulong)count], 0, new byte[count * width * 4]));
        image.Tensors.Add((ordering, [(ulong)order.Length], type, [.. order.SelectMany(t => type == 27 ? BitConverter.GetBytes((long)t) : BitConverter.GetBytes(t))]));
        return image;
    }

    /// <summary>The same files read as another model.</summary>
    private static Checkpoint With(Checkpoint c, ModelConfig config) => new([])
    {
        Path = c.Path, Format = c.Format, Config = config, Tensors = c.Tensors, StoredTensors = c.StoredTensors, Generation = c.Generation,
        Vocabulary = c.Vocabulary, ChatTemplate = c.ChatTemplate, Notes = c.Notes,
    };
}
