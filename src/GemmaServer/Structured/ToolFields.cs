using System.Text;
using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>What a request says about calling its tools: which ones, whether it has to, how closely arguments follow their schemas.</summary>
/// <remarks>
/// None of it shows in the prompt, so that the prefix cache holds across turns of an agent that changes its mind. What narrows the
/// choice or binds the arguments is done by a grammar; <c>auto</c> over tools without <c>strict</c> needs none.
/// </remarks>
internal sealed class ToolFields
{
    private readonly FieldReader _fields;
    private readonly IReadOnlyList<string> _declared;
    private readonly List<Tool> _tools = [];

    private ToolFields(FieldReader fields, IReadOnlyList<string> declared) => (_fields, _declared) = (fields, declared);

    /// <summary>Whether the answer calls, may call, or does not.</summary>
    public CallMode Mode { get; private set; }

    /// <summary>Whether an answer without a grammar could call what it may not, or how it may not.</summary>
    public bool NeedsGrammar { get; private set; }

    /// <summary>False ends the answer after its first call.</summary>
    public bool Parallel { get; private set; }

    /// <summary>Reads <c>tool_choice</c>, <c>parallel_tool_calls</c> and each tool's <c>strict</c>; mistakes stay in <paramref name="fields"/>.</summary>
    /// <param name="fields">The request, whose <c>tools</c> were read.</param>
    /// <param name="declared">Names of the declared tools, in order.</param>
    public static ToolFields Read(FieldReader fields, IReadOnlyList<string> declared)
    {
        ToolFields t = new(fields, declared) { Mode = declared.Count > 0 ? CallMode.Allowed : CallMode.None };
        t.Parallel = fields.Flag("parallel_tool_calls", true);
        IReadOnlySet<string>? allowed = t.ReadChoice();
        if (fields.Error is not null || t.Mode == CallMode.None) return t;

        bool isForced = t.Mode == CallMode.Required;
        t.NeedsGrammar = isForced || allowed is not null;
        int i = 0;
        foreach (JsonElement element in fields.Root.GetProperty("tools").EnumerateArray())
        {
            string name = declared[i];
            JsonElement function = element.GetProperty("function");
            bool isStrict = function.TryGetProperty("strict", out JsonElement strict) && strict.ValueKind != JsonValueKind.Null
                && fields.Flag($"tools[{i}].function.strict", strict) == true;
            if (allowed?.Contains(name) != false) t._tools.Add(new Tool(i, name, function, isStrict, isStrict || isForced));
            t.NeedsGrammar |= isStrict && allowed?.Contains(name) != false;
            i++;
        }
        return t;
    }

    /// <summary>What may be called, with grammars for the arguments; null with a mistake in the fields.</summary>
    /// <param name="quoteToken">The delimiter of strings.</param>
    /// <param name="key">Gets what the grammars are made of.</param>
    public IReadOnlyList<CallableTool>? Grammars(int quoteToken, StringBuilder key)
    {
        List<CallableTool> callable = [];
        GrammarNode? any = null;
        foreach (Tool tool in _tools)
        {
            bool hasSchema = tool.Function.TryGetProperty("parameters", out JsonElement schema) && schema.ValueKind == JsonValueKind.Object;
            bool follows = tool.FollowsSchema && hasSchema;
            // Lengths stand before texts, so that no name can pass for another tool.
            key.Append(tool.Name.Length).Append(' ').Append(tool.Name).Append(follows ? schema.GetRawText() : "any").Append(tool.IsStrict).Append('\n');
            try
            {
                callable.Add(new CallableTool(tool.Name, follows ? JsonSchemaGrammar.Arguments(schema, quoteToken, AnswerFormatReader.SchemaOptions()) : Any()));
            }
            catch (GrammarException) when (!tool.IsStrict)
            {
                callable.Add(new CallableTool(tool.Name, Any()));     // nobody was promised more
            }
            catch (GrammarException e)
            {
                _fields.Fail(ApiError.InvalidFunction(tool.Index, tool.Name, ApiError.Echo(e.Message)));
                return null;
            }
        }
        return callable;

        GrammarNode Any() => any ??= JsonSchemaGrammar.Arguments(s_anyObject, quoteToken, AnswerFormatReader.SchemaOptions());
    }

    private static readonly JsonElement s_anyObject = JsonElement.Parse("""{"type":"object"}""");

    /// <summary>Sets the mode; gives the names that may be called, null for all.</summary>
    private IReadOnlySet<string>? ReadChoice()
    {
        if (!_fields.TryGet("tool_choice", out JsonElement value)) return null;
        if (value.ValueKind == JsonValueKind.String)
        {
            string text = value.GetString()!;
            if (text is not ("none" or "auto" or "required")) _fields.Fail(ApiError.Value("tool_choice", text, "none", "auto", "required"));
            else if (text == "required" && _declared.Count == 0) _fields.Fail(ApiError.BadValue("tool_choice", "it is only allowed when 'tools' are specified."));
            else if (text != "auto") Mode = text == "none" ? CallMode.None : CallMode.Required;
            return null;
        }
        if (value.ValueKind != JsonValueKind.Object)
        {
            _fields.Fail(ApiError.WrongType("tool_choice", "one of a string or object", value));
            return null;
        }
        FieldReader choice = _fields.Into("tool_choice", value);
        IReadOnlySet<string>? names = ReadObject(choice);
        _fields.Take(choice);
        return names;
    }

    private IReadOnlySet<string>? ReadObject(FieldReader choice)
    {
        if (!choice.TryGet("type", out _)) choice.Fail(ApiError.Missing("tool_choice.type"));
        switch (choice.Text("type"))
        {
            case null:
                return null;
            case "function":
                if (!choice.TryGetObject("function", out JsonElement function)) choice.Fail(ApiError.Missing("tool_choice.function"));
                if (choice.Error is not null) return null;
                Mode = CallMode.Required;
                return ReadName(choice, function, "tool_choice.function") is { } name ? new HashSet<string> { name } : null;
            case "allowed_tools":
                return ReadAllowed(choice);
            case var type:
                choice.Fail(ApiError.Value("tool_choice.type", type, "function", "allowed_tools"));
                return null;
        }
    }

    /// <summary><c>{type, allowed_tools: {mode, tools}}</c>, or flat as Responses has it: <c>{type, mode, tools}</c>.</summary>
    private HashSet<string>? ReadAllowed(FieldReader choice)
    {
        bool isNested = choice.TryGetObject("allowed_tools", out JsonElement nested);
        if (choice.Error is not null) return null;
        FieldReader allowed = isNested ? choice.Into("allowed_tools", nested) : choice;
        HashSet<string> names = new(StringComparer.Ordinal);
        string? mode = allowed.OneOf("mode", "auto", "required");
        if (!allowed.TryGetArray("tools", out JsonElement tools)) allowed.Fail(ApiError.Missing(allowed.PathOf("tools")));
        else
        {
            int i = 0;
            foreach (JsonElement tool in tools.EnumerateArray())
            {
                string path = $"{allowed.PathOf("tools")}[{i++}]";
                if (tool.ValueKind != JsonValueKind.Object) allowed.Fail(ApiError.WrongType(path, "an object", tool));
                if (allowed.Error is not null) break;
                bool isWrapped = tool.TryGetProperty("function", out JsonElement function) && function.ValueKind == JsonValueKind.Object;
                if (ReadName(allowed, isWrapped ? function : tool, isWrapped ? path + ".function" : path) is { } name) names.Add(name);
            }
        }
        if (mode == "required" && names.Count == 0) allowed.Fail(ApiError.EmptyArray(allowed.PathOf("tools")));
        if (isNested) choice.Take(allowed);
        Mode = names.Count == 0 ? CallMode.None : mode == "required" ? CallMode.Required : CallMode.Allowed;
        return names.Count == _declared.Count ? null : names;
    }

    /// <summary>The name of a declared tool.</summary>
    private string? ReadName(FieldReader choice, JsonElement owner, string path)
    {
        if (!owner.TryGetProperty("name", out JsonElement name)) choice.Fail(ApiError.Missing($"{path}.name"));
        else if (name.ValueKind != JsonValueKind.String) choice.Fail(ApiError.WrongType($"{path}.name", "a string", name));
        else if (!_declared.Contains(name.GetString()!)) choice.Fail(ApiError.BadValue($"{path}.name", $"there is no tool named '{ApiError.Echo(name.GetString()!)}' in 'tools'."));
        else return name.GetString();
        return null;
    }

    /// <param name="Index">Place among the declared tools.</param>
    /// <param name="Name">Its name.</param>
    /// <param name="Function">The declaration.</param>
    /// <param name="IsStrict">Whether the client was promised that arguments follow the schema.</param>
    /// <param name="FollowsSchema">Whether they are made to: also where a call is forced, as far as the schema can be followed.</param>
    private sealed record Tool(int Index, string Name, JsonElement Function, bool IsStrict, bool FollowsSchema);
}
