using System.Text.Json;

namespace GemmaServer.Text;

/// <summary>How values are written: as JSON, or as Gemma writes the arguments of a call. Numbers and literals are the same in both.</summary>
internal abstract class ValueSpelling
{
    public abstract GrammarNode OpenObject { get; }

    public abstract GrammarNode CloseObject { get; }

    public abstract GrammarNode OpenArray { get; }

    public abstract GrammarNode CloseArray { get; }

    public abstract GrammarNode Comma { get; }

    /// <summary>A string with this content; nothing where it cannot be written.</summary>
    /// <param name="content">Grammar of the decoded text, a regular one.</param>
    /// <param name="isCanonical">Each character in one way only, so that two texts are equal when their spellings are.</param>
    public abstract GrammarNode Text(GrammarNode content, bool isCanonical);

    /// <summary>A member's name with what separates it from its value.</summary>
    public abstract GrammarNode Name(string name);

    /// <summary>Any of these names; no two spellings of one name.</summary>
    public abstract GrammarNode Name(GrammarNode names);

    /// <summary>A value in one spelling.</summary>
    public GrammarNode Value(JsonElement value)
    {
        switch (value.ValueKind)
        {
            case JsonValueKind.String:
                return Text(GrammarNode.Literal(JsonText.StringOf(value)), isCanonical: true);
            case JsonValueKind.Array:
                List<GrammarNode> items = [OpenArray];
                foreach (JsonElement item in value.EnumerateArray()) items.AddRange(items.Count > 1 ? [Comma, Value(item)] : [Value(item)]);
                return GrammarParts.Seq([.. items, CloseArray]);
            case JsonValueKind.Object:
                List<GrammarNode> members = [OpenObject];
                foreach (JsonProperty member in value.EnumerateObject())
                {
                    if (members.Count > 1) members.Add(Comma);
                    members.AddRange([Name(JsonText.NameOf(member)), Value(member.Value)]);
                }
                return GrammarParts.Seq([.. members, CloseObject]);
            default:
                return GrammarNode.Literal(value.GetRawText());
        }
    }
}
