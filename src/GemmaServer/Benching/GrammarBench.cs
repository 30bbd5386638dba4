using System.Diagnostics;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>What one grammar cost. Times are of mask and push together, sorted.</summary>
/// <param name="Name">Which.</param>
/// <param name="CompileMs">To compile it when its sets of characters are known to the vocabulary; the median of all times it was.</param>
/// <param name="RandomUs">Random answers, all by one grammar.</param>
/// <param name="FreshUs">Random answers, each by a grammar compiled anew, so that hardly a state was met before.</param>
/// <param name="TextUs">Texts as models give them, each by a grammar compiled anew.</param>
/// <param name="States">Of the automaton.</param>
/// <param name="CachedBytes">Found out during the random answers.</param>
/// <param name="Finished">Share of the random answers that came to their end.</param>
internal sealed record GrammarResult(
    string Name, double CompileMs, double[] RandomUs, double[] FreshUs, double[] TextUs, int States, long CachedBytes, double Finished);

/// <summary>
/// Answers grammars with random tokens and with given texts, and measures mask and push of each token. In one of six places a random
/// token is one that closes something or is punctuation, so that answers are as long as a model's rather than endless.
/// </summary>
internal sealed class GrammarBench(GrammarVocabulary vocabulary, TokenTrie trie, int answers, int maxTokens)
{
    /// <summary>Ends every answer.</summary>
    public const int TurnEnd = 106;

    private const int FreshAnswers = 20;

    private readonly int[] _closing = [.. Short(vocabulary, 3, "\"}],)\n"), TurnEnd, vocabulary.Tokenizer.Special.Quote, vocabulary.Tokenizer.Special.ToolCallEnd];
    private readonly int[] _punctuation = [.. Short(vocabulary, 1, "@.-:/=+ ")];
    private readonly List<double> _times = [];

    public GrammarResult Measure(BenchGrammar bench)
    {
        for (int i = 0; i < 5; i++) Answer(bench, Compiled(bench, out _), new Random(i));   // compiles the code and the sets of characters
        List<double> compiled = [];
        int[][] texts = [.. bench.Texts.Select(vocabulary.Split)];
        for (int i = 0; i < FreshAnswers; i++) Follow(bench, Compile(), texts[i % texts.Length]);
        double[] text = Times();
        for (int i = 0; i < FreshAnswers; i++) Answer(bench, Compile(), new Random(100 + i));
        double[] fresh = Times();
        CompiledGrammar grammar = Compile();
        int finished = 0;
        Random random = new(2);
        for (int i = 0; i < answers; i++)
            if (Answer(bench, grammar, random)) finished++;
        return new GrammarResult(bench.Name, Figures.Median(compiled), Times(), fresh, text, grammar.AutomatonStates, grammar.CachedBytes, (double)finished / answers);

        CompiledGrammar Compile()
        {
            CompiledGrammar made = Compiled(bench, out double ms);
            compiled.Add(ms);
            return made;
        }
    }

    private CompiledGrammar Compiled(BenchGrammar bench, out double ms)
    {
        long started = Stopwatch.GetTimestamp();
        CompiledGrammar grammar = CompiledGrammar.Compile(bench.Answer, trie);
        ms = Stopwatch.GetElapsedTime(started).TotalMilliseconds;
        return grammar;
    }

    /// <summary>Whether the answer came to its end.</summary>
    private bool Answer(BenchGrammar bench, CompiledGrammar grammar, Random random)
    {
        GrammarMatcher matcher = new(grammar);
        for (int t = 0; t < maxTokens && !matcher.IsFinished; t++) Step(bench, matcher, mask => Choose(mask, random));
        return matcher.IsFinished;
    }

    private void Follow(BenchGrammar bench, CompiledGrammar grammar, int[] text)
    {
        GrammarMatcher matcher = new(grammar);
        foreach (int token in text) Step(bench, matcher, _ => token);
        if (!matcher.IsFinished) Step(bench, matcher, static _ => TurnEnd);
    }

    private void Step(BenchGrammar bench, GrammarMatcher matcher, Func<ulong[], int> choose)
    {
        long before = Stopwatch.GetTimestamp();
        ulong[] mask = matcher.Allowed!;
        double maskUs = Stopwatch.GetElapsedTime(before).TotalMicroseconds;
        int token = choose(mask);
        if (!TokenMask.Has(mask, token)) throw new InvalidOperationException($"{bench.Name}: token {token} of a text is not in the mask.");
        before = Stopwatch.GetTimestamp();
        if (!matcher.TryPush(token)) throw new InvalidOperationException($"{bench.Name}: token {token} is in the mask, but was not taken.");
        _times.Add(maskUs + Stopwatch.GetElapsedTime(before).TotalMicroseconds);
    }

    private double[] Times()
    {
        _times.Sort();
        double[] times = [.. _times];
        _times.Clear();
        return times;
    }

    private int Choose(ulong[] mask, Random random)
    {
        if (random.Next(6) == 0 && (OneOf(_closing, mask, random) ?? OneOf(_punctuation, mask, random)) is { } closing) return closing;
        for (int tries = 0; tries < 64; tries++)
        {
            int id = random.Next(trie.VocabularySize);
            if (TokenMask.Has(mask, id)) return id;
        }
        // Few are allowed: any of them alike.
        int allowed = 0, chosen = -1;
        for (int id = 0; id < trie.VocabularySize; id++)
            if (TokenMask.Has(mask, id) && random.Next(++allowed) == 0) chosen = id;
        return chosen;
    }

    private static int? OneOf(int[] tokens, ulong[] mask, Random random)
    {
        int start = random.Next(tokens.Length);
        for (int i = 0; i < tokens.Length; i++)
        {
            int id = tokens[(start + i) % tokens.Length];
            if (TokenMask.Has(mask, id)) return id;
        }
        return null;
    }

    /// <summary>Tokens of so many bytes at most with one of these characters.</summary>
    private static IEnumerable<int> Short(GrammarVocabulary vocabulary, int length, string characters)
    {
        for (int id = 0; id < vocabulary.Tokenizer.VocabularySize; id++)
        {
            if (vocabulary.Tokenizer.IsSpecial(id)) continue;
            byte[] bytes = vocabulary.Tokenizer.TokenBytes(id).ToArray();
            if (bytes.Length > 0 && bytes.Length <= length && bytes.Any(b => characters.Contains((char)b))) yield return id;
        }
    }
}
