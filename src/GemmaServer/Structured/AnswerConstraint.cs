using System.Text;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>The grammar of a request's answers: put together while the request is read, compiled before it is submitted.</summary>
/// <param name="Key">What it is made of.</param>
/// <param name="Root">The whole answer.</param>
/// <param name="Format">What the content has to be; null for any text.</param>
/// <param name="Param">The field to name where the grammar turns out to be too much.</param>
internal sealed record AnswerConstraint(string Key, GrammarNode Root, AnswerFormat? Format, string Param)
{
    /// <summary>The grammar of a chat answer; null where any answer will do, or with a mistake in <paramref name="fields"/>.</summary>
    /// <param name="fields">The request.</param>
    /// <param name="format">What the content has to be.</param>
    /// <param name="tools">What may be called.</param>
    /// <param name="start">Where the prompt ends.</param>
    /// <param name="mayThink">Whether a thought may be opened.</param>
    /// <param name="model">Who answers.</param>
    public static AnswerConstraint? OfChat(FieldReader fields, AnswerFormat? format, ToolFields tools, PromptState start, bool mayThink, ServedModel model)
    {
        if (fields.Error is not null || (format is null && !tools.NeedsGrammar)) return null;
        StringBuilder key = new("chat\n");
        key.Append(start).Append(mayThink).Append(tools.Mode).Append(tools.Parallel).Append('\n');
        IReadOnlyList<CallableTool>? callable = tools.Grammars(model.Tokenizer.Special.Quote, key);
        if (callable is null) return null;
        key.Append(format?.Key);
        AnswerGrammar answer = new()
        {
            Special = model.Tokenizer.Special,
            EndTokens = Ends(model),
            Start = start,
            MayThink = mayThink && model.Tokenizer.Special.ChannelStart >= 0,
            Content = format?.Node,
            Calls = tools.Mode,
            Tools = callable,
            ParallelCalls = tools.Parallel,
        };
        return new AnswerConstraint(GrammarCache.KeyOf(key.ToString()), answer.Build(), format, format?.Param ?? "tools");
    }

    /// <summary>The grammar of a text completion: no thoughts, no calls.</summary>
    public static AnswerConstraint? OfText(AnswerFormat? format, ServedModel model)
    {
        if (format is null) return null;
        AnswerGrammar answer = new() { Special = model.Tokenizer.Special, EndTokens = Ends(model), Content = format.Node };
        return new AnswerConstraint(GrammarCache.KeyOf("text\n" + format.Key), answer.Build(), format, format.Param);
    }

    /// <summary>What a grammar can end with: a checkpoint may also name a token that is text.</summary>
    private static IReadOnlyList<int> Ends(ServedModel model) => [.. model.EndTokens.Where(model.Tokenizer.IsSpecial)];

    /// <summary>Gives a mistake the name that the client's own API has for the field; null for this one's names.</summary>
    public Func<ApiError, ApiError>? Rename { get; set; }

    /// <summary>Compiles an answer's constraint, where it has one; says what is wrong where that cannot be.</summary>
    public static async ValueTask<(CompiledGrammar? Grammar, ApiError? Error)> CompileAsync(
        AnswerConstraint? constraint, GrammarCache grammars, CancellationToken cancellation) =>
        constraint is null ? (null, null) : await constraint.CompileAsync(grammars, cancellation);

    private async Task<(CompiledGrammar? Grammar, ApiError? Error)> CompileAsync(GrammarCache grammars, CancellationToken cancellation)
    {
        try
        {
            return (await grammars.GetAsync(Key, Root, cancellation), null);
        }
        catch (GrammarException e)
        {
            ApiError error = Format?.Error(e) ?? ApiError.BadValue(Param, ApiError.Echo(e.Message));
            return (null, Rename?.Invoke(error) ?? error);
        }
    }
}
