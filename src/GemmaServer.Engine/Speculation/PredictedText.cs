namespace GemmaServer.Engine;

/// <summary>
/// Guesses from what the client expects the answer to be: the file that is being edited, the form that is being filled in. Goes
/// along with the answer as long as the two agree, and looks for the place where they meet again after that.
/// </summary>
internal sealed class PredictedText
{
    private readonly int[] _text;
    private readonly NgramIndex _index;
    private int _next;      // place in the text that is expected to come next; −1 where answer and text have parted
    private int _seen;      // tokens of the sequence that were followed

    /// <param name="text">Tokens of the predicted answer.</param>
    /// <param name="promptLength">Where the answer begins in its sequence.</param>
    public PredictedText(int[] text, int promptLength)
    {
        _text = text;
        _seen = promptLength;
        _index = new NgramIndex(text.Length);
        _index.Extend(text);
    }

    /// <summary>Guesses what follows the last token and returns how many tokens it guessed.</summary>
    /// <param name="tokens">All tokens of the sequence so far.</param>
    /// <param name="drafts">Filled with guesses from the start.</param>
    public int Guess(ReadOnlySpan<int> tokens, Span<int> drafts)
    {
        for (; _seen < tokens.Length; _seen++)
        {
            if (_next >= 0) _next = _next < _text.Length && _text[_next] == tokens[_seen] ? _next + 1 : -1;
        }
        if (_next < 0) _next = _index.Find(_text, tokens) + 1 is > 0 and int place ? place : -1;
        if (_next < 0) return 0;
        int count = Math.Min(drafts.Length, _text.Length - _next);
        _text.AsSpan(_next, count).CopyTo(drafts);
        return count;
    }
}
