namespace GemmaServer.Text;

/// <summary>Writes JSON values in the model's notation: strings between delimiter tokens, keys bare and sorted.</summary>
internal static class ValueWriter
{
    /// <summary>Any value; <paramref name="quoteKeys"/> puts keys of nested maps between delimiters (only in declarations).</summary>
    public static void Value(PromptWriter writer, ChatValue value, bool quoteKeys)
    {
        switch (value.Kind)
        {
            case ChatValueKind.Null:
                writer.Text("null");
                break;
            case ChatValueKind.Boolean:
                writer.Text(value.IsTruthy ? "true" : "false");
                break;
            case ChatValueKind.String:
                writer.Quoted(value.Text);
                break;
            case ChatValueKind.List:
                writer.Text("[");
                for (int i = 0; i < value.Items.Count; i++)
                {
                    if (i > 0) writer.Text(",");
                    Value(writer, value.Items[i], quoteKeys);
                }
                writer.Text("]");
                break;
            case ChatValueKind.Map:
                writer.Text("{");
                Pairs(writer, value, quoteKeys);
                writer.Text("}");
                break;
            default:
                writer.Text(value.Text);
                break;
        }
    }

    /// <summary>A map's members, <c>key:value</c> joined by commas, without braces.</summary>
    public static void Pairs(PromptWriter writer, ChatValue map, bool quoteKeys)
    {
        bool first = true;
        foreach ((string key, ChatValue value) in Sorted(map))
        {
            if (!first) writer.Text(",");
            first = false;
            if (quoteKeys) writer.Quoted(key);
            else writer.Text(key);
            writer.Text(":");
            Value(writer, value, quoteKeys);
        }
    }

    /// <summary>A map's members as jinja's <c>dictsort</c> orders them: by lower-cased key, by code point, stable.</summary>
    /// <exception cref="ChatTemplateException">It is no map.</exception>
    public static IEnumerable<KeyValuePair<string, ChatValue>> Sorted(ChatValue map)
    {
        if (map.Kind != ChatValueKind.Map) throw new ChatTemplateException("A JSON object was expected in a tool declaration.");
        return map.Members.OrderBy(static m => PythonText.Lower(m.Key), Comparer<string>.Create(PythonText.CompareCodePoints));
    }

    /// <summary>What Python's <c>for</c> gives: a list's items, a map's keys, a string's characters, each printed.</summary>
    /// <exception cref="ChatTemplateException">It is a scalar.</exception>
    public static IEnumerable<string> Iterate(ChatValue value) => value.Kind switch
    {
        ChatValueKind.List => value.Items.Select(static item => item.ToString()),
        ChatValueKind.Map => value.Members.Select(static member => member.Key),
        ChatValueKind.String => value.Text.EnumerateRunes().Select(static rune => rune.ToString()),
        _ => throw new ChatTemplateException("A JSON array was expected in a tool declaration."),
    };
}
