using System.Buffers;
using System.Text;

namespace GemmaServer.Text;

/// <summary>
/// Gemma 4's tokenizer: text to ids and back, equal to the Hugging Face library id for id. Immutable; any number of threads
/// may use one.
/// </summary>
/// <remarks>
/// Spaces become U+2581, then the text between literally matched tokens is byte-pair encoded as one word (there is no splitting
/// into words or at newlines). A U+2581 in the input therefore comes back as a space.
/// </remarks>
public sealed class Tokenizer
{
    private readonly Vocabulary _vocabulary;
    private readonly BytePairEncoder _encoder;
    private readonly LiteralMatcher _allLiterals;
    private readonly LiteralMatcher _ordinaryLiterals;
    private readonly byte[] _bytes;     // what every token adds to plain text, end to end
    private readonly int[] _byteStart;  // [VocabularySize + 1]

    private Tokenizer((Vocabulary Vocabulary, DeclaredRoles Roles) loaded)
    {
        _vocabulary = loaded.Vocabulary;
        _encoder = new BytePairEncoder(_vocabulary);
        Special = SpecialTokens.Find(_vocabulary, loaded.Roles);
        _allLiterals = Literals(static (_, _) => true);
        _ordinaryLiterals = Literals(static (vocabulary, id) => !vocabulary.IsControl(id));
        (_bytes, _byteStart) = LayOutBytes(_vocabulary);
    }

    /// <summary>Reads a Hugging Face vocabulary.</summary>
    /// <param name="tokenizerJson"><c>tokenizer.json</c>, read to its end; the caller closes it.</param>
    /// <param name="tokenizerConfigJson"><c>tokenizer_config.json</c>: names the token of a role whose usual text is missing, and a further end token.</param>
    /// <exception cref="TokenizerException">A file is damaged or asks for something that cannot be honoured; the message names the field.</exception>
    public static Tokenizer FromJson(Stream tokenizerJson, Stream? tokenizerConfigJson = null) =>
        new(TokenizerJsonLoader.Load(tokenizerJson, tokenizerConfigJson));

    /// <summary>Takes a vocabulary out of GGUF metadata.</summary>
    /// <exception cref="TokenizerException">The metadata is damaged or of another kind; the message names the key.</exception>
    public static Tokenizer FromGguf(GgufVocabulary vocabulary) => new(GgufVocabularyLoader.Load(vocabulary));

    /// <summary>Number of ids. A model's embedding may have more rows; ids beyond stand for no text.</summary>
    public int VocabularySize => _vocabulary.Pieces.Length;

    /// <summary>Ids by role.</summary>
    public SpecialTokens Special { get; }

    /// <summary>Appends the ids of <paramref name="text"/>; never adds <c>&lt;bos&gt;</c>; lone surrogates count as U+FFFD.</summary>
    /// <param name="text">Any text.</param>
    /// <param name="parseSpecial">
    /// True: control tokens spelled out in the text become these tokens (for templates). False: they stay text, so that no
    /// control token can come out of what a user wrote, whatever type its file gives it. Added tokens that control nothing
    /// (<c>&lt;unused0&gt;</c>) are matched either way.
    /// </param>
    /// <param name="output">Where the ids go.</param>
    public void Encode(ReadOnlySpan<char> text, bool parseSpecial, List<int> output)
    {
        LiteralMatcher literals = parseSpecial ? _allLiterals : _ordinaryLiterals;
        while (!text.IsEmpty)
        {
            int start = literals.Find(text, out int length, out int id);
            if (start < 0) start = text.Length;
            _encoder.Encode(text[..start], output);
            if (id >= 0) output.Add(id);
            text = text[(start + length)..];
        }
    }

    /// <summary>The ids of <paramref name="text"/>; see the other overload.</summary>
    public int[] Encode(string text, bool parseSpecial)
    {
        List<int> ids = [];
        Encode(text, parseSpecial, ids);
        return [.. ids];
    }

    /// <summary>Id of a piece by its exact text, e.g. <c>&lt;|turn&gt;</c>; null where there is none.</summary>
    public int? TokenId(string piece) => _vocabulary.Id(piece);

    /// <summary>A token's text as stored: U+2581 for spaces, <c>&lt;0x0A&gt;</c> for a byte.</summary>
    /// <exception cref="ArgumentOutOfRangeException">There is no such id.</exception>
    public string Piece(int id)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(id);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(id, VocabularySize);
        return _vocabulary.Pieces[id];
    }

    /// <summary>The bytes a token adds to plain text: a byte token its byte, a control token its literal text; none for an id beyond the vocabulary.</summary>
    public ReadOnlySpan<byte> TokenBytes(int id) =>
        (uint)id < (uint)VocabularySize ? _bytes.AsSpan(_byteStart[id].._byteStart[id + 1]) : default;

    /// <summary>Whether a token controls the format rather than being text; false for an id beyond the vocabulary.</summary>
    public bool IsSpecial(int id) => (uint)id < (uint)VocabularySize && _vocabulary.IsControl(id);

    /// <summary>Whether a token stands for one raw byte.</summary>
    internal bool IsByte(int id) => (uint)id < (uint)VocabularySize && _vocabulary.ByteValue(id) >= 0;

    /// <summary>
    /// The text of a finished sequence. A run of byte tokens that is not valid UTF-8 as a whole becomes one U+FFFD per byte, as in
    /// the Hugging Face library; a <see cref="Detokenizer"/> has given out the valid beginning of such a run by then.
    /// </summary>
    /// <param name="ids">Tokens; those beyond the vocabulary add nothing.</param>
    /// <param name="skipSpecial">Leave control tokens out instead of writing their literal text.</param>
    public string Decode(ReadOnlySpan<int> ids, bool skipSpecial)
    {
        StringBuilder text = new();
        ArrayBufferWriter<byte> run = new();
        foreach (int id in ids)
        {
            if (skipSpecial && IsSpecial(id)) continue;
            if (!IsByte(id))
            {
                EndByteRun(run, text);
                text.Append(Encoding.UTF8.GetString(TokenBytes(id)));
            }
            else run.Write(TokenBytes(id));
        }
        EndByteRun(run, text);
        return text.ToString();
    }

    private static void EndByteRun(ArrayBufferWriter<byte> run, StringBuilder text)
    {
        if (run.WrittenCount == 0) return;
        if (System.Text.Unicode.Utf8.IsValid(run.WrittenSpan)) text.Append(Encoding.UTF8.GetString(run.WrittenSpan));
        else text.Append('\uFFFD', run.WrittenCount);
        run.ResetWrittenCount();
    }

    private LiteralMatcher Literals(Func<Vocabulary, int, bool> wanted) =>
        new(Enumerable.Range(0, VocabularySize)
            .Where(id => _vocabulary.IsLiteral(id) && wanted(_vocabulary, id))
            .Select(id => (_vocabulary.Pieces[id], id)));

    private static (byte[] Bytes, int[] Start) LayOutBytes(Vocabulary vocabulary)
    {
        ArrayBufferWriter<byte> bytes = new(vocabulary.Pieces.Length * 8);
        int[] start = new int[vocabulary.Pieces.Length + 1];
        for (int id = 0; id < vocabulary.Pieces.Length; id++)
        {
            int value = vocabulary.ByteValue(id);
            if (value >= 0) bytes.Write([(byte)value]);
            else Encoding.UTF8.GetBytes(vocabulary.Pieces[id].Replace('▁', ' '), bytes);
            start[id + 1] = bytes.WrittenCount;
        }
        return (bytes.WrittenSpan.ToArray(), start);
    }
}
