using static GemmaServer.Text.ControlTokens;

namespace GemmaServer.Text;

/// <summary>
/// Renders a conversation into Gemma 4's prompt format, byte for byte as the canonical template of 2026-07-09.
/// </summary>
/// <remarks>Source: spec/gemma4-chat.md, section 4, which describes the template's behaviour; numbers below are its own.</remarks>
public sealed class ChatRenderer
{
    private readonly ChatPrompt _prompt;
    private readonly PromptWriter _writer = new();
    private readonly List<ChatMessage> _messages;   // without a leading system or developer message
    private readonly bool _thinking;
    private readonly int _lastUser;
    private Left _left;
    private bool _leftTurnClosed;

    /// <summary>What the last non-tool message left behind; decides the generation prompt.</summary>
    private enum Left { Turn, PendingCalls, Results }

    private ChatRenderer(ChatPrompt prompt)
    {
        _prompt = prompt;
        _thinking = prompt.EnableThinking == true;
        _messages = [.. prompt.Messages.Skip(HasSystemMessage ? 1 : 0)];
        _lastUser = _messages.FindLastIndex(static m => m.Role == "user");
    }

    private bool HasSystemMessage => _prompt.Messages is [{ Role: "system" or "developer" }, ..];

    /// <summary>Renders.</summary>
    /// <exception cref="ChatTemplateException">The conversation has a shape the template has no form for; the message names it.</exception>
    public static RenderedPrompt Render(ChatPrompt prompt) => new ChatRenderer(prompt).Render();

    private RenderedPrompt Render()
    {
        if (_prompt.ContinueFinalMessage && _messages is not [.., { Role: not "tool" }])
            throw new ChatTemplateException("There is no final message to continue.");

        _writer.Control(Bos);
        SystemTurn();
        string? previousRole = null;
        for (int i = 0; i < _messages.Count; i++)
        {
            if (_messages[i].Role == "tool") continue;   // shown with the calls they answer
            Turn(i, previousRole);
            previousRole = _messages[i].Role;
        }
        return _writer.ToPrompt(!_prompt.ContinueFinalMessage && _prompt.AddGenerationPrompt ? GenerationPrompt() : PromptState.Content);
    }

    private void SystemTurn()
    {
        if (!_thinking && _prompt.Tools.Count == 0 && !HasSystemMessage) return;
        _writer.Control(TurnStart);
        _writer.Text("system\n");
        if (_thinking)
        {
            _writer.Control(Think);
            _writer.Text("\n");
        }
        if (HasSystemMessage) SystemText(_prompt.Messages[0].Content);
        foreach (ChatValue tool in _prompt.Tools)
        {
            _writer.Control(ToolStart);
            ToolDeclarationWriter.Declaration(_writer, tool);
            _writer.Control(ToolEnd);
        }
        EndTurn();
    }

    /// <summary>Parts of the system message are each followed by a blank, whatever they are.</summary>
    private void SystemText(ChatValue? content)
    {
        if (content is null) return;
        if (content.Kind == ChatValueKind.String) _writer.Text(PythonText.Strip(content.Text));
        foreach (ChatValue part in content.Items)
        {
            _writer.Text(PythonText.Strip(part["text"]?.ToString() ?? ""));
            _writer.Text(" ");
        }
    }

    private void Turn(int index, string? previousRole)
    {
        ChatMessage message = _messages[index];
        bool isModel = message.Role is "assistant" or "model";

        // 1. and 2. Role and header; consecutive assistant messages share one turn.
        if (!(isModel && previousRole == "assistant"))
        {
            _writer.Control(TurnStart);
            _writer.Text(isModel ? "model" : message.Role);
            _writer.Text("\n");
        }

        // 3. Reasoning, calls, results, text, in this order.
        Reasoning(message, index);
        foreach (ChatToolCall call in message.ToolCalls) Call(call);
        bool hasResults = Results(message, index);
        bool hasText = Content(message.Content, isModel);
        if (_prompt.ContinueFinalMessage && index == _messages.Count - 1) return;

        // 4. Close.
        string? nextRole = _messages.Skip(index + 1).FirstOrDefault(static m => m.Role != "tool")?.Role;
        bool hasCalls = message.ToolCalls.Count > 0;
        _left = hasResults ? Left.Results : hasCalls ? Left.PendingCalls : Left.Turn;
        _leftTurnClosed = false;
        if (hasCalls && !hasResults) _writer.Control(ToolResponseStart);
        else if (isModel && nextRole == "assistant") return;
        else if (hasResults && !hasText && nextRole is null) return;
        else EndTurn();
    }

    private void Reasoning(ChatMessage message, int index)
    {
        bool isShown = index > _lastUser || (_prompt.PreserveThinking == true && message.ToolCalls.Count > 0);
        if (string.IsNullOrEmpty(message.Reasoning) || !isShown) return;
        _writer.Control(ChannelStart);
        _writer.Text(ThoughtLabel);
        _writer.Text(message.Reasoning);
        _writer.Text("\n");
        _writer.Control(ChannelEnd);
    }

    private void Call(ChatToolCall call)
    {
        _writer.Control(ToolCallStart);
        _writer.Text("call:");
        _writer.Text(call.Name);
        _writer.Text("{");
        if (call.Arguments.Kind == ChatValueKind.Map) ValueWriter.Pairs(_writer, call.Arguments, quoteKeys: false);
        else if (call.Arguments.Kind != ChatValueKind.Null)
            throw new ChatTemplateException($"The arguments of the call to '{call.Name}' must be a JSON object.");
        _writer.Text("}");
        _writer.Control(ToolCallEnd);
    }

    /// <summary>The results of a message's calls: those on the message itself, else the tool messages right behind it.</summary>
    private bool Results(ChatMessage message, int index)
    {
        if (message.ToolResponses.Count > 0)
        {
            foreach (ChatToolResponse response in message.ToolResponses)
                Result(string.IsNullOrEmpty(response.Name) ? "unknown" : response.Name, response.Response);
            return true;
        }
        if (message.ToolCalls.Count == 0) return false;
        int i = index + 1;
        for (; i < _messages.Count && _messages[i].Role == "tool"; i++) ToolMessage(_messages[i], message.ToolCalls);
        return i > index + 1;
    }

    private void ToolMessage(ChatMessage message, IReadOnlyList<ChatToolCall> calls)
    {
        // The last call with the id names the result; two missing ids are equal.
        string name = calls.LastOrDefault(c => c.Id == message.ToolCallId)?.Name
            ?? (string.IsNullOrEmpty(message.Name) ? "unknown" : message.Name);
        ChatValue content = message.Content ?? ChatValue.Null;
        if (content.Kind == ChatValueKind.Map)
            throw new ChatTemplateException("The content of a tool message must be a string or a list of parts.");
        if (content.Kind != ChatValueKind.List)
        {
            Result(name, content);
            return;
        }
        Result(name, ChatValue.String(string.Concat(content.Items.Where(static p => PartType(p) == "text").Select(TextOf))));
        foreach (ChatValue part in content.Items) Media(PartType(part));
    }

    private void Result(string name, ChatValue response)
    {
        _writer.Control(ToolResponseStart);
        _writer.Text("response:");
        _writer.Text(name);
        _writer.Text("{");
        if (response.Kind == ChatValueKind.Map)
        {
            ValueWriter.Pairs(_writer, response, quoteKeys: false);
        }
        else
        {
            _writer.Text("value:");
            ValueWriter.Value(_writer, response, quoteKeys: false);
        }
        _writer.Text("}");
        _writer.Control(ToolResponseEnd);
    }

    /// <summary>Text and media markers; true when anything was written. 5. Each text part is trimmed by itself.</summary>
    private bool Content(ChatValue? content, bool isModel)
    {
        if (content is null) return false;
        if (content.Kind == ChatValueKind.String) return Text(content.Text, isModel);
        bool any = false;
        foreach (ChatValue part in content.Items)
        {
            string type = PartType(part);
            any |= type != "text" ? Media(type)
                : isModel ? Text(TextOf(part), isModel: true)
                : Text(part["text"]?.ToString() ?? "", isModel: false);
        }
        return any;
    }

    private bool Text(string text, bool isModel) => _writer.Text(PythonText.Strip(isModel ? WithoutThinking(text) : text));

    private bool Media(string type)
    {
        string? marker = type switch
        {
            "image" or "image_url" => Image,
            "audio" or "input_audio" => Audio,
            "video" => Video,
            _ => null,
        };
        if (marker is not null) _writer.Control(marker);
        return marker is not null;
    }

    /// <summary>Drops thought channels that clients echo back in an assistant's text.</summary>
    private static string WithoutThinking(string text)
    {
        if (!text.Contains(ChannelStart, StringComparison.Ordinal) && !text.Contains(ChannelEnd, StringComparison.Ordinal)) return text;
        return string.Concat(text.Split(ChannelEnd).Select(static piece => piece.Split(ChannelStart)[0]));
    }

    /// <summary>6. What opens the model's turn, by what the last message left.</summary>
    private PromptState GenerationPrompt()
    {
        _writer.BeginGeneration();
        // D1: text, calls and results in one message close the turn although the model has still to answer.
        bool reopen = _prompt.TemplateFixes && _left == Left.Results && _leftTurnClosed;
        if (_left == Left.Turn || reopen)
        {
            _writer.Control(TurnStart);
            _writer.Text("model\n");
            if (_thinking || _prompt.Flavour == TemplateFlavour.Small) return PromptState.Content;
            _writer.Control(ChannelStart);
            _writer.Text(ThoughtLabel);
            _writer.Control(ChannelEnd);
            return PromptState.Content;
        }
        if (_left != Left.Results || !_thinking) return PromptState.Content;
        _writer.Control(ChannelStart);
        _writer.Text(ThoughtLabel);
        return PromptState.ThoughtOpen;
    }

    private void EndTurn()
    {
        _writer.Control(TurnEnd);
        _writer.Text("\n");
        _leftTurnClosed = true;
    }

    private static string PartType(ChatValue part)
    {
        if (part.Kind != ChatValueKind.Map) throw new ChatTemplateException("A content part must be a JSON object.");
        return part["type"]?.ToString() ?? "";
    }

    private static string TextOf(ChatValue part) => part["text"] is { Kind: ChatValueKind.String } text
        ? text.Text
        : throw new ChatTemplateException("A text part needs a string 'text'.");
}
