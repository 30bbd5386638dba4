using GemmaServer.Tests.Http;
using GemmaServer.Text;

namespace GemmaServer.Tests.Text;

/// <summary>The frame of an answer, token by token: what it takes whole, and what it does not.</summary>
public sealed class AnswerGrammarTests
{
    private static readonly Tokenizer s_tokenizer = TestHost.Tokenizer;
    private static readonly TokenTrie s_vocabulary = new(s_tokenizer, s_tokenizer.VocabularySize);

    [Theory]
    [InlineData("yes<turn|>", true)]
    [InlineData("no<eos>", true)]
    [InlineData("yes", false)]
    [InlineData("maybe<turn|>", false)]
    [InlineData("yes<|tool_response>", false)]
    [InlineData("yes<|turn>", false)]
    [InlineData("<|channel>thought\nHm.<channel|>yes<turn|>", true)]
    [InlineData("<|channel>thought\nHm<|channel>.<channel|>yes<turn|>", false)]
    [InlineData("<|channel>thought\n<channel|><|channel>thought\n<channel|>yes<turn|>", false)]
    [InlineData("<|channel>no end, 日本 ☃", false)]
    [InlineData("<|tool_call>call:f{}<tool_call|><turn|>", false)]
    public void A_format_stands_behind_one_thought(string answer, bool isTaken) =>
        Assert.Equal(isTaken, Takes(Frame(content: YesOrNo, mayThink: true), answer));

    [Fact]
    public void Without_thinking_none_is_opened_and_an_open_one_is_closed_first()
    {
        Assert.False(Takes(Frame(content: YesOrNo), "<|channel>thought\n<channel|>yes<turn|>"));
        Assert.True(Takes(Frame(content: YesOrNo, start: PromptState.ThoughtOpen), "I see.<channel|>yes<turn|>"));
        Assert.True(Takes(Frame(content: YesOrNo, start: PromptState.ThoughtOpen), "<channel|>yes<turn|>"));
        Assert.False(Takes(Frame(content: YesOrNo, start: PromptState.ThoughtOpen), "yes<turn|>"));
    }

    [Theory]
    [InlineData("<|tool_call>call:f{x:1}<tool_call|><|tool_response>", true, true)]
    [InlineData("<|tool_call>call:f{x:1}<tool_call|><turn|>", true, true)]
    [InlineData("<|tool_call>call:f{x:1}<tool_call|><|tool_call>call:g{x:1}<tool_call|><|tool_response>", true, false)]
    [InlineData("<|tool_call>call:h{x:1}<tool_call|><|tool_response>", false, false)]
    [InlineData("<|tool_call>call:f{x:2}<tool_call|><|tool_response>", false, false)]
    [InlineData("Let me see.<|tool_call>call:f{x:1}<tool_call|><|tool_response>", false, false)]
    [InlineData("<|channel>I must.<channel|><|tool_call>call:g{x:1}<tool_call|><|tool_response>", true, true)]
    [InlineData("<turn|>", false, false)]
    [InlineData("call:f{x:1}<turn|>", false, false)]
    public void A_forced_answer_is_calls_and_nothing_else(string answer, bool isTaken, bool isTakenAlone)
    {
        Assert.Equal(isTaken, Takes(Frame(mayThink: true, calls: CallMode.Required), answer));
        Assert.Equal(isTakenAlone, Takes(Frame(mayThink: true, calls: CallMode.Required, parallel: false), answer));
    }

    [Theory]
    [InlineData("Just text, \"quoted\" {x:2}.<turn|>", true, true)]
    [InlineData("<turn|>", true, true)]
    [InlineData("Wait.<|tool_call>call:f{x:1}<tool_call|><|tool_response>", true, true)]
    [InlineData("<|channel>Hm.<channel|>Wait.<|tool_call>call:f{x:1}<tool_call|> Again.<|tool_call>call:g{x:1}<tool_call|><turn|>", true, false)]
    [InlineData("Wait.<|tool_call>call:f{x:2}<tool_call|><turn|>", false, false)]
    [InlineData("<channel|>Hm.<turn|>", false, false)]
    [InlineData("A <|\"|> B<turn|>", false, false)]
    public void Text_with_calls_is_free_but_for_the_calls(string answer, bool isTaken, bool isTakenAlone)
    {
        Assert.Equal(isTaken, Takes(Frame(mayThink: true, calls: CallMode.Allowed), answer));
        Assert.Equal(isTakenAlone, Takes(Frame(mayThink: true, calls: CallMode.Allowed, parallel: false), answer));
    }

    [Theory]
    [InlineData("yes<turn|>", true)]
    [InlineData("<|tool_call>call:f{x:1}<tool_call|><|tool_response>", true)]
    [InlineData("yes<|tool_call>call:f{x:1}<tool_call|><turn|>", false)]
    [InlineData("Something else.<turn|>", false)]
    public void A_format_with_tools_is_the_one_or_the_other(string answer, bool isTaken) =>
        Assert.Equal(isTaken, Takes(Frame(content: YesOrNo, calls: CallMode.Allowed), answer));

    private static GrammarNode YesOrNo => GrammarNode.Choice(GrammarNode.Literal("yes"), GrammarNode.Literal("no"));

    private static AnswerGrammar Frame(GrammarNode? content = null, bool mayThink = false, PromptState start = PromptState.Content, CallMode calls = CallMode.None, bool parallel = true) => new()
    {
        Special = s_tokenizer.Special,
        EndTokens = s_tokenizer.Special.EndOfGeneration,
        Content = content,
        MayThink = mayThink,
        Start = start,
        Calls = calls,
        Tools = [new("f", GrammarNode.Literal("{x:1}")), new("g", GrammarNode.Literal("{x:1}"))],
        ParallelCalls = parallel,
    };

    private static bool Takes(AnswerGrammar frame, string answer)
    {
        GrammarMatcher matcher = new(CompiledGrammar.Compile(frame.Build(), s_vocabulary));
        foreach (int token in s_tokenizer.Encode(answer, parseSpecial: true))
        {
            if (matcher.IsFinished || !matcher.TryPush(token)) return false;
        }
        return matcher.IsComplete;
    }
}
