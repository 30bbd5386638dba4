using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary><c>gemmaserver bench-grammar</c>: what token masks of structured output cost with a vocabulary of Gemma's size.</summary>
internal static class BenchGrammarCommand
{
    public static Command Create()
    {
        Option<int> answers = new("--answers") { Description = "Answers per grammar.", DefaultValueFactory = static _ => 100 };
        Option<int> tokens = new("--max-tokens") { Description = "Longest answer.", DefaultValueFactory = static _ => 300 };
        Option<string?> json = BenchOutput.Json();
        Command command = new("bench-grammar", "Measure the token masks of structured output with a made-up vocabulary of 262,144 tokens.") { answers, tokens, json };
        command.SetAction(parsed => Run(parsed.GetValue(answers), parsed.GetValue(tokens), parsed.GetValue(json)));
        return command;
    }

    private static int Run(int answers, int tokens, string? json)
    {
        List<string> mistakes = [];
        if (answers is < 1 or > 100_000) mistakes.Add($"--answers: {answers} is not between 1 and 100000.");
        if (tokens is < 1 or > 100_000) mistakes.Add($"--max-tokens: {tokens} is not between 1 and 100000.");
        if (mistakes.Count > 0) return CommandLine.Complain(mistakes);

        GrammarVocabulary vocabulary = GrammarVocabulary.Full();
        long started = Stopwatch.GetTimestamp();
        TokenTrie trie = new(vocabulary.Tokenizer, vocabulary.Tokenizer.VocabularySize);
        double trieMs = Stopwatch.GetElapsedTime(started).TotalMilliseconds;
        TextWriter readable = BenchOutput.Readable(json);
        readable.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{trie.VocabularySize} tokens, sorted in {trieMs:0} ms. {answers} answers of at most {tokens} tokens each; µs are of mask and push together."));

        GrammarBench bench = new(vocabulary, trie, answers, tokens);
        TextTable table = new("grammar", "compile ms", "random median", "p99", "max", "fresh median", "p99", "max", "texts median", "p99", "max", "tokens", "finished", "states", "MB");
        JsonArray list = [];
        foreach (BenchGrammar grammar in BenchGrammars.All(vocabulary.Tokenizer.Special, GrammarBench.TurnEnd))
        {
            GrammarResult r = bench.Measure(grammar);
            table.Add([r.Name, BenchOutput.Short(r.CompileMs), .. Shown(r.RandomUs), .. Shown(r.FreshUs), .. Shown(r.TextUs),
                r.RandomUs.Length.ToString(CultureInfo.InvariantCulture), string.Create(CultureInfo.InvariantCulture, $"{r.Finished * 100:0} %"),
                r.States.ToString(CultureInfo.InvariantCulture), BenchOutput.Short(r.CachedBytes / 1e6)]);
            list.Add(new JsonObject
            {
                ["grammar"] = r.Name,
                ["compile_ms"] = BenchOutput.Number(r.CompileMs),
                ["random_us"] = Quantiles(r.RandomUs),
                ["fresh_us"] = Quantiles(r.FreshUs),
                ["texts_us"] = Quantiles(r.TextUs),
                ["finished"] = BenchOutput.Number(r.Finished),
                ["states"] = r.States,
                ["cached_bytes"] = r.CachedBytes,
            });
        }
        table.WriteTo(readable);
        BenchOutput.Write(json, new JsonObject { ["vocabulary"] = trie.VocabularySize, ["sort_ms"] = BenchOutput.Number(trieMs), ["grammars"] = list });
        return 0;
    }

    private static string[] Shown(double[] us) => [BenchOutput.Short(Figures.Quantile(us, 0.5)), BenchOutput.Short(Figures.Quantile(us, 0.99)), BenchOutput.Short(Figures.Quantile(us, 1))];

    private static JsonObject Quantiles(double[] us) => new()
    {
        ["tokens"] = us.Length,
        ["median"] = BenchOutput.Number(Figures.Quantile(us, 0.5)),
        ["p90"] = BenchOutput.Number(Figures.Quantile(us, 0.9)),
        ["p99"] = BenchOutput.Number(Figures.Quantile(us, 0.99)),
        ["max"] = BenchOutput.Number(Figures.Quantile(us, 1)),
    };
}
