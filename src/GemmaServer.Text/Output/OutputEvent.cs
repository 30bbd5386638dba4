namespace GemmaServer.Text;

/// <summary>What a piece of the model's output is.</summary>
public enum OutputEventKind
{
    /// <summary>More thinking.</summary>
    Reasoning,

    /// <summary>More visible text.</summary>
    Content,

    /// <summary>A tool call begins; the text is the tool's name.</summary>
    ToolCallStart,

    /// <summary>More of a call's arguments, as JSON text.</summary>
    ToolCallArguments,

    /// <summary>The call is whole: its arguments joined are a JSON object.</summary>
    ToolCallEnd,
}

/// <summary>One settled piece of output; nothing in it is ever taken back.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="ToolIndex">For tool calls: the call's place in the answer, from 0. Otherwise 0.</param>
/// <param name="Text">The delta, or the tool's name; empty at a call's end.</param>
public readonly record struct OutputEvent(OutputEventKind Kind, int ToolIndex, string Text);

/// <summary>Why an answer ended, as the API says it.</summary>
public enum OutputFinish
{
    /// <summary>The model stopped.</summary>
    Stop,

    /// <summary>The token limit, whatever was complete by then.</summary>
    Length,

    /// <summary>The model stopped after at least one complete tool call.</summary>
    ToolCalls,
}
