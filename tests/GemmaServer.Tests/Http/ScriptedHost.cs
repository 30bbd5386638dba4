namespace GemmaServer.Tests.Http;

/// <summary>One host whose model has an answer for each thing a chat answer can hold.</summary>
public sealed class ScriptedHost : IAsyncLifetime
{
    /// <summary>Every script, by user text.</summary>
    public static IReadOnlyDictionary<string, string> Scripts { get; } = new Dictionary<string, string>
    {
        ["hello"] = "Hello! I am a test.",
        ["nothing"] = "",
        ["weather"] = "<|tool_call>call:get_weather{city:<|\"|>Paris<|\"|>,days:2}<tool_call|><|tool_response>",
        ["two calls"] = "Let me see.<|tool_call>call:first{x:1.50,deep:{list:[true,null,<|\"|>ä\"\\<|\"|>]}}<tool_call|><|tool_call>call:second{}<tool_call|><|tool_response>",
        ["tool result"] = "It is sunny in Paris.",
        ["think"] = "<|channel>thought\nTwo and two. Four.<channel|>The answer is 4.",
        ["only think"] = "<|channel>thought\nHmm.<channel|>",
        ["stop me"] = "one two STOP three",
        ["unicode"] = "Grüße 👍🏽 日本 \u2603 \"quoted\" \\ back\tslash\n",
        ["long"] = string.Concat(Enumerable.Repeat("word ", 60)),
        ["spelled"] = "A plain answer.",
    };

    internal TestHost Host { get; private set; } = null!;

    public async Task InitializeAsync() => Host = await TestHost.StartAsync(script: static runner =>
    {
        foreach ((string user, string answer) in Scripts) runner.Answers[user] = answer;
    });

    public async Task DisposeAsync() => await Host.DisposeAsync();
}
