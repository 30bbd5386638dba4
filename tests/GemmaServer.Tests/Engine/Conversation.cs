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

    /// <summary>The turns with a first question that is <paramref name="more"/> tokens longer.</summary>
    public Turn[] WithLongerQuestion(int more, int seed)
    {
        int[] question = EngineHarness.Prompt(more, seed);
        return [.. _turns.Select(t => new Turn([.. t.Prompt[.._insertAt], .. question, .. t.Prompt[_insertAt..]], t.Boundary + more, t.Answer))];
    }

    /// <summary>Tokens that each turn's prompt has in common with prompt and answer before it.</summary>
    public static int Common(Turn[] turns, int turn) => turns[turn].Prompt.AsSpan().CommonPrefixLength([.. turns[turn - 1].Prompt, .. turns[turn - 1].Answer]);

    /// <summary>
    /// The last turn that passed the place where a turn goes on: the one before, or an earlier one where thoughts of several
    /// turns are dropped at once.
    /// </summary>
    public static int LastPassed(Turn[] turns, int turn)
    {
        int passed = turn - 1;
        while (passed > 0 && turns[passed].Boundary > Common(turns, turn) + Dialogue.MostChanged) passed--;
        return passed;
    }

    /// <summary>
    /// Pages of a group that turns of a conversation leave where it may go on, from one turn to another: all of the global one, those
    /// of a sliding one from the window before the first turn's boundary on. What a later prompt drops again is among them.
    /// </summary>
    public static int Pages(KvGroup g, Turn[] turns, int from, int to, int block)
    {
        int pages = PagesBetween(g, WindowStart(g, turns[from].Boundary, block), turns[from].End);
        for (int i = from + 1; i <= to; i++) pages += PagesBetween(g, Common(turns, i) / block * block, turns[i].End);
        return pages;
    }

    /// <summary>Pages of a group that hold positions from <paramref name="start"/> to <paramref name="end"/>.</summary>
    public static int PagesBetween(KvGroup g, int start, int end) => (end + g.TokensPerPage - 1) / g.TokensPerPage - start / g.TokensPerPage;

    /// <summary>The first position that is needed to go on at a place or an eighth of the window before it, in whole blocks.</summary>
    public static int WindowStart(KvGroup g, int place, int block) => g.Window == 0 ? 0 : Math.Max(0, (place - g.Window / 8) / block * block - g.Window + 1);
}
