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
        List<GrammarResult> results = [.. BenchGrammars.All().Select(g => bench.Measure(g.Name, g.Node))];
        TextTable table = new("grammar", "compile ms", "first µs", "median µs", "p90 µs", "p99 µs", "max µs", "fresh median", "fresh p99", "tokens", "finished", "states", "MB");
        JsonArray list = [];
        foreach (GrammarResult r in results)
        {
            double At(double share) => Figures.Quantile(r.TokenUs, share);
            double Fresh(double share) => Figures.Quantile(r.FreshUs, share);
            table.Add(r.Name, BenchOutput.Short(r.CompileMs), BenchOutput.Short(r.FirstUs), BenchOutput.Short(At(0.5)), BenchOutput.Short(At(0.9)),
                BenchOutput.Short(At(0.99)), BenchOutput.Short(At(1)), BenchOutput.Short(Fresh(0.5)), BenchOutput.Short(Fresh(0.99)), r.TokenUs.Length.ToString(CultureInfo.InvariantCulture),
                string.Create(CultureInfo.InvariantCulture, $"{r.Finished * 100:0} %"), r.States.ToString(CultureInfo.InvariantCulture), BenchOutput.Short(r.CachedBytes / 1e6));
            list.Add(new JsonObject
            {
                ["grammar"] = r.Name,
                ["compile_ms"] = BenchOutput.Number(r.CompileMs),
                ["first_us"] = BenchOutput.Number(r.FirstUs),
                ["median_us"] = BenchOutput.Number(At(0.5)),
                ["p90_us"] = BenchOutput.Number(At(0.9)),
                ["p99_us"] = BenchOutput.Number(At(0.99)),
                ["max_us"] = BenchOutput.Number(At(1)),
                ["fresh_median_us"] = BenchOutput.Number(Fresh(0.5)),
                ["fresh_p99_us"] = BenchOutput.Number(Fresh(0.99)),
                ["tokens"] = r.TokenUs.Length,
                ["finished"] = BenchOutput.Number(r.Finished),
                ["states"] = r.States,
                ["cached_bytes"] = r.CachedBytes,
            });
        }
        table.WriteTo(readable);
        BenchOutput.Write(json, new JsonObject { ["vocabulary"] = trie.VocabularySize, ["sort_ms"] = BenchOutput.Number(trieMs), ["grammars"] = list });
        return 0;
    }
}
