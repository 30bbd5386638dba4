using System.Text;
using System.Text.Json;

namespace GemmaServer.Text;

/// <summary>What a <see cref="ChatValue"/> is.</summary>
public enum ChatValueKind
{
    /// <summary>JSON null.</summary>
    Null,

    /// <summary>true or false.</summary>
    Boolean,

    /// <summary>A number, kept as the text the prompt shows.</summary>
    Number,

    /// <summary>A string.</summary>
    String,

    /// <summary>An array.</summary>
    List,

    /// <summary>An object.</summary>
    Map,
}

/// <summary>
/// A JSON value as the chat template sees it: numbers already printed as Python prints them, duplicate keys resolved (the last
/// value, at the first one's place), lone surrogates replaced by U+FFFD. Immutable, and free of any JsonDocument's lifetime.
/// </summary>
public sealed class ChatValue
{
    /// <summary>Deepest nesting that <see cref="From"/> takes; renderer and parsers recurse no deeper.</summary>
    public const int MaxDepth = 64;

    private readonly Dictionary<string, ChatValue>? _map;

    private ChatValue(ChatValueKind kind, string text = "", IReadOnlyList<ChatValue>? items = null,
        IReadOnlyList<KeyValuePair<string, ChatValue>>? members = null)
    {
        (Kind, Text, Items, Members) = (kind, text, items ?? [], members ?? []);
        if (members is null) return;
        _map = new(members.Count, StringComparer.Ordinal);
        foreach ((string key, ChatValue value) in members) _map.Add(key, value);
    }

    /// <summary>JSON null.</summary>
    public static ChatValue Null { get; } = new(ChatValueKind.Null, "None");

    /// <summary>JSON true.</summary>
    public static ChatValue True { get; } = new(ChatValueKind.Boolean, "True");

    /// <summary>JSON false.</summary>
    public static ChatValue False { get; } = new(ChatValueKind.Boolean, "False");

    /// <summary>An object without members.</summary>
    public static ChatValue EmptyMap { get; } = new(ChatValueKind.Map, members: []);

    /// <summary>What it is.</summary>
    public ChatValueKind Kind { get; }

    /// <summary>The string itself, or a scalar as Python prints it; empty for lists and maps.</summary>
    public string Text { get; }

    /// <summary>A list's elements; empty for every other kind.</summary>
    public IReadOnlyList<ChatValue> Items { get; }

    /// <summary>A map's members in the order they came; empty for every other kind.</summary>
    public IReadOnlyList<KeyValuePair<string, ChatValue>> Members { get; }

    /// <summary>A map's member; null when there is none or this is no map.</summary>
    public ChatValue? this[string key] => _map is not null && _map.TryGetValue(key, out ChatValue? value) ? value : null;

    /// <summary>A string value.</summary>
    public static ChatValue String(string text) => new(ChatValueKind.String, PythonText.ReplaceLoneSurrogates(text));

    /// <summary>A list value.</summary>
    public static ChatValue List(IReadOnlyList<ChatValue> items) => new(ChatValueKind.List, items: items);

    /// <summary>A map value; keys must differ.</summary>
    public static ChatValue Map(IReadOnlyList<KeyValuePair<string, ChatValue>> members) => new(ChatValueKind.Map, members: members);

    /// <summary>Reads a JSON value.</summary>
    /// <exception cref="ChatTemplateException">It is nested deeper than <see cref="MaxDepth"/>.</exception>
    public static ChatValue From(JsonElement element) =>
        TryFrom(element) ?? throw new ChatTemplateException($"The JSON value is nested deeper than {MaxDepth} levels.");

    /// <summary>As <see cref="From"/>; null when it is nested too deeply.</summary>
    public static ChatValue? TryFrom(JsonElement element) => Read(element, MaxDepth);

    /// <summary>Whether Python takes it for true: null, false, zero and everything empty are not.</summary>
    internal bool IsTruthy => Kind switch
    {
        ChatValueKind.Null => false,
        ChatValueKind.Boolean => ReferenceEquals(this, True),
        ChatValueKind.Number => Text is not ("0" or "0.0" or "-0.0"),
        ChatValueKind.String => Text.Length > 0,
        ChatValueKind.List => Items.Count > 0,
        _ => Members.Count > 0,
    };

    /// <summary>The value as Python's <c>str()</c> prints it; lists and maps come out in Python's notation.</summary>
    public override string ToString()
    {
        if (Kind is not (ChatValueKind.List or ChatValueKind.Map)) return Text;
        StringBuilder output = new();
        AppendRepr(output);
        return output.ToString();
    }

    private void AppendRepr(StringBuilder output)
    {
        switch (Kind)
        {
            case ChatValueKind.String:
                PythonText.AppendRepr(output, Text);
                break;
            case ChatValueKind.List:
                output.Append('[');
                for (int i = 0; i < Items.Count; i++)
                {
                    if (i > 0) output.Append(", ");
                    Items[i].AppendRepr(output);
                }
                output.Append(']');
                break;
            case ChatValueKind.Map:
                output.Append('{');
                for (int i = 0; i < Members.Count; i++)
                {
                    if (i > 0) output.Append(", ");
                    PythonText.AppendRepr(output, Members[i].Key);
                    output.Append(": ");
                    Members[i].Value.AppendRepr(output);
                }
                output.Append('}');
                break;
            default:
                output.Append(Text);
                break;
        }
    }

    private static ChatValue? Read(JsonElement element, int depth) => element.ValueKind switch
    {
        JsonValueKind.Null or JsonValueKind.Undefined => Null,
        JsonValueKind.True => True,
        JsonValueKind.False => False,
        JsonValueKind.Number => new(ChatValueKind.Number, PythonText.Number(element.GetRawText())),
        JsonValueKind.String => new(ChatValueKind.String, JsonText.StringOf(element)),
        JsonValueKind.Array => depth == 0 ? null : ReadList(element, depth - 1),
        _ => depth == 0 ? null : ReadMap(element, depth - 1),
    };

    private static ChatValue? ReadList(JsonElement element, int depth)
    {
        List<ChatValue> items = new(element.GetArrayLength());
        foreach (JsonElement item in element.EnumerateArray())
        {
            if (Read(item, depth) is not { } value) return null;
            items.Add(value);
        }
        return List(items);
    }

    private static ChatValue? ReadMap(JsonElement element, int depth)
    {
        List<KeyValuePair<string, ChatValue>> members = [];
        Dictionary<string, int> places = new(StringComparer.Ordinal);
        foreach (JsonProperty property in element.EnumerateObject())
        {
            if (Read(property.Value, depth) is not { } value) return null;
            string key = JsonText.NameOf(property);
            if (places.TryAdd(key, members.Count)) members.Add(new(key, value));
            else members[places[key]] = new(key, value);
        }
        return Map(members);
    }
}
