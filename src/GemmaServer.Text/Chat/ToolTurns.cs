namespace GemmaServer.Text;

/// <summary>
/// Checks that every call has its result and every result its call, as OpenAI does. The template would leave a tool block open
/// or drop the orphan in silence (gemma4-chat.md, D2).
/// </summary>
internal static class ToolTurns
{
    public static ChatRequestError? Check(IReadOnlyList<ChatMessage> messages)
    {
        for (int i = 0; i < messages.Count; i++)
        {
            if (messages[i].Role == "tool")
                return ChatRequestError.Value($"messages[{i}].role", "Invalid parameter: messages with role 'tool' must be a response to a preceding message with 'tool_calls'.");
            IReadOnlyList<ChatToolCall> calls = messages[i].ToolCalls;
            if (calls.Count == 0) continue;
            int assistant = i;
            HashSet<string> open = [.. calls.Select(static c => c.Id ?? "")];
            HashSet<string> known = [.. open];
            for (; i + 1 < messages.Count && messages[i + 1].Role == "tool"; i++)
            {
                string id = messages[i + 1].ToolCallId ?? "";
                if (!known.Contains(id))
                    return ChatRequestError.Value($"messages[{i + 1}].tool_call_id", $"Invalid parameter: 'tool_call_id' of '{ChatRequestError.Shown(id)}' not found in 'tool_calls' of previous message.");
                open.Remove(id);
            }
            if (open.Count > 0)
            {
                return ChatRequestError.Value($"messages[{assistant}].tool_calls",
                    "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. "
                    + $"The following tool_call_ids did not have response messages: {ChatRequestError.Shown(string.Join(", ", open.Order(StringComparer.Ordinal)))}");
            }
        }
        return null;
    }
}
