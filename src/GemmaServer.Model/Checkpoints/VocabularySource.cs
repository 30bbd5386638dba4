namespace GemmaServer.Model;

/// <summary>Where the tokenizer can be read from: files beside a Hugging Face checkpoint, or arrays inside a GGUF.</summary>
public sealed record VocabularySource
{
    /// <summary>Hugging Face: path of tokenizer.json; null for GGUF or when the folder has none.</summary>
    public string? TokenizerJsonPath { get; init; }

    /// <summary>Hugging Face: path of tokenizer_config.json; null when absent.</summary>
    public string? TokenizerConfigPath { get; init; }

    /// <summary>GGUF <c>tokenizer.ggml.model</c>: "gemma4" in published files.</summary>
    public string? Model { get; init; }

    /// <summary>GGUF: pieces by token id, with U+2581 for spaces.</summary>
    public IReadOnlyList<string>? Tokens { get; init; }

    /// <summary>GGUF: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte; same length as <see cref="Tokens"/>.</summary>
    public IReadOnlyList<int>? TokenTypes { get; init; }

    /// <summary>GGUF: "left right" by rank.</summary>
    public IReadOnlyList<string>? Merges { get; init; }

    /// <summary>GGUF: id of the begin-of-sequence token.</summary>
    public int? BosId { get; init; }

    /// <summary>GGUF: id of one end token; see <see cref="GenerationDefaults.EosTokenIds"/> for all of them.</summary>
    public int? EosId { get; init; }

    /// <summary>GGUF: id of the unknown token.</summary>
    public int? UnknownId { get; init; }

    /// <summary>GGUF: id of the padding token.</summary>
    public int? PadId { get; init; }

    /// <summary>GGUF: id of the mask token.</summary>
    public int? MaskId { get; init; }

    /// <summary>GGUF: whether plain text gets a begin token. Some published files say false wrongly.</summary>
    public bool? AddBos { get; init; }

    /// <summary>Whether there is any vocabulary at all.</summary>
    public bool IsPresent => TokenizerJsonPath is not null || Tokens is not null;
}
