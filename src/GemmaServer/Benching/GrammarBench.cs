using System.Diagnostics;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>What one grammar cost.</summary>
/// <param name="Name">Which.</param>
/// <param name="CompileMs">To compile it when its sets of characters are known to the vocabulary.</param>
/// <param name="FirstUs">The first mask.</param>
/// <param name="TokenUs">Mask and push, sorted: every token of every answer, from the first on.</param>
/// <param name="FreshUs">The same where each answer has a grammar compiled anew, so that hardly a state was met before; sorted.</param>
/// <param name="States">Of the automaton.</param>
/// <param name="CachedBytes">Found out while answering.</param>
/// <param name="Finished">Share of answers that came to their end.</param>
internal sealed record GrammarResult(string Name, double CompileMs, double FirstUs, double[] TokenUs, double[] FreshUs, int States, long CachedBytes, double Finished);

/// <summary>
/// Answers grammars with random tokens and measures mask and push of each. In one of six places a token that closes something is
/// preferred, so that texts are as long as a model's rather than endless.
/// </summary>
internal sealed class GrammarBench(GrammarVocabulary vocabulary, TokenTrie trie, int answers, int maxTokens)
{
    private const int TurnEnd = 106, FreshAnswers = 20;

    private readonly int[] _closing =
    [
        .. Enumerable.Range(0, vocabulary.Tokenizer.VocabularySize).Where(id =>
            !vocabulary.Tokenizer.IsSpecial(id) && vocabulary.Tokenizer.TokenBytes(id) is { Length: > 0 and < 4 } bytes && bytes.IndexOfAny("\"}],)\n"u8) >= 0),
        TurnEnd,
    ];

    public GrammarResult Measure(string name, GrammarNode node)
    {
        GrammarNode answer = GrammarNode.Sequence(node, GrammarNode.Token(TurnEnd));
        Run(name, answer, Math.Min(answers, 5), seed: 1);   // compiles the code and the sets of characters
        List<double> fresh = [];
        for (int i = 0; i < Math.Min(answers, FreshAnswers); i++) fresh.AddRange(Run(name, answer, 1, seed: 3 + i).TokenUs);
        fresh.Sort();
        return Run(name, answer, answers, seed: 2) with { FreshUs = [.. fresh] };
    }

    private GrammarResult Run(string name, GrammarNode answer, int count, int seed)
    {
        Random random = new(seed);
        long started = Stopwatch.GetTimestamp();
        CompiledGrammar grammar = CompiledGrammar.Compile(answer, trie);
        double compileMs = Stopwatch.GetElapsedTime(started).TotalMilliseconds;
        List<double> times = [];
        double firstUs = 0;
        int finished = 0;
        for (int i = 0; i < count; i++)
        {
            GrammarMatcher matcher = new(grammar);
            for (int t = 0; t < maxTokens && !matcher.IsFinished; t++)
            {
                long before = Stopwatch.GetTimestamp();
                ulong[] mask = matcher.Allowed!;
                double maskUs = Stopwatch.GetElapsedTime(before).TotalMicroseconds;
                int token = Choose(mask, random);
                before = Stopwatch.GetTimestamp();
                if (!matcher.TryPush(token)) throw new InvalidOperationException($"{name}: token {token} is in the mask, but was not taken.");
                times.Add(maskUs + Stopwatch.GetElapsedTime(before).TotalMicroseconds);
                if (times.Count == 1) firstUs = maskUs;
            }
            if (matcher.IsFinished) finished++;
        }
        times.Sort();
        return new GrammarResult(name, compileMs, firstUs, [.. times], [], grammar.AutomatonStates, grammar.CachedBytes, (double)finished / count);
    }

    private int Choose(ulong[] mask, Random random)
    {
        if (random.Next(6) == 0)
        {
            int start = random.Next(_closing.Length);
            for (int i = 0; i < _closing.Length; i++)
            {
                int id = _closing[(start + i) % _closing.Length];
                if (IsAllowed(mask, id)) return id;
            }
        }
        for (int tries = 0; tries < 64; tries++)
        {
            int id = random.Next(trie.VocabularySize);
            if (IsAllowed(mask, id)) return id;
        }
        // Few are allowed: any of them alike.
        int allowed = 0, chosen = -1;
        for (int id = 0; id < trie.VocabularySize; id++)
            if (IsAllowed(mask, id) && random.Next(++allowed) == 0) chosen = id;
        return chosen;
    }

    private static bool IsAllowed(ulong[] mask, int id) => (mask[id >> 6] >> id & 1) != 0;
}
