namespace GemmaServer.Text;

/// <summary>Whether an answer calls tools.</summary>
public enum CallMode
{
    /// <summary>It does not.</summary>
    None,

    /// <summary>It may.</summary>
    Allowed,

    /// <summary>It does nothing else.</summary>
    Required,
}

/// <summary>A tool that may be called.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Arguments">What stands behind the name, braces included, in the spelling of calls.</param>
public sealed record CallableTool(string Name, GrammarNode Arguments);

/// <summary>
/// The grammar of a whole answer: a thought where one may come, then what the request asks for, then the end. The frame is made of
/// special tokens, which no text can spell, so a grammar for the content acts on the content alone.
/// </summary>
/// <remarks>
/// <code>
/// answer  = [ thought ] content end                       content by a schema, regex, choice or grammar
///         | [ thought ] ( content end | calls endOfCalls ) the same with tools
///         | { text | thought | call } end                 text with calls
///         | [ thought ] calls endOfCalls                  only calls
/// thought = "&lt;|channel&gt;" text "&lt;channel|&gt;"               from the text on where the prompt left it open
/// call    = "&lt;|tool_call&gt;" "call:" name arguments "&lt;tool_call|&gt;"
/// </code>
/// </remarks>
public sealed class AnswerGrammar
{
    /// <summary>The tokens of the frame.</summary>
    public required SpecialTokens Special { get; init; }

    /// <summary>Tokens that end an answer.</summary>
    public required IReadOnlyList<int> EndTokens { get; init; }

    /// <summary>Whether the answer begins inside a thought.</summary>
    public PromptState Start { get; init; }

    /// <summary>Whether a thought may be opened.</summary>
    public bool MayThink { get; init; }

    /// <summary>What the content has to be; null for any text.</summary>
    public GrammarNode? Content { get; init; }

    /// <summary>Whether it calls tools.</summary>
    public CallMode Calls { get; init; }

    /// <summary>Those that may be called.</summary>
    public IReadOnlyList<CallableTool> Tools { get; init; } = [];

    /// <summary>Whether there may be more than one call.</summary>
    public bool ParallelCalls { get; init; } = true;

    /// <summary>Puts it together.</summary>
    public GrammarNode Build()
    {
        GrammarNode thought = GrammarNode.Sequence(GrammarNode.Token(Special.ChannelStart), RestOfThought);
        GrammarNode before = Start == PromptState.ThoughtOpen ? RestOfThought : MayThink ? GrammarNode.Optional(thought) : GrammarNode.Empty;
        CallMode calls = Tools.Count == 0 ? CallMode.None : Calls;
        if (calls == CallMode.None) return GrammarNode.Sequence(before, Content ?? Text, End(afterCalls: false));
        if (calls == CallMode.Required) return GrammarNode.Sequence(before, OneOrMoreCalls, End(afterCalls: true));
        if (Content is not null)
        {
            return GrammarNode.Sequence(before, GrammarNode.Choice(
                GrammarNode.Sequence(Content, End(afterCalls: false)), GrammarNode.Sequence(OneOrMoreCalls, End(afterCalls: true))));
        }
        GrammarNode free = MayThink || Start == PromptState.ThoughtOpen ? GrammarNode.Choice(GrammarNode.AnyChar, thought) : GrammarNode.AnyChar;
        return GrammarNode.Sequence(
            Start == PromptState.ThoughtOpen ? RestOfThought : GrammarNode.Empty,
            ParallelCalls
                ? GrammarNode.Repeat(GrammarNode.Choice(free, Call), 0, null)
                : GrammarNode.Sequence(GrammarNode.Repeat(free, 0, null), GrammarNode.Optional(Call)),
            End(afterCalls: true));
    }

    private static GrammarNode Text => GrammarNode.Repeat(GrammarNode.AnyChar, 0, null);

    private GrammarNode RestOfThought => GrammarNode.Sequence(Text, GrammarNode.Token(Special.ChannelEnd));

    private GrammarNode OneOrMoreCalls => GrammarNode.Repeat(Call, 1, ParallelCalls ? null : 1);

    private GrammarNode Call
    {
        get
        {
            GrammarNode[] tools = new GrammarNode[Tools.Count];
            for (int i = 0; i < tools.Length; i++) tools[i] = GrammarNode.Sequence(GrammarNode.Literal(Tools[i].Name), Tools[i].Arguments);
            return GrammarNode.Sequence(
                GrammarNode.Token(Special.ToolCallStart), GrammarNode.Literal("call:"), GrammarNode.Choice(tools), GrammarNode.Token(Special.ToolCallEnd));
        }
    }

    /// <summary>The end of the turn. That a result is wanted next can only be said behind a call, and a new turn is not the model's to open.</summary>
    private GrammarNode End(bool afterCalls)
    {
        List<GrammarNode> ends = [];
        foreach (int token in EndTokens)
            if (token != Special.TurnStart && (afterCalls || token != Special.ToolResponseStart)) ends.Add(GrammarNode.Token(token));
        return GrammarNode.Choice([.. ends]);
    }
}
