using GemmaServer.Compute;
using GemmaServer.Text;

namespace GemmaServer.Tests.Engine;

/// <summary>One request of a conversation, and what the model writes then.</summary>
internal sealed record Turn(int[] Prompt, int Boundary, int[] Answer)
{
    /// <summary>Tokens when it is over.</summary>
    public int End => Prompt.Length + Answer.Length;
}

/// <summary>
/// The turns of a <see cref="Dialogue"/>, rendered once, with so many tokens more in the first question: the same conversation at
/// any length, and so at any place in a block.
/// </summary>
internal sealed class Conversation
{
    private readonly Turn[] _turns;
    private readonly int _insertAt;

    public Conversation(Tokenizer tokenizer, TemplateFlavour flavour, bool thinking, DialogueStyle style, bool sendsReasoningBack)
    {
        Dialogue dialogue = new(tokenizer, flavour, thinking, style, sendsReasoningBack);
        dialogue.Begin("What is the weather like?");
        _turns = new Turn[Dialogue.Requests];
        for (int i = 0; i < _turns.Length; i++)
        {
            (int[] prompt, int boundary) = dialogue.Render();
            _turns[i] = new Turn(prompt, boundary, dialogue.Answer());
            dialogue.Continue(_turns[i].Answer);
        }
        // Within the first question, before its end of turn: in front of everything that a later prompt might change.
        _insertAt = _turns[0].Boundary - 4;
    }

    /// <summary>Longest thought and answer of a turn together, and shortest.</summary>
    public (int Shortest, int Longest) Answers => (_turns.Min(t => t.Answer.Length), _turns.Max(t => t.Answer.Length));

    /// <summary>The turns with a first question that is <paramref name="more"/> tokens longer.</summary>
    public Turn[] WithLongerQuestion(int more, int seed)
    {
        int[] question = EngineHarness.Prompt(more, seed);
        return [.. _turns.Select(t => new Turn([.. t.Prompt[.._insertAt], .. question, .. t.Prompt[_insertAt..]], t.Boundary + more, t.Answer))];
    }

    /// <summary>Tokens that each turn's prompt has in common with prompt and answer before it.</summary>
    public static int Common(Turn[] turns, int turn) => turns[turn].Prompt.AsSpan().CommonPrefixLength([.. turns[turn - 1].Prompt, .. turns[turn - 1].Answer]);

    /// <summary>
    /// Pages that a conversation needs in order to go on after any of its turns: the global ones, and of each sliding group those
    /// from the lowest kept place's window to the turn's end.
    /// </summary>
    public static int PagesToGoOn(KvCachePlan plan, Turn[] turns)
    {
        int most = 0;
        for (int i = 1; i < turns.Length; i++)
        {
            int pages = 0, low = Math.Min(Common(turns, i), turns[i].Boundary);
            foreach (KvGroup g in plan.Groups) pages += PagesBetween(g, low, turns[i].End);
            most = Math.Max(most, pages);
        }
        return most;
    }

    /// <summary>Pages that an answer leaves whose kept places lie between two positions.</summary>
    public static int PagesBetween(KvGroup g, int low, int end)
    {
        int first = g.Window == 0 ? 0 : Math.Max(0, low - g.Window / 8 - 2 * g.TokensPerPage - g.Window + 1) / g.TokensPerPage;
        return (end + g.TokensPerPage - 1) / g.TokensPerPage - first;
    }
}
