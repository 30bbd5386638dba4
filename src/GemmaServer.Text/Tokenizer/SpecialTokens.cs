namespace GemmaServer.Text;

/// <summary>Ids of Gemma 4's control tokens by role; −1 where the vocabulary lacks one. Found by text, because published files mistype some.</summary>
public sealed record SpecialTokens
{
    /// <summary><c>&lt;bos&gt;</c>, once at the start of every sequence.</summary>
    public int Bos { get; init; } = -1;

    /// <summary><c>&lt;eos&gt;</c>.</summary>
    public int Eos { get; init; } = -1;

    /// <summary><c>&lt;pad&gt;</c>.</summary>
    public int Pad { get; init; } = -1;

    /// <summary><c>&lt;unk&gt;</c>; never produced, since every text can be spelled in byte tokens.</summary>
    public int Unk { get; init; } = -1;

    /// <summary><c>&lt;mask&gt;</c>.</summary>
    public int Mask { get; init; } = -1;

    /// <summary><c>&lt;|turn&gt;</c>.</summary>
    public int TurnStart { get; init; } = -1;

    /// <summary><c>&lt;turn|&gt;</c>.</summary>
    public int TurnEnd { get; init; } = -1;

    /// <summary><c>&lt;|channel&gt;</c>, opens a thought.</summary>
    public int ChannelStart { get; init; } = -1;

    /// <summary><c>&lt;channel|&gt;</c>.</summary>
    public int ChannelEnd { get; init; } = -1;

    /// <summary><c>&lt;|think|&gt;</c>, switches thinking on in the system turn.</summary>
    public int Think { get; init; } = -1;

    /// <summary><c>&lt;|tool&gt;</c>, opens a declaration.</summary>
    public int ToolStart { get; init; } = -1;

    /// <summary><c>&lt;tool|&gt;</c>.</summary>
    public int ToolEnd { get; init; } = -1;

    /// <summary><c>&lt;|tool_call&gt;</c>.</summary>
    public int ToolCallStart { get; init; } = -1;

    /// <summary><c>&lt;tool_call|&gt;</c>.</summary>
    public int ToolCallEnd { get; init; } = -1;

    /// <summary><c>&lt;|tool_response&gt;</c>; generated, it ends a turn that waits for the tool.</summary>
    public int ToolResponseStart { get; init; } = -1;

    /// <summary><c>&lt;tool_response|&gt;</c>.</summary>
    public int ToolResponseEnd { get; init; } = -1;

    /// <summary><c>&lt;|"|&gt;</c>, string quote in tool syntax.</summary>
    public int Quote { get; init; } = -1;

    /// <summary><c>&lt;|image|&gt;</c>, one per soft token.</summary>
    public int ImagePlaceholder { get; init; } = -1;

    /// <summary><c>&lt;|audio|&gt;</c>, one per soft token.</summary>
    public int AudioPlaceholder { get; init; } = -1;

    /// <summary><c>&lt;|video|&gt;</c>, one per soft token.</summary>
    public int VideoPlaceholder { get; init; } = -1;

    /// <summary><c>&lt;|image&gt;</c>.</summary>
    public int ImageStart { get; init; } = -1;

    /// <summary><c>&lt;image|&gt;</c>.</summary>
    public int ImageEnd { get; init; } = -1;

    /// <summary><c>&lt;|audio&gt;</c>.</summary>
    public int AudioStart { get; init; } = -1;

    /// <summary><c>&lt;audio|&gt;</c>.</summary>
    public int AudioEnd { get; init; } = -1;

    /// <summary>
    /// Tokens after which nothing more is generated: <c>&lt;eos&gt;</c>, <c>&lt;turn|&gt;</c>, <c>&lt;|tool_response&gt;</c>, <c>&lt;|turn&gt;</c> (a
    /// new turn is never the model's to open), and what the file itself declares. Never <c>&lt;/s&gt;</c>, which is ordinary
    /// HTML here.
    /// </summary>
    public IReadOnlyList<int> EndOfGeneration { get; init; } = [];

    /// <summary>The 24 control pieces every Gemma 4 vocabulary has; these are special whatever type a file gives them.</summary>
    internal static readonly string[] ControlPieces =
    [
        "<pad>", "<eos>", "<bos>", "<unk>", "<mask>",
        "<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", "<|\"|>",
        "<|think|>", "<|channel>", "<channel|>", "<|turn>", "<turn|>",
        "<|image>", "<|audio>", "<|image|>", "<|audio|>", "<image|>", "<audio|>", "<|video|>",
    ];

    /// <summary>Whether a piece is a control token, given what its file says about it.</summary>
    internal static bool IsControl(string piece, bool declaredSpecial) =>
        Array.IndexOf(ControlPieces, piece) >= 0 || (declaredSpecial && !IsOrdinary(piece));

    // Pieces that some files type as control although Gemma 4 uses them as text.
    private static bool IsOrdinary(string piece) =>
        piece is "</s>" or "[multimodal]" || (piece.StartsWith("<unused", StringComparison.Ordinal) && piece.EndsWith('>'));

    /// <summary>Finds every role by its text; the ids a file declares fill what is missing.</summary>
    internal static SpecialTokens Find(Vocabulary vocabulary, DeclaredRoles declared)
    {
        int Id(string piece, int? otherwise = null) => vocabulary.Id(piece) ?? otherwise ?? -1;
        SpecialTokens found = new()
        {
            Bos = Id("<bos>", declared.Bos), Eos = Id("<eos>", declared.Eos), Pad = Id("<pad>", declared.Pad),
            Unk = Id("<unk>", declared.Unk), Mask = Id("<mask>", declared.Mask),
            TurnStart = Id("<|turn>"), TurnEnd = Id("<turn|>"),
            ChannelStart = Id("<|channel>"), ChannelEnd = Id("<channel|>"), Think = Id("<|think|>"),
            ToolStart = Id("<|tool>"), ToolEnd = Id("<tool|>"),
            ToolCallStart = Id("<|tool_call>"), ToolCallEnd = Id("<tool_call|>"),
            ToolResponseStart = Id("<|tool_response>"), ToolResponseEnd = Id("<tool_response|>"), Quote = Id("<|\"|>"),
            ImagePlaceholder = Id("<|image|>"), AudioPlaceholder = Id("<|audio|>"), VideoPlaceholder = Id("<|video|>"),
            ImageStart = Id("<|image>"), ImageEnd = Id("<image|>"), AudioStart = Id("<|audio>"), AudioEnd = Id("<audio|>"),
        };
        int[] ends = [found.Eos, found.TurnEnd, found.ToolResponseStart, found.TurnStart, declared.Eos ?? -1, declared.EndOfTurn ?? -1];
        return found with { EndOfGeneration = [.. ends.Where(id => id >= 0 && vocabulary.Pieces[id] != "</s>").Distinct()] };
    }
}

/// <summary>Role ids a file declares, already checked to lie in the vocabulary; null where it is silent.</summary>
internal readonly record struct DeclaredRoles(int? Bos, int? Eos, int? Unk, int? Pad, int? Mask, int? EndOfTurn);
