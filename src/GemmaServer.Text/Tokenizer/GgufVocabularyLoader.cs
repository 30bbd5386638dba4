namespace GemmaServer.Text;

/// <summary>Checks a GGUF vocabulary and brings it into the form both file formats share.</summary>
internal static class GgufVocabularyLoader
{
    private const string TokensField = "tokenizer.ggml.tokens";
    private const string TypesField = "tokenizer.ggml.token_type";
    private const string MergesField = "tokenizer.ggml.merges";

    private const int Control = 3, UserDefined = 4, Byte = 6;

    /// <exception cref="TokenizerException">The metadata is damaged or describes another kind of tokenizer.</exception>
    public static (Vocabulary Vocabulary, DeclaredRoles Roles) Load(GgufVocabulary file)
    {
        // Other models split text by other rules, so reading one of them as this would quietly give wrong ids.
        if (file.Model != "gemma4") throw new TokenizerException($"tokenizer.ggml.model is '{file.Model}'; only 'gemma4' can be read.");
        if (file.Tokens is not { Length: > 0 }) throw new TokenizerException($"{TokensField} is empty.");
        if (file.Merges is not { Length: > 0 }) throw new TokenizerException($"{MergesField} is empty.");

        Vocabulary vocabulary = new([.. file.Tokens], TokensField);
        if (file.TokenTypes is not null) ApplyTypes(file.TokenTypes, vocabulary);
        vocabulary.StartMerges(file.Merges.Length);
        for (int rank = 0; rank < file.Merges.Length; rank++) vocabulary.AddMerge(file.Merges[rank], rank, MergesField);

        int? Checked(int? id, string key) =>
            id is null || (uint)id < (uint)file.Tokens.Length
                ? id
                : throw new TokenizerException($"tokenizer.ggml.{key} is {id}, but there are {file.Tokens.Length} tokens.");
        return (vocabulary, new DeclaredRoles(
            Checked(file.Bos, "bos_token_id"), Checked(file.Eos, "eos_token_id"), Checked(file.Unknown, "unknown_token_id"),
            Checked(file.Padding, "padding_token_id"), Checked(file.Mask, "mask_token_id"), Checked(file.EndOfTurn, "eot_token_id")));
    }

    // Types only add to what the texts say: published files type <eos> as normal, and <|channel> and others as user-defined.
    private static void ApplyTypes(int[] types, Vocabulary vocabulary)
    {
        if (types.Length != vocabulary.Pieces.Length)
            throw new TokenizerException($"{TypesField} has {types.Length} entries, but there are {vocabulary.Pieces.Length} tokens.");
        for (int id = 0; id < types.Length; id++)
        {
            if (types[id] is Control or UserDefined) vocabulary.Declare(id, special: types[id] == Control);
            if (types[id] == Byte && vocabulary.ByteValue(id) < 0)
                throw new TokenizerException($"{TypesField}: id {id} is typed as a byte, but its text is '{Vocabulary.Shown(vocabulary.Pieces[id])}'.");
        }
    }
}
