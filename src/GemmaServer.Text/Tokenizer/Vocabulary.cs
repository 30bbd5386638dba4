using System.Globalization;
using System.Text;

namespace GemmaServer.Text;

/// <summary>Pieces by id and ids by piece, merges, and what each token is; what both file formats are read into.</summary>
internal sealed class Vocabulary
{
    private readonly Dictionary<string, int> _ids;
    private readonly Dictionary<string, int>.AlternateLookup<ReadOnlySpan<char>> _idsBySpan;
    private readonly bool[] _control;
    private readonly bool[] _literal;
    private readonly short[] _byteValue;   // −1: not a byte token
    private char[] _joined = new char[256];

    /// <param name="pieces">Piece by id; owned from here on.</param>
    /// <param name="field">What to call the list in messages.</param>
    /// <exception cref="TokenizerException">A piece is missing or occurs twice, or one of the 256 byte tokens is missing.</exception>
    public Vocabulary(string[] pieces, string field)
    {
        Pieces = pieces;
        _ids = new Dictionary<string, int>(pieces.Length, StringComparer.Ordinal);
        _idsBySpan = _ids.GetAlternateLookup<ReadOnlySpan<char>>();
        _control = new bool[pieces.Length];
        _literal = new bool[pieces.Length];
        _byteValue = new short[pieces.Length];
        ByteIds = new int[256];
        Array.Fill(ByteIds, -1);
        for (int id = 0; id < pieces.Length; id++)
        {
            string piece = pieces[id] ?? throw new TokenizerException($"{field}: id {id} has no piece.");
            if (!_ids.TryAdd(piece, id)) throw new TokenizerException($"{field}: '{Shown(piece)}' stands at id {_ids[piece]} and at id {id}.");
            _byteValue[id] = ByteOf(piece);
            if (_byteValue[id] >= 0) ByteIds[_byteValue[id]] = id;
            if (SpecialTokens.IsControl(piece, declaredSpecial: false)) Declare(id, special: true);
        }
        int missing = Array.IndexOf(ByteIds, -1);
        if (missing >= 0) throw new TokenizerException($"{field}: byte token <0x{missing:X2}> is missing, so not every text could be written.");
        Merges = new MergeTable(0);
    }

    public string[] Pieces { get; }

    /// <summary>Id of each byte's token.</summary>
    public int[] ByteIds { get; }

    public MergeTable Merges { get; private set; }

    public int? Id(string piece) => _ids.TryGetValue(piece, out int id) ? id : null;

    public bool IsControl(int id) => _control[id];

    /// <summary>Whether the token is matched literally in raw text.</summary>
    public bool IsLiteral(int id) => _literal[id];

    /// <summary>The byte a byte token stands for, otherwise −1.</summary>
    public int ByteValue(int id) => _byteValue[id];

    /// <summary>Marks a token as matched literally and, unless its text says otherwise, as control.</summary>
    public void Declare(int id, bool special)
    {
        _literal[id] = true;
        _control[id] |= SpecialTokens.IsControl(Pieces[id], special);
    }

    public void StartMerges(int count) => Merges = new MergeTable(count);

    /// <summary>Adds the merge of two pieces; control tokens must have been declared before.</summary>
    /// <exception cref="TokenizerException">One of the pieces, or the one they make, is not in the vocabulary.</exception>
    public void AddMerge(ReadOnlySpan<char> left, ReadOnlySpan<char> right, int rank, string field)
    {
        int length = left.Length + right.Length;
        if (_joined.Length < length) _joined = new char[length * 2];
        left.CopyTo(_joined);
        right.CopyTo(_joined.AsSpan(left.Length));
        int leftId = MergePart(left, rank, field), rightId = MergePart(right, rank, field);
        int merged = MergePart(_joined.AsSpan(0, length), rank, field);

        // The reference takes control tokens out of the text before merging, so it could never use such a merge. Here text can be
        // encoded with them left in, and then a merge must not make one.
        if (!_control[merged]) Merges.Add(leftId, rightId, rank, merged);
    }

    /// <summary>Adds a merge written as <c>"left right"</c>: the first space from the second character on divides them.</summary>
    public void AddMerge(ReadOnlySpan<char> pair, int rank, string field)
    {
        int space = pair.Length < 2 ? -1 : pair[1..].IndexOf(' ') + 1;
        if (space <= 0) throw new TokenizerException($"{field}[{rank}]: '{Shown(pair)}' is not two pieces with a space between.");
        AddMerge(pair[..space], pair[(space + 1)..], rank, field);
    }

    private int MergePart(ReadOnlySpan<char> piece, int rank, string field) =>
        _idsBySpan.TryGetValue(piece, out int id)
            ? id
            : throw new TokenizerException($"{field}[{rank}]: '{Shown(piece)}' is not in the vocabulary.");

    private static short ByteOf(string piece) =>
        piece.Length == 6 && piece.StartsWith("<0x", StringComparison.Ordinal) && piece[5] == '>'
        && char.IsAsciiHexDigitUpper(piece[3]) && char.IsAsciiHexDigitUpper(piece[4])
            ? byte.Parse(piece.AsSpan(3, 2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture)
            : (short)-1;

    /// <summary>A piece short and plain enough for an error message.</summary>
    public static string Shown(ReadOnlySpan<char> piece)
    {
        StringBuilder text = new();
        foreach (Rune rune in piece[..Math.Min(piece.Length, 40)].EnumerateRunes())
        {
            if (Rune.IsControl(rune)) text.Append(CultureInfo.InvariantCulture, $"\\u{rune.Value:x4}");
            else text.Append(rune.ToString());
        }
        return piece.Length > 40 ? text.Append('…').ToString() : text.ToString();
    }
}
