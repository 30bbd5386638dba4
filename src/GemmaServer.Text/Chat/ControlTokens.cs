namespace GemmaServer.Text;

/// <summary>The control tokens of Gemma 4's chat format, by their text.</summary>
internal static class ControlTokens
{
    public const string Bos = "<bos>";
    public const string Eos = "<eos>";
    public const string TurnStart = "<|turn>";
    public const string TurnEnd = "<turn|>";
    public const string ChannelStart = "<|channel>";
    public const string ChannelEnd = "<channel|>";
    public const string Think = "<|think|>";
    public const string ToolStart = "<|tool>";
    public const string ToolEnd = "<tool|>";
    public const string ToolCallStart = "<|tool_call>";
    public const string ToolCallEnd = "<tool_call|>";
    public const string ToolResponseStart = "<|tool_response>";
    public const string ToolResponseEnd = "<tool_response|>";
    public const string Quote = "<|\"|>";
    public const string Image = "<|image|>";
    public const string Audio = "<|audio|>";
    public const string Video = "<|video|>";

    /// <summary>The one channel name the model knows, with the newline that ends it.</summary>
    public const string ThoughtLabel = "thought\n";
}
