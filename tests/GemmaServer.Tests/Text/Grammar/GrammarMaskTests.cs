using GemmaServer.Text;

namespace GemmaServer.Tests;

/// <summary>A token is allowed exactly where some text completes what it makes: held against derivatives, token by token.</summary>
public sealed class GrammarMaskTests
{
    private static readonly TokenTrie s_vocabulary = GrammarVocabulary.Small;
    private static readonly TokenTrie s_few = GrammarVocabulary.Make(600, 8);

    [Fact]
    public void Masks_of_random_regular_grammars_equal_the_reference()
    {
        int compared = 0;
        for (int seed = 0; seed < 150; seed++)
        {
            Random random = new(seed);
            GrammarNode root = RandomGrammars.Regular(random, depth: 4);
            DerivativeReference reference = new(root);
            CompiledGrammar grammar;
            try
            {
                grammar = CompiledGrammar.Compile(root, s_vocabulary);
            }
            catch (GrammarException)
            {
                bool isNothing = !reference.IsAlive || RandomGrammars.Characters.All(c => !reference.After(System.Text.Encoding.UTF8.GetBytes(c)).IsAlive);
                Assert.True(isNothing, $"seed {seed}: refused, but some text matches");
                continue;
            }
            for (int walk = 0; walk < 3; walk++) compared += Compare(new GrammarMatcher(grammar), reference, random, seed);
        }
        Assert.True(compared > 500_000, $"only {compared} tokens were compared");
    }

    private static int Compare(GrammarMatcher matcher, DerivativeReference reference, Random random, int seed)
    {
        int compared = 0;
        for (int step = 0; step < 6; step++)
        {
            Assert.True(matcher.IsComplete == reference.IsComplete, $"seed {seed}, step {step}: complete");
            if (matcher.IsFinished)
            {
                Assert.Null(matcher.Allowed);
                break;
            }
            ulong[] mask = matcher.Allowed!;
            List<int> allowed = [];
            for (int token = 0; token < s_vocabulary.VocabularySize; token++)
            {
                ReadOnlySpan<byte> bytes = s_vocabulary.Bytes(token);
                bool expected = !bytes.IsEmpty && reference.After(bytes).IsAlive;
                Assert.True(expected == GrammarVocabulary.Has(mask, token), $"seed {seed}, step {step}, token {token} ({Convert.ToHexString(bytes)}): expected {expected}");
                if (expected) allowed.Add(token);
                else if (token % 16 == 0) Assert.False(matcher.TryPush(token));
                compared++;
            }
            Assert.NotEmpty(allowed);
            int next = allowed[random.Next(allowed.Count)];
            Assert.True(matcher.TryPush(next));
            reference = reference.After(s_vocabulary.Bytes(next));
        }
        return compared;
    }

    [Fact]
    public void Masks_of_random_recursive_grammars_equal_the_reference()
    {
        int compared = 0;
        for (int seed = 0; seed < 80; seed++)
        {
            Random random = new(seed);
            GrammarNode root = RandomGrammars.Recursive(random);
            EarleyReference reference = new(root);
            CompiledGrammar grammar;
            try
            {
                grammar = CompiledGrammar.Compile(root, s_few);
            }
            catch (GrammarException)
            {
                Assert.True(!reference.TakesAnyByte, $"seed {seed}: refused, but some text matches");
                continue;
            }
            GrammarMatcher matcher = new(grammar);
            for (int step = 0; step < 6; step++)
            {
                Assert.True(matcher.IsComplete == reference.IsComplete, $"seed {seed}, step {step}: complete");
                if (matcher.IsFinished) break;
                List<int> allowed = [];
                for (int token = 0; token < s_few.VocabularySize; token++)
                {
                    ReadOnlySpan<byte> bytes = s_few.Bytes(token);
                    bool expected = !bytes.IsEmpty && reference.CanRead(bytes);
                    Assert.True(expected == GrammarVocabulary.Has(matcher.Allowed!, token), $"seed {seed}, step {step}, token {token} ({Convert.ToHexString(bytes)}): expected {expected}");
                    if (expected) allowed.Add(token);
                    compared++;
                }
                int next = allowed[random.Next(allowed.Count)];
                Assert.True(matcher.TryPush(next));
                reference.Read(s_few.Bytes(next));
            }
        }
        Assert.True(compared > 150_000, $"only {compared} tokens were compared");
    }
}
