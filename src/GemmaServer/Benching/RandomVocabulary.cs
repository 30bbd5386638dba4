using System.Globalization;

namespace GemmaServer;

/// <summary>A vocabulary that Gemma 4's tokenizer can be built from: control and byte tokens at their ids, letters, filler words.</summary>
/// <remarks>
/// The media tokens lie at 255999 … 258884; a smaller vocabulary has them at its end. Text comes out as pairs of letters,
/// so lengths in tokens are about half of those in characters.
/// </remarks>
internal sealed class RandomVocabulary
{
    public const int Normal = 1, Unknown = 2, Control = 3, Unused = 5, ByteType = 6;

    private const int FirstByte = 238, FirstFree = 494, FirstLarge = 255_968;

    private static readonly string[] s_media = ["<|image>", "<|audio>", "<|image|>", "<|audio|>", "<image|>", "<audio|>", "<|video|>"];
    private static readonly int[] s_mediaIds = [255_999, 256_000, 258_880, 258_881, 258_882, 258_883, 258_884];

    private readonly string?[] _pieces;
    private readonly HashSet<string> _taken = new(StringComparer.Ordinal);
    private readonly List<string> _merges = [];

    public RandomVocabulary(int size)
    {
        _pieces = new string?[size];
        PlaceKnown();
        PlaceMedia();
        PlaceText();
        PlaceFiller();
        Types = [.. Pieces.Select(TypeOf)];
    }

    /// <summary>Piece by id.</summary>
    public IReadOnlyList<string> Pieces => _pieces!;

    /// <summary>GGUF token types.</summary>
    public IReadOnlyList<int> Types { get; }

    /// <summary>"left right" by rank.</summary>
    public IReadOnlyList<string> Merges => _merges;

    private void PlaceKnown()
    {
        string[] first = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "[multimodal]"];
        for (int i = 0; i < first.Length; i++) Place(i, first[i]);
        string[] tools = ["<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", "<|\"|>"];
        for (int i = 0; i < tools.Length; i++) Place(46 + i, tools[i]);
        Place(98, "<|think|>");
        Place(100, "<|channel>");
        Place(101, "<channel|>");
        Place(105, "<|turn>");
        Place(106, "<turn|>");
        for (int n = 1; n <= 31; n++) Place(106 + n, new string('\n', n));
        for (int n = 2; n <= 31; n++) Place(136 + n, new string('▁', n));
        Place(212, "</s>");
        for (int b = 0; b < 256; b++) Place(FirstByte + b, string.Create(CultureInfo.InvariantCulture, $"<0x{b:X2}>"));
    }

    private void PlaceMedia()
    {
        bool large = _pieces.Length > s_mediaIds[^1];
        for (int i = 0; i < s_media.Length; i++) Place(large ? s_mediaIds[i] : _pieces.Length - s_media.Length + i, s_media[i]);
        if (!large) return;
        Place(FirstLarge, "\t");
        Place(FirstLarge + 1, "\t\t");
        Place(236_743, "▁");
    }

    /// <summary>The printable characters, then pairs of letters with their merges as far as there is room.</summary>
    private void PlaceText()
    {
        int id = FirstFree;
        foreach (char c in Enumerable.Range(0x21, 94).Select(static c => (char)c).Append('▁').Append('\t'))
            if (_taken.Add(c.ToString())) _pieces[id++] = c.ToString();
        for (int n = 2; n <= 31; n++)
        {
            _merges.Add($"{new string('\n', n - 1)} \n");
            _merges.Add($"{new string('▁', n - 1)} ▁");
        }
        for (int a = 'a'; a <= 'z'; a++)
        {
            for (int b = 'a'; b <= 'z'; b++)
            {
                if (id >= _pieces.Length || _pieces[id] is not null) return;
                Place(id++, $"{(char)a}{(char)b}");
                _merges.Add($"{(char)a} {(char)b}");
            }
        }
    }

    private void PlaceFiller()
    {
        int unused = 0;
        for (int id = 0; id < _pieces.Length; id++)
        {
            if (_pieces[id] is not null) continue;
            // Below the byte tokens lie Gemma's spare ones.
            Place(id, id < FirstByte ? $"<unused{unused++}>" : $"▁w{id}");
        }
    }

    private void Place(int id, string piece)
    {
        _taken.Add(piece);
        _pieces[id] = piece;
    }

    private static int TypeOf(string piece) => piece switch
    {
        "<unk>" => Unknown,
        _ when SpecialPieces.Contains(piece) => Control,
        _ when piece.StartsWith("<unused", StringComparison.Ordinal) => Unused,
        _ when piece.Length == 6 && piece.StartsWith("<0x", StringComparison.Ordinal) => ByteType,
        _ => Normal,
    };

    private static HashSet<string> SpecialPieces { get; } =
    [
        "<pad>", "<eos>", "<bos>", "<mask>", "<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>",
        "<|\"|>", "<|think|>", "<|channel>", "<channel|>", "<|turn>", "<turn|>", .. s_media,
    ];
}
