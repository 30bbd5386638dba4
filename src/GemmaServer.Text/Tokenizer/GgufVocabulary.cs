namespace GemmaServer.Text;

/// <summary>The <c>tokenizer.ggml.*</c> metadata of a GGUF file, as stored; <see cref="Tokenizer.FromGguf"/> checks it.</summary>
/// <param name="Model"><c>tokenizer.ggml.model</c>; only <c>gemma4</c> can be read.</param>
/// <param name="Tokens"><c>tokenizer.ggml.tokens</c>: piece by id.</param>
/// <param name="TokenTypes"><c>tokenizer.ggml.token_type</c> by id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte; null when absent.</param>
/// <param name="Merges"><c>tokenizer.ggml.merges</c>, best first: <c>"left right"</c>.</param>
/// <param name="Bos"><c>tokenizer.ggml.bos_token_id</c>.</param>
/// <param name="Eos"><c>tokenizer.ggml.eos_token_id</c>; 1 or 106 in published files.</param>
/// <param name="Unknown"><c>tokenizer.ggml.unknown_token_id</c>.</param>
/// <param name="Padding"><c>tokenizer.ggml.padding_token_id</c>.</param>
/// <param name="Mask"><c>tokenizer.ggml.mask_token_id</c>.</param>
/// <param name="EndOfTurn"><c>tokenizer.ggml.eot_token_id</c>.</param>
/// <param name="AddBos"><c>tokenizer.ggml.add_bos_token</c>; published files disagree, so it is not obeyed: a Gemma 4 prompt always starts with one.</param>
public sealed record GgufVocabulary(
    string Model,
    string[] Tokens,
    int[]? TokenTypes,
    string[] Merges,
    int? Bos,
    int? Eos,
    int? Unknown,
    int? Padding,
    int? Mask,
    int? EndOfTurn,
    bool? AddBos);
