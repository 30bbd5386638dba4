namespace GemmaServer.Text;

/// <summary>What a generated token means to the output parser.</summary>
internal enum OutputToken
{
    /// <summary>Ordinary text, even if it spells a control token.</summary>
    Text,

    /// <summary>Opens a thought channel.</summary>
    ChannelStart,

    /// <summary>Closes it.</summary>
    ChannelEnd,

    /// <summary>Opens a tool call block.</summary>
    ToolCallStart,

    /// <summary>Closes it.</summary>
    ToolCallEnd,

    /// <summary>String delimiter inside a call.</summary>
    Quote,

    /// <summary>The answer is over: a stop token, or the start of an invented turn or tool result.</summary>
    End,

    /// <summary>Any other control token; dropped.</summary>
    Other,
}
