using GemmaServer.Compute;
using GemmaServer.Model;

namespace GemmaServer.Tests.Model;

/// <summary>GGUF files: split sets, spellings, and what is refused with which words.</summary>
public sealed class CheckpointsGgufTests
{
    private static string AnyModel => GoldenModels.Names[0];

    private static GgufImage Image(string model) => GgufImage.Read(GoldenModels.SmallestGguf(model));

    private static CheckpointException Refused(GgufImage image, IReadOnlyDictionary<string, ulong>? offsets = null)
    {
        using TempFolder folder = new();
        string path = folder.Write("model.gguf", image.Write(offsets));
        CheckpointException e = Assert.Throws<CheckpointException>(() => Checkpoint.Open(path));
        Assert.Contains("model.gguf", e.Message);
        return e;
    }

    private static string[] SplitInto(TempFolder folder, GgufImage whole, int parts)
    {
        string[] paths = new string[parts];
        for (int p = 0; p < parts; p++)
        {
            GgufImage part = new();
            if (p == 0) part.Metadata.AddRange(whole.Metadata);
            part.Set("split.no", 2, BitConverter.GetBytes((ushort)p));
            part.Set("split.count", 2, BitConverter.GetBytes((ushort)parts));
            part.Set("split.tensors.count", whole.Tensors.Count);
            part.Tensors.AddRange(whole.Tensors.Where((_, i) => i * parts / whole.Tensors.Count == p));
            paths[p] = folder.Write($"m-{p + 1:D5}-of-{parts:D5}.gguf", part.Write());
        }
        return paths;
    }

    [Theory, MemberData(nameof(CheckpointsGoldenTests.Models), MemberType = typeof(CheckpointsGoldenTests))]
    public unsafe void A_split_set_holds_the_same_bytes_as_the_whole_file(string model)
    {
        string original = GoldenModels.SmallestGguf(model);
        using TempFolder folder = new();
        string[] paths = SplitInto(folder, GgufImage.Read(original), 3);
        using Checkpoint whole = Checkpoint.Open(original), split = Checkpoint.Open(paths[0]), byFolder = Checkpoint.Open(folder.Path);
        ConfigAssert.Equal(whole.Config, split.Config);
        Assert.Equal(whole.Tensors.Keys.Order(), split.Tensors.Keys.Order());
        Assert.Equal(whole.Tensors.Count, byFolder.Tensors.Count);
        foreach ((string name, TensorSource a) in whole.Tensors)
        {
            TensorSource b = split.Tensors[name];
            Assert.Equal((a.Type, a.Rows, a.Columns), (b.Type, b.Rows, b.Columns));
            Assert.True(new ReadOnlySpan<byte>((void*)a.Data, (int)a.Bytes).SequenceEqual(new ReadOnlySpan<byte>((void*)b.Data, (int)b.Bytes)), name);
        }
    }

    [Fact]
    public void A_split_set_with_a_missing_swapped_or_later_part_is_refused()
    {
        using TempFolder folder = new();
        string[] paths = SplitInto(folder, Image(AnyModel), 3);
        Assert.Contains("part 2 of 3", Assert.Throws<CheckpointException>(() => Checkpoint.Open(paths[1])).Message);
        byte[] second = File.ReadAllBytes(paths[1]);
        File.Copy(paths[2], paths[1], overwrite: true);
        CheckpointException swapped = Assert.Throws<CheckpointException>(() => Checkpoint.Open(paths[0]));
        Assert.Equal(("split.no", paths[1]), (swapped.Subject, swapped.File));
        File.WriteAllBytes(paths[1], second);
        File.Delete(paths[2]);
        Assert.Contains("m-00003-of-00003.gguf of the split set is missing", Assert.Throws<CheckpointException>(() => Checkpoint.Open(paths[0])).Message);
        // One part under a plain name still says that it is a part.
        File.Move(paths[0], Path.Combine(folder.Path, "renamed.gguf"));
        Assert.Equal("split.count", Assert.Throws<CheckpointException>(() => Checkpoint.Open(Path.Combine(folder.Path, "renamed.gguf"))).Subject);
    }

    [Fact]
    public unsafe void A_file_in_memory_opens_and_its_owner_is_disposed_with_it()
    {
        byte[] bytes = File.ReadAllBytes(GoldenModels.SmallestGguf(AnyModel));
        fixed (byte* data = bytes)
        {
            Owner owner = new();
            Checkpoint checkpoint = Checkpoint.OpenGguf((nint)data, bytes.Length, "demo", owner);
            Assert.Equal("demo", checkpoint.Path);
            nint start = (nint)data;
            Assert.All(checkpoint.Tensors.Values, t => Assert.InRange(t.Data, start, start + bytes.Length - (nint)t.Bytes));
            Assert.False(owner.IsDisposed);
            checkpoint.Dispose();
            Assert.True(owner.IsDisposed);
        }
    }

    [Fact]
    public void Gate_and_up_experts_in_tensors_of_their_own_are_taken()
    {
        if (GoldenModels.IsLeftOut("tiny-moe")) return;
        GgufImage image = Image("tiny-moe");
        for (int layer = 0; layer < 4; layer++)
        {
            int at = image.Find($"blk.{layer}.ffn_gate_up_exps.weight");
            (_, ulong[] dims, uint type, byte[] data) = image.Tensors[at];
            int half = data.Length / 2; // Only the shapes matter here.
            image.Tensors[at] = ($"blk.{layer}.ffn_gate_exps.weight", [dims[0], dims[1] / 2, dims[2]], type, data[..half]);
            image.Tensors.Add(($"blk.{layer}.ffn_up_exps.weight", [dims[0], dims[1] / 2, dims[2]], type, data[half..]));
        }
        using TempFolder folder = new();
        using Checkpoint checkpoint = Checkpoint.Open(folder.Write("m.gguf", image.Write()));
        TensorSource up = checkpoint.Tensors["blk.3.ffn_up_exps.weight"];
        Assert.Equal((8L * 32, 256), (up.Rows, up.Columns));
        Assert.DoesNotContain("blk.3.ffn_gate_up_exps.weight", checkpoint.Tensors.Keys);
    }

    [Fact]
    public void Refused_are_other_versions_and_byte_orders_by_name()
    {
        GgufImage image = Image(AnyModel);
        foreach ((uint version, string words) in ((uint, string)[])[(1, "found 1"), (2, "found 2"), (4, "found 4"), (0x03000000, "big-endian"), (0, "found 0x00000000")])
        {
            image.Version = version;
            CheckpointException e = Refused(image);
            Assert.Equal("version", e.Subject);
            Assert.Contains(words, e.Message);
        }
    }

    [Theory]
    [InlineData("llama", "only Gemma 4")]
    [InlineData("gemma3", "only Gemma 4")]
    [InlineData("clip", "encoder")]
    [InlineData("gemma4-assistant", "drafter")]
    [InlineData("gemma4_mtp", "drafter")]
    public void Refused_are_other_architectures_by_name(string architecture, string words)
    {
        CheckpointException e = Refused(Image(AnyModel).Set("general.architecture", architecture));
        Assert.Equal("general.architecture", e.Subject);
        Assert.Contains(words, e.Message);
        Assert.Contains($"'{architecture}'", e.Message);
    }

    [Theory]
    [InlineData(16u, "IQ2_XXS")]
    [InlineData(40u, "NVFP4")]
    [InlineData(9u, "Q8_1")]
    [InlineData(26u, "I32")]
    [InlineData(77u, "type 77")]
    [InlineData(0xFFFFFFFFu, "type -1")]
    public void Refused_are_storage_types_we_cannot_read_by_name(uint type, string name)
    {
        GgufImage image = Image(AnyModel);
        int at = image.Find("blk.1.attn_q.weight");
        image.Tensors[at] = image.Tensors[at] with { Type = type };
        CheckpointException e = Refused(image);
        Assert.Equal("blk.1.attn_q.weight", e.Subject);
        Assert.Contains(name, e.Message);
        Assert.Contains("Q4_K", e.Message);
    }

    [Fact]
    public void Refused_is_every_single_missing_tensor_by_name()
    {
        if (GoldenModels.IsLeftOut("tiny-e")) return;
        GgufImage image = Image("tiny-e");
        using Checkpoint good = Checkpoint.Open(GoldenModels.SmallestGguf("tiny-e"));
        int refused = 0;
        foreach (string name in good.Tensors.Keys.Where(n => !n.StartsWith("blk.", StringComparison.Ordinal) || n.StartsWith("blk.3.", StringComparison.Ordinal)))
        {
            int at = image.Find(name);
            var tensor = image.Tensors[at];
            image.Tensors.RemoveAt(at);
            // Without any V the global layers would be of the K = V kind: then it is only one missing among several.
            CheckpointException e = name == "blk.3.attn_v.weight" ? Refused(Without(image, "blk.0.attn_v.weight")) : Refused(image);
            Assert.Equal(name == "blk.3.attn_v.weight" ? "blk.0.attn_v.weight" : name, e.Subject);
            image.Tensors.Insert(at, tensor);
            refused++;
        }
        Assert.True(refused > 15);
    }

    private static GgufImage Without(GgufImage image, string name)
    {
        GgufImage copy = new();
        copy.Metadata.AddRange(image.Metadata);
        copy.Tensors.AddRange(image.Tensors.Where(t => t.Name != name));
        return copy;
    }

    [Fact]
    public void Refused_is_every_misshaped_tensor_with_both_shapes()
    {
        if (GoldenModels.IsLeftOut("tiny-e")) return;
        GgufImage image = Image("tiny-e");
        using Checkpoint good = Checkpoint.Open(GoldenModels.SmallestGguf("tiny-e"));
        foreach (string name in good.Tensors.Keys)
        {
            int at = image.Find(name);
            var tensor = image.Tensors[at];
            // One row less: the bytes stay inside the file, so only the shape is wrong.
            ulong[] dims = [.. tensor.Dims];
            dims[^1] = dims.Length == 1 && dims[0] == 1 ? 2 : dims[^1] - 1;
            byte[] data = dims[^1] == 2 && dims.Length == 1 ? [.. tensor.Data, .. new byte[32]] : tensor.Data;
            image.Tensors[at] = tensor with { Dims = dims, Data = data };
            CheckpointException e = Refused(image);
            Assert.Contains("expected", e.Message);
            if (e.Subject == name) Assert.Contains($"found [{string.Join(", ", dims.Reverse())}]", e.Message);
            else Assert.Equal(("token_embd.weight", "tokenizer.ggml.tokens"), (name, e.Subject)); // The vocabulary follows the table.
            image.Tensors[at] = tensor;
        }
    }

    [Fact]
    public void Refused_are_tensors_that_overlap_reach_out_or_are_not_aligned()
    {
        GgufImage image = Image(AnyModel);
        string name = image.Tensors[^1].Name;
        Assert.Contains("overlap", Refused(image, new Dictionary<string, ulong> { [name] = 0 }).Message);
        Assert.Contains("past the end", Refused(image, new Dictionary<string, ulong> { [name] = 1ul << 40 }).Message);
        Assert.Contains("past the end", Refused(image, new Dictionary<string, ulong> { [name] = ulong.MaxValue - 31 }).Message);
        Assert.Contains("alignment", Refused(image, new Dictionary<string, ulong> { [name] = 33 }).Message);
    }

    [Fact]
    public void Refused_are_hostile_counts_and_shapes()
    {
        ulong[] huge = [1ul << 63, ulong.MaxValue, 1ul << 62, 1ul << 48, 0];
        foreach (ulong dim in huge)
        {
            GgufImage image = Image(AnyModel);
            image.Tensors[0] = image.Tensors[0] with { Dims = [32, dim], Type = 0 };
            Assert.Equal(image.Tensors[0].Name, Refused(image).Subject);
            image.Tensors[0] = image.Tensors[0] with { Dims = [dim, dim, dim, dim] };
            Refused(image);
        }
        foreach (ulong count in huge[..4])
        {
            byte[] raw = BitConverter.GetBytes(count);
            Assert.Equal("hostile", Refused(Image(AnyModel).Set("hostile", 8, raw)).Subject);
            foreach (uint element in (uint[])[0, 6, 8, 9, 12])
                Assert.Equal("hostile", Refused(Image(AnyModel).Set("hostile", 9, [.. BitConverter.GetBytes(element), .. raw])).Subject);
        }
        Assert.Contains("value type", Refused(Image(AnyModel).Set("hostile", 13, [])).Message);
    }

    [Fact]
    public void Nested_arrays_are_read_over_and_too_deep_ones_refused()
    {
        static byte[] Nest(int depth) => depth == 0
            ? [.. BitConverter.GetBytes(5u), .. BitConverter.GetBytes(2ul), 1, 0, 0, 0, 2, 0, 0, 0]
            : [.. BitConverter.GetBytes(9u), .. BitConverter.GetBytes(2ul), .. Nest(depth - 1), .. Nest(depth - 1)];
        using TempFolder folder = new();
        using Checkpoint checkpoint = Checkpoint.Open(folder.Write("m.gguf", Image(AnyModel).Set("nested", 9, Nest(2)).Write()));
        Assert.NotEmpty(checkpoint.Tensors);
        Assert.Contains("nested more than", Refused(Image(AnyModel).Set("nested", 9, Nest(6))).Message);

        // 200,000 levels, one after the other: recursion would end the process.
        byte[] deep = [.. Enumerable.Repeat((byte[])[9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], 200_000).SelectMany(b => b)];
        Assert.Contains("nested more than", Refused(Image(AnyModel).Set("nested", 9, deep)).Message);
    }

    [Fact]
    public void Refused_are_keys_and_tensors_that_stand_twice()
    {
        GgufImage image = Image(AnyModel);
        image.Metadata.Add(image.Metadata[3]);
        Assert.Contains("twice", Refused(image).Message);
        image = Image(AnyModel);
        image.Tensors.Add(image.Tensors[3]);
        Assert.Contains("twice", Refused(image).Message);
    }

    [Fact]
    public void Refused_are_settings_out_of_range_by_key()
    {
        if (GoldenModels.IsLeftOut("tiny-12b")) return;
        void Check(string subject, Action<GgufImage> change)
        {
            GgufImage image = Image("tiny-12b");
            change(image);
            Assert.Contains(subject, Refused(image).Subject);
        }

        Check("gemma4.block_count", i => i.Set("gemma4.block_count", 0u));
        Check("gemma4.block_count", i => i.Set("gemma4.block_count", 1001u));
        Check("gemma4.block_count", i => i.Set("gemma4.block_count", 12, BitConverter.GetBytes(6.0)));
        Check("gemma4.block_count", i => i.Remove("gemma4.block_count"));
        Check("gemma4.attention.head_count", i => i.Set("gemma4.attention.head_count", -4));
        Check("KV heads of layer 0", i => i.Set("gemma4.attention.head_count_kv", [3, 3, 3, 3, 3, 3]));
        Check("gemma4.attention.head_count_kv", i => i.Set("gemma4.attention.head_count_kv", [2, 2, 1, 2, 2]));
        Check("gemma4.attention.sliding_window_pattern", i => i.Set("gemma4.attention.sliding_window_pattern", [true, true, false]));
        Check("gemma4.attention.sliding_window_pattern", i => i.Remove("gemma4.attention.sliding_window_pattern"));
        Check("sliding window", i => i.Set("gemma4.attention.sliding_window", 0u));
        Check("gemma4.attention.value_length", i => i.Set("gemma4.attention.value_length", 128u));
        Check("head size", i => i.Set("gemma4.attention.key_length_swa", 33u).Set("gemma4.attention.value_length_swa", 33u).Set("gemma4.rope.dimension_count_swa", 33u));
        Check("RMS epsilon", i => i.Set("gemma4.attention.layer_norm_rms_epsilon", 0f));
        Check("layer_norm_rms_epsilon", i => i.Set("gemma4.attention.layer_norm_rms_epsilon", float.NaN));
        Check("gemma4.rope.freq_base", i => i.Set("gemma4.rope.freq_base", float.PositiveInfinity));
        Check("logit soft-cap", i => i.Set("gemma4.final_logit_softcapping", -30f));
        Check("shared KV layers", i => i.Set("gemma4.attention.shared_kv_layers", 6u));
        Check("tokenizer.ggml.tokens", i => i.Set("tokenizer.ggml.tokens", 9, [.. BitConverter.GetBytes(8u), .. BitConverter.GetBytes(1ul), .. GgufImage.Text("a")]));
        Check("tokenizer.ggml.bos_token_id", i => i.Set("tokenizer.ggml.bos_token_id", 512u));
        Check("tokenizer.ggml.suppress_tokens", i => i.Set("tokenizer.ggml.suppress_tokens", [512]));
        Check("general.alignment", i => i.Set("general.alignment", 24u));
    }

    [Fact]
    public void Refused_are_more_experts_per_token_than_there_are()
    {
        if (GoldenModels.IsLeftOut("tiny-moe")) return;
        Assert.Equal("experts used", Refused(Image("tiny-moe").Set("gemma4.expert_used_count", 9u)).Subject);
        Assert.Equal("experts used", Refused(Image("tiny-moe").Set("gemma4.expert_used_count", 0u)).Subject);
        // Saying that there are none leaves tensors without a place.
        Assert.Contains("no place", Refused(Image("tiny-moe").Set("gemma4.expert_count", 0u)).Message);
    }

    [Theory]
    [InlineData("blk.0.layer_output_scale.weight")]
    [InlineData("blk.2.attn_norm.weight")]
    [InlineData("rope_freqs.weight")]
    public void Refused_are_scales_that_are_not_numbers(string name)
    {
        if (GoldenModels.IsLeftOut("tiny-12b")) return;
        GgufImage image = Image("tiny-12b");
        var tensor = image.Tensors[image.Find(name)];
        BitConverter.GetBytes(float.NaN).CopyTo(tensor.Data, 0);
        CheckpointException e = Refused(image);
        Assert.Equal(name, e.Subject);
        Assert.Contains("NaN", e.Message);
    }

    [Fact]
    public void Unknown_tensors_and_a_repeated_head_are_ignored_with_a_note()
    {
        if (GoldenModels.IsLeftOut("tiny-12b")) return;
        GgufImage image = Image("tiny-12b");
        image.Tensors.Add(("v.blk.0.ln1.weight", [4], 0, new byte[32]));
        image.Tensors.Add(image.Tensors[image.Find("token_embd.weight")] with { Name = "output.weight" });
        using TempFolder folder = new();
        using Checkpoint checkpoint = Checkpoint.Open(folder.Write("m.gguf", image.Write()));
        Assert.Contains(checkpoint.Notes, n => n.Contains("v.blk.0.ln1.weight", StringComparison.Ordinal));
        Assert.Contains(checkpoint.Notes, n => n.Contains("output.weight repeats", StringComparison.Ordinal));
        Assert.DoesNotContain("output.weight", checkpoint.Tensors.Keys);
    }

    [Fact]
    public void A_head_that_differs_from_the_embedding_is_used()
    {
        if (GoldenModels.IsLeftOut("tiny-12b")) return;
        GgufImage image = Image("tiny-12b");
        var embedding = image.Tensors[image.Find("token_embd.weight")];
        byte[] other = [.. embedding.Data];
        other[^1] ^= 1;
        image.Tensors.Add(embedding with { Name = "output.weight", Data = other });
        using TempFolder folder = new();
        using Checkpoint checkpoint = Checkpoint.Open(folder.Write("m.gguf", image.Write()));
        Assert.Equal(512, checkpoint.Tensors["output.weight"].Rows);
    }

    [Fact]
    public void What_is_no_model_is_refused_in_words()
    {
        using TempFolder folder = new();
        Assert.Contains("no such file", Assert.Throws<CheckpointException>(() => Checkpoint.Open(Path.Combine(folder.Path, "none.gguf"))).Message);
        Assert.Contains("found neither", Assert.Throws<CheckpointException>(() => Checkpoint.Open(folder.Path)).Message);
        Assert.Contains("magic", Assert.Throws<CheckpointException>(() => Checkpoint.Open(folder.Write("empty.gguf", []))).Message);
        Assert.Contains("'GGUF'", Assert.Throws<CheckpointException>(() => Checkpoint.Open(folder.Write("page.gguf", "<!DOCTYPE html>"u8.ToArray()))).Message);
    }

    private sealed class Owner : IDisposable
    {
        public bool IsDisposed { get; private set; }

        public void Dispose() => IsDisposed = true;
    }
}
