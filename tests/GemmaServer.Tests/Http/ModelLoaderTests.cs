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

    [Theory]
    [InlineData("tiny-e", true)]
    [InlineData("tiny-moe", false)]
    public void A_drafter_is_loaded_beside_the_model_it_fits_and_refused_beside_another(string target, bool fits)
    {
        string model = Directory.GetFiles(GoldenData.At(target), "*.gguf")[0], drafter = GoldenData.At("tiny-e-assistant", "tiny-e-assistant-Q8_0.gguf");
        ServerOptions options = new() { Model = model, SpeculativeModel = drafter, NumSpeculativeTokens = 3, KvCacheMemory = 8 << 20, MaxModelLen = 64, MaxNumSeqs = 2 };
        Collector log = new();
        if (!fits)
        {
            Assert.Contains("does not fit", Assert.Throws<CheckpointException>(() => ModelLoader.Load(options, MakeRunner, log)).Message);
            return;
        }
        int drafts = 0;
        using (ModelLoader.Load(options, (c, d, o, say) =>
        {
            (IModelRunner runner, int length) = RunnerMaker.Make(c, d, o, say);
            drafts = runner.MaxDrafts;
            return (runner, length);
        }, log)) Assert.Equal(3, drafts);
        Assert.Contains(log.Lines, l => l.Contains("Speculative decoding", StringComparison.Ordinal) && l.Contains("at most 3 tokens a step", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("ngram", null, "custom", 8)]
    [InlineData("[ngram]", 5, "E2B", 5)]
    [InlineData("drafter", null, "E2B", 2)]
    [InlineData("drafter", null, "E4B", 4)]
    [InlineData("drafter", null, "26B-A4B", 4)]
    [InlineData("drafter", null, "12B", 8)]
    [InlineData("drafter", null, "31B", 8)]
    [InlineData("drafter", 1, "31B", 1)]
    public void How_many_tokens_are_guessed_follows_the_size(string speculative, int? asked, string size, int expected)
    {
        ServerOptions options = new() { SpeculativeModel = speculative, NumSpeculativeTokens = asked };
        using Checkpoint any = Checkpoint.Open(Directory.GetFiles(GoldenData.At("tiny-e"), "*.gguf")[0]);
        Assert.Equal(expected, Speculation.MaxDrafts(options, any.Config with { SizeName = size }));
        Assert.Equal(speculative == "drafter" ? speculative : null, Speculation.DrafterPath(options));
    }

    private sealed class Collector : Microsoft.Extensions.Logging.ILogger
    {
        public List<string> Lines { get; } = [];

        public IDisposable? BeginScope<TState>(TState state) where TState : notnull => null;

        public bool IsEnabled(Microsoft.Extensions.Logging.LogLevel level) => true;

        public void Log<TState>(Microsoft.Extensions.Logging.LogLevel level, Microsoft.Extensions.Logging.EventId id, TState state, Exception? e, Func<TState, Exception?, string> format) =>
            Lines.Add(format(state, e));
    }

    private static (IModelRunner, int) MakeRunner(Checkpoint checkpoint, Checkpoint? drafter, ServerOptions options, Action<string> log) => (new ScriptedRunner(TestHost.Tokenizer), 2000);
}
