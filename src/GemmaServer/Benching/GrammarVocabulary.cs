using System.Text;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>
/// A vocabulary of Gemma 4's size for measuring token masks: its control and byte tokens and runs of white space at their ids, and
/// for the rest pieces as tokenizers learn them: words with and without a space before, in several cases, numbers, punctuation as in
/// JSON and code, and other scripts.
/// </summary>
internal sealed class GrammarVocabulary
{
    private static readonly string[] s_onsets = ["b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "st", "tr", "pr", "ch", "sh", "th", "gr", "pl", "br", "", ""];
    private static readonly string[] s_nuclei = ["a", "e", "i", "o", "u", "ea", "ou", "io", "ai", "y"];
    private static readonly string[] s_codas = ["", "", "n", "r", "s", "t", "l", "nd", "st", "ng", "ck", "m", "tion", "ment", "er", "ing", "ed"];
    private static readonly string[] s_json = ["\":", "\": ", "\": \"", "\":\"", "\",", "\", \"", "\",\"", "\"},", "\"}", "\"]", "\"},{\"", "{\"", "[\"", "[{\"", "}]", "}}", "},", "],", "]}", "]]", "{}", "[]", "\\\"", "\\n", "\\u", "\\\\", "\"\n", "\",\n", "{\n", "}\n", "[\n", "]\n", "},\n", "],\n"];

    // First and last code point of a block, and its share of the other scripts in percent.
    private static readonly (int First, int Last, int Share)[] s_scripts =
        [(0x410, 0x44F, 20), (0x4E00, 0x9FA5, 30), (0x3041, 0x30FE, 10), (0xAC00, 0xD7A3, 12), (0x627, 0x64A, 10), (0x905, 0x939, 8), (0xE0, 0xFF, 6), (0x1F600, 0x1F64F, 4)];

    private readonly Random _random = new(1);
    private readonly HashSet<string> _taken = new(StringComparer.Ordinal);
    private readonly Dictionary<string, int> _ids = new(StringComparer.Ordinal);
    private readonly List<string> _controls = [];

    private GrammarVocabulary(int size)
    {
        RandomVocabulary frame = new(size);
        string[] pieces = [.. frame.Pieces];
        List<int> free = [];
        for (int id = 0; id < size; id++)
        {
            // Filler words give way to realistic ones.
            bool isFiller = frame.Types[id] == RandomVocabulary.Normal && pieces[id].StartsWith("▁w", StringComparison.Ordinal);
            if (isFiller) free.Add(id);
            else _taken.Add(pieces[id]);
        }
        foreach (int id in free) pieces[id] = NextPiece();
        for (int id = 0; id < size; id++)
        {
            if (frame.Types[id] == RandomVocabulary.Control) _controls.Add(pieces[id]);
            if (frame.Types[id] is RandomVocabulary.Normal or RandomVocabulary.Control) _ids.TryAdd(pieces[id].Replace('▁', ' '), id);
        }
        Tokenizer = Tokenizer.FromGguf(new GgufVocabulary("gemma4", pieces, [.. frame.Types], [.. frame.Merges], 2, 1, 3, 0, 4, 106, true));
    }

    /// <summary>262,144 tokens, always the same.</summary>
    public static GrammarVocabulary Full() => new(Model.PublishedSize.Vocabulary);

    public Tokenizer Tokenizer { get; }

    /// <summary>A text in the longest tokens that there are from left to right; control tokens by their names.</summary>
    public int[] Split(string text)
    {
        const int longest = 48, firstByte = 238;
        List<int> tokens = [];
        for (int at = 0; at < text.Length;)
        {
            int length = Math.Min(longest, BeforeControl(text, at)), id = 0;
            while (length > 0 && !_ids.TryGetValue(text.Substring(at, length), out id)) length--;
            if (length > 0)
            {
                tokens.Add(id);
                at += length;
                continue;
            }
            int units = char.IsHighSurrogate(text[at]) ? 2 : 1;
            foreach (byte value in Encoding.UTF8.GetBytes(text.Substring(at, units))) tokens.Add(firstByte + value);
            at += units;
        }
        return [.. tokens];
    }

    /// <summary>Characters up to the next control token, or of the one that is there.</summary>
    private int BeforeControl(string text, int start)
    {
        int length = text.Length - start;
        foreach (string control in _controls)
        {
            int at = text.IndexOf(control, start, StringComparison.Ordinal);
            if (at == start) return control.Length;
            if (at > start) length = Math.Min(length, at - start);
        }
        return length;
    }

    private string NextPiece()
    {
        while (true)
        {
            string piece = Piece();
            if (piece.Length > 0 && _taken.Add(piece)) return piece;
        }
    }

    // Shares as in Gemma's vocabulary, roughly: more than half are words of Latin script, a third other scripts.
    private string Piece() => _random.Next(100) switch
    {
        < 36 => "▁" + Word(),
        < 60 => Word(),
        < 64 => Digits(),
        < 68 => Punctuation(),
        _ => (_random.Next(3) == 0 ? "▁" : "") + OtherScript(),
    };

    private string Word()
    {
        StringBuilder word = new();
        for (int n = _random.Next(1, 5); n > 0; n--)
            word.Append(Of(s_onsets)).Append(Of(s_nuclei)).Append(Of(s_codas));
        string text = word.ToString();
        return _random.Next(10) switch
        {
            < 3 => char.ToUpperInvariant(text[0]) + text[1..],
            3 => text.ToUpperInvariant(),
            4 => text + char.ToUpperInvariant(text[0]) + Of(s_nuclei) + Of(s_codas),   // camelCase
            _ => text,
        };
    }

    private string Digits() => _random.Next(2) == 0 ? "v" + _random.Next(1000) : _random.Next(100_000) + Of(["", ".", "px", "th", "-"]);

    private string Punctuation()
    {
        const string marks = "!#$%&'()*+,-./:;<=>?@[]^_`{|}~\"\\\n";
        StringBuilder run = new(_random.Next(4) == 0 ? "▁" : "");
        if (_random.Next(3) == 0) run.Append(Of(s_json));
        else for (int n = _random.Next(2, 6); n > 0; n--) run.Append(marks[_random.Next(marks.Length)]);
        if (_random.Next(4) == 0) run.Append(Word());
        return run.ToString();
    }

    private string OtherScript()
    {
        int share = _random.Next(100), script = 0;
        while (share >= s_scripts[script].Share) share -= s_scripts[script++].Share;
        (int first, int last, _) = s_scripts[script];
        StringBuilder word = new();
        for (int n = _random.Next(1, 7); n > 0; n--) word.Append(char.ConvertFromUtf32(_random.Next(first, last + 1)));
        return word.ToString();
    }

    private string Of(string[] pieces) => pieces[_random.Next(pieces.Length)];
}
