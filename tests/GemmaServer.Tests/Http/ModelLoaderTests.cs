using GemmaServer.Model;
using GemmaServer.Text;
using Microsoft.Extensions.Logging.Abstractions;

namespace GemmaServer.Tests.Http;

public sealed class ModelLoaderTests
{
    public static TheoryData<string> Checkpoints
    {
        get
        {
            TheoryData<string> found = [];
            foreach (string model in (string[])["tiny-e", "tiny-dense", "tiny-12b", "tiny-moe"])
            {
                if (GoldenData.Has(model, "hf", "config.json")) found.Add(GoldenData.At(model, "hf"));
                string folder = GoldenData.At(model);
                if (Directory.Exists(folder)) foreach (string file in Directory.GetFiles(folder, "*-BF16.gguf")) found.Add(file);
            }
            return found;
        }
    }

    [Theory]
    [MemberData(nameof(Checkpoints))]
    public void A_checkpoint_becomes_a_model_that_answers(string path)
    {
        bool hasPerLayerInput = path.Contains("tiny-e", StringComparison.Ordinal);
        using ServedModel model = ModelLoader.Load(new ServerOptions { Model = path }, MakeRunner, NullLogger.Instance);
        Assert.Equal([path.EndsWith("hf", StringComparison.Ordinal) ? "hf" : Path.GetFileNameWithoutExtension(path)], model.Names);
        Assert.Equal(hasPerLayerInput ? TemplateFlavour.Small : TemplateFlavour.Large, model.Flavour);
        Assert.Equal(512, model.VocabularySize);
        Assert.Superset(new HashSet<int> { model.Tokenizer.Special.Eos, model.Tokenizer.Special.TurnEnd, model.Tokenizer.Special.ToolResponseStart, model.Tokenizer.Special.TurnStart }, model.EndTokens.ToHashSet());
        Assert.Equal(model.EndTokens.Distinct(), model.EndTokens);
        Assert.StartsWith($"gs-{ServerVersion.Text}-", model.Fingerprint);
        Assert.Equal(2000, model.MaxModelLength);
        Assert.Equal(16, model.BlockSize);
    }

    [Fact]
    public void Fingerprints_tell_checkpoints_apart()
    {
        HashSet<string> seen = [];
        foreach (string path in Checkpoints)
        {
            using ServedModel model = ModelLoader.Load(new ServerOptions { Model = path }, MakeRunner, NullLogger.Instance);
            Assert.True(seen.Add(model.Fingerprint));
        }
        Assert.NotEmpty(seen);
    }

    [Fact]
    public void What_is_no_checkpoint_is_refused_by_name()
    {
        string path = GoldenData.At("tok512", "vocab.gguf");
        CheckpointException e = Assert.Throws<CheckpointException>(() => ModelLoader.Load(new ServerOptions { Model = path }, MakeRunner, NullLogger.Instance));
        Assert.Contains("vocab.gguf", e.Message);
    }

    private static (IModelRunner, int) MakeRunner(Checkpoint checkpoint, Checkpoint? drafter, ServerOptions options, Action<string> log) => (new ScriptedRunner(TestHost.Tokenizer), 2000);
}
