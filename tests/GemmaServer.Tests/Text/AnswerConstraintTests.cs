using GemmaServer.Tests.Http;
using GemmaServer.Text;

namespace GemmaServer.Tests.Text;

/// <summary>Thought budgets and token lists, alone and around another constraint.</summary>
public sealed class AnswerConstraintTests
{
    private static readonly SpecialTokens s_special = TestHost.Tokenizer.Special;
    private static readonly int s_size = TestHost.Tokenizer.VocabularySize;
    private static readonly int s_word = TestHost.Tokenizer.TokenId("a")!.Value;

    [Fact]
    public void A_thought_is_closed_when_its_tokens_are_spent_and_no_other_one_opens()
    {
        ThoughtBudget budget = new(null, s_special, s_size, 3, PromptState.Content);
        Push(budget, s_word, s_special.ChannelStart, s_word, s_word);
        Assert.Null(budget.Allowed);
        Push(budget, s_word);
        Assert.Equal([s_special.ChannelEnd], Tokens(budget));
        Assert.False(budget.TryPush(s_word));
        Push(budget, s_special.ChannelEnd);
        Assert.Equal(Enumerable.Range(0, s_size).Except([s_special.ChannelStart]), Tokens(budget));
        Assert.False(budget.TryPush(s_special.ChannelStart));
        Push(budget, s_word, s_word, s_word, s_word);
    }

    [Fact]
    public void A_thought_closed_in_time_leaves_the_rest_for_the_next()
    {
        ThoughtBudget budget = new(null, s_special, s_size, 3, PromptState.ThoughtOpen);
        Push(budget, s_word, s_word, s_special.ChannelEnd, s_word, s_word, s_word, s_special.ChannelStart, s_word);
        Assert.Equal([s_special.ChannelEnd], Tokens(budget));
    }

    [Fact]
    public void Without_any_budget_no_thought_opens_and_an_open_one_closes_at_once()
    {
        Assert.DoesNotContain(s_special.ChannelStart, Tokens(new ThoughtBudget(null, s_special, s_size, 0, PromptState.Content)));
        Assert.Equal([s_special.ChannelEnd], Tokens(new ThoughtBudget(null, s_special, s_size, 0, PromptState.ThoughtOpen)));
    }

    [Fact]
    public void Taking_tokens_back_takes_the_count_back_at_any_depth()
    {
        ThoughtBudget budget = new(null, s_special, s_size, 2, PromptState.Content);
        int[] answer = [s_word, s_special.ChannelStart, s_word, s_word, s_special.ChannelEnd, s_word, s_word];
        List<int[]> seen = [];
        foreach (int token in answer)
        {
            seen.Add(Tokens(budget));
            Push(budget, token);
        }
        for (int back = 1; back <= answer.Length; back++)
        {
            budget.Rewind(back);
            Assert.Equal(seen[^back], Tokens(budget));
            Push(budget, answer[^back..]);
        }
    }

    [Fact]
    public void The_grammar_inside_keeps_its_say_and_its_place()
    {
        // Thirds knows no special token, so the budget has nothing to say: what it would force is not allowed.
        Thirds inner = new();
        ThoughtBudget budget = new(inner, new SpecialTokens { ChannelStart = 5, ChannelEnd = 4 }, ThirdsSize, 1, PromptState.ThoughtOpen);
        Push(budget, 0);
        Assert.Equal(inner.Allowed, budget.Allowed);      // state 0: multiples of three, the closing token 4 is none
        Push(budget, 3);
        Assert.Equal([4], Tokens(budget));                // state 1: 1, 4, 7, …
        Assert.False(budget.TryPush(7));
        Push(budget, 4);
        Assert.False(TokenMask.Has(budget.Allowed, 5));   // state 2 has 5, the opener
        Assert.True(TokenMask.Has(inner.Allowed, 5));
        Assert.Equal(Tokens(inner).Length - 1, Tokens(budget).Length);
    }

    [Fact]
    public void Only_listed_tokens_come_and_runs_of_tokens_do_not()
    {
        TokenFilter filter = new(null, 200, [3, 4, 5, 130], [[3, 4], [4, 4, 5], [9, 3]]);
        Assert.Equal([3, 4, 5, 130], Tokens(filter));
        Push(filter, 3);
        Assert.Equal([3, 5, 130], Tokens(filter));
        Assert.False(filter.TryPush(4));
        Push(filter, 5, 4, 4);
        Assert.Equal([3, 4, 130], Tokens(filter));
        filter.Rewind(1);
        Assert.Equal([3, 4, 5, 130], Tokens(filter));
        filter.Rewind(2);
        Assert.Equal([3, 5, 130], Tokens(filter));
    }

    [Fact]
    public void A_filter_without_a_list_takes_nothing_but_the_runs()
    {
        TokenFilter filter = new(null, 70, null, [[1, 2], [3, 1, 4]]);
        Assert.Null(filter.Allowed);
        Push(filter, 3, 1);
        Assert.Equal(Enumerable.Range(0, 70).Except([2, 4]), Tokens(filter));
    }

    [Fact]
    public void A_filter_gives_way_to_a_grammar_that_it_would_leave_nothing()
    {
        Thirds inner = new();
        TokenFilter filter = new(inner, ThirdsSize, [1, 4, 6], []);
        Assert.Equal([6], Tokens(filter));
        Push(filter, 6);                                  // to state 2, of which nothing is in the list
        Assert.Equal(inner.Allowed, filter.Allowed);
    }

    private static void Push(TokenConstraint constraint, params int[] tokens)
    {
        foreach (int token in tokens) Assert.True(constraint.TryPush(token));
    }

    private static int[] Tokens(TokenConstraint constraint) =>
        constraint.Allowed is not { } mask ? [-1] : [.. Enumerable.Range(0, mask.Length * 64).Where(t => TokenMask.Has(mask, t))];

    private const int ThirdsSize = 60;

    /// <summary>In each of three states a third of the tokens may come, and the token says which state is next.</summary>
    private sealed class Thirds : TokenConstraint
    {
        private static readonly ulong[][] s_masks =
            [.. Enumerable.Range(0, 3).Select(static state => TokenMask.Of(ThirdsSize, [.. Enumerable.Range(0, ThirdsSize).Where(t => t % 3 == state)]))];

        private readonly Stack<int> _states = new([0]);

        public override ulong[] Allowed => s_masks[_states.Peek()];

        public override bool TryPush(int token)
        {
            if (token % 3 != _states.Peek()) return false;
            _states.Push((_states.Peek() + token / 3) % 3);
            return true;
        }

        public override void Rewind(int count)
        {
            for (int i = 0; i < count; i++) _states.Pop();
        }
    }
}
