namespace GemmaServer.Engine;

/// <summary>
/// Guesses from what the client expects the answer to be: the file that is being edited, the form that is being filled in. Goes
/// along with the answer as long as the two agree, and looks for the place where they meet again after that.
/// </summary>
internal sealed class PredictedText
{
    /// <summary>Tokens behind the place of parting in which two in a row are enough to meet again; an edit seldom leaves out more.</summary>
    private const int Near = 64;

    private readonly int[] _text;
    private readonly NgramIndex _index;
    private int _next;      // place in the text that is expected to come next; −1 where answer and text have parted
    private int _parted;    // the last such place
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
            if (_next < 0) continue;
            _parted = _next;
            _next = _next < _text.Length && _text[_next] == tokens[_seen] ? _next + 1 : -1;
        }
        if (_next < 0 && !TryMeet(tokens)) return 0;
        int count = Math.Min(drafts.Length, _text.Length - _next);
        _text.AsSpan(_next, count).CopyTo(drafts);
        return count;
    }

    /// <summary>Looks for the last tokens: two of them near by, else more of them anywhere.</summary>
    private bool TryMeet(ReadOnlySpan<int> tokens)
    {
        int end = Math.Min(_parted + Near, _text.Length - 1);
        for (int place = _parted; place < end && tokens.Length > 1; place++)
        {
            if (_text[place] != tokens[^2] || _text[place + 1] != tokens[^1]) continue;
            _next = place + 2;
            return true;
        }
        int found = _index.Find(_text, tokens);
        _next = found < 0 ? -1 : found + 1;
        return found >= 0;
    }
}
