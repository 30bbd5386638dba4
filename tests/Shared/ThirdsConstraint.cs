using GemmaServer.Text;

namespace GemmaServer.Tests;

/// <summary>A small automaton: in each of its three states a third of the tokens may come, and the token says which state is next.</summary>
/// <param name="vocabulary">Number of tokens.</param>
internal sealed class ThirdsConstraint(int vocabulary) : TokenConstraint
{
    private readonly ulong[][] _masks = [.. Enumerable.Range(0, 3).Select(state => MaskOf(state, vocabulary))];
    private readonly Stack<int> _states = new([0]);

    /// <summary>Most tokens that were pushed and taken back at once.</summary>
    public int LongestRewind { get; private set; }

    public override ulong[] Allowed => _masks[_states.Peek()];

    public override bool TryPush(int token)
    {
        if (token % 3 != _states.Peek()) return false;
        _states.Push((_states.Peek() + token / 3) % 3);
        return true;
    }

    public override void Rewind(int count)
    {
        LongestRewind = Math.Max(LongestRewind, count);
        for (int i = 0; i < count; i++) _states.Pop();
    }

    private static ulong[] MaskOf(int state, int vocabulary)
    {
        ulong[] mask = new ulong[(vocabulary + 63) / 64];
        for (int token = state; token < vocabulary; token += 3) mask[token / 64] |= 1ul << (token % 64);
        return mask;
    }
}
