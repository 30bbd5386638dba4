using System.ClientModel;
using System.Text;
using System.Text.Json;
using OpenAI;
using OpenAI.Chat;
using OpenAI.Models;

namespace GemmaServer.Tests.Http;

/// <summary>The official OpenAI SDK for .NET against the real host.</summary>
public sealed class SdkTests(ScriptedHost fixture) : IClassFixture<ScriptedHost>
{
    private static readonly ChatTool s_weather = ChatTool.CreateFunctionTool("get_weather", "Weather of a city.",
        BinaryData.FromString("""{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}},"required":["city"]}"""));

    private OpenAIClient Client => new(new ApiKeyCredential("none"), new OpenAIClientOptions { Endpoint = new Uri(fixture.Host.Url, "/v1") });

    private ChatClient Chat => Client.GetChatClient("scripted");

    [Fact]
    public async Task A_whole_chat()
    {
        ChatCompletion answer = await Chat.CompleteChatAsync(new SystemChatMessage("Be short."), new UserChatMessage("hello"));
        Assert.Equal("Hello! I am a test.", answer.Content[0].Text);
        Assert.Equal(ChatFinishReason.Stop, answer.FinishReason);
        Assert.Equal("scripted", answer.Model);
        Assert.True(answer.Usage.InputTokenCount > 0);
        Assert.Equal(answer.Usage.TotalTokenCount, answer.Usage.InputTokenCount + answer.Usage.OutputTokenCount);
    }

    [Fact]
    public async Task A_streamed_chat_with_usage()
    {
        StringBuilder text = new();
        ChatFinishReason? finish = null;
        ChatTokenUsage? usage = null;
        await foreach (StreamingChatCompletionUpdate update in Chat.CompleteChatStreamingAsync(new UserChatMessage("unicode")))
        {
            foreach (ChatMessageContentPart part in update.ContentUpdate) text.Append(part.Text);
            finish ??= update.FinishReason;
            usage ??= update.Usage;
        }
        Assert.Equal(ScriptedHost.Scripts["unicode"], text.ToString());
        Assert.Equal(ChatFinishReason.Stop, finish);
        Assert.True(usage!.OutputTokenCount > 0);
    }

    [Fact]
    public async Task A_tool_call_round_trip()
    {
        ChatCompletionOptions options = new() { Tools = { s_weather } };
        List<ChatMessage> messages = [new UserChatMessage("weather")];
        ChatCompletion answer = await Chat.CompleteChatAsync(messages, options);
        Assert.Equal(ChatFinishReason.ToolCalls, answer.FinishReason);
        ChatToolCall call = Assert.Single(answer.ToolCalls);
        Assert.Equal("get_weather", call.FunctionName);
        Assert.Equal("Paris", JsonDocument.Parse(call.FunctionArguments).RootElement.GetProperty("city").GetString());

        messages.Add(new AssistantChatMessage(answer));
        messages.Add(new ToolChatMessage(call.Id, "sunny"));
        answer = await Chat.CompleteChatAsync(messages, options);
        Assert.Equal("It is sunny in Paris.", answer.Content[0].Text);
    }

    [Fact]
    public async Task Streamed_tool_calls()
    {
        Dictionary<int, (string? Id, string? Name, StringBuilder Arguments)> calls = [];
        ChatFinishReason? finish = null;
        await foreach (StreamingChatCompletionUpdate update in Chat.CompleteChatStreamingAsync([new UserChatMessage("two calls")], new ChatCompletionOptions { Tools = { s_weather } }))
        {
            foreach (StreamingChatToolCallUpdate call in update.ToolCallUpdates)
            {
                if (!calls.ContainsKey(call.Index)) calls[call.Index] = (call.ToolCallId, call.FunctionName, new StringBuilder());
                calls[call.Index].Arguments.Append(call.FunctionArgumentsUpdate?.ToString());
            }
            finish ??= update.FinishReason;
        }
        Assert.Equal(ChatFinishReason.ToolCalls, finish);
        Assert.Equal(["first", "second"], calls.OrderBy(static c => c.Key).Select(static c => c.Value.Name));
        Assert.Equal("1.50", JsonDocument.Parse(calls[0].Arguments.ToString()).RootElement.GetProperty("x").GetRawText());
        Assert.Equal("{}", calls[1].Arguments.ToString());
    }

    [Fact]
    public async Task Models()
    {
        OpenAIModelClient models = Client.GetOpenAIModelClient();
        Assert.Contains((await models.GetModelsAsync()).Value, static m => m.Id == "scripted");
        Assert.Equal("scripted", (await models.GetModelAsync("scripted")).Value.Id);
        ClientResultException unknown = await Assert.ThrowsAsync<ClientResultException>(() => models.GetModelAsync("gpt-4"));
        Assert.Equal(404, unknown.Status);
    }

    [Fact]
    public async Task Error_classes()
    {
        ClientResultException bad = await Assert.ThrowsAsync<ClientResultException>(
            () => Chat.CompleteChatAsync([new UserChatMessage("hello")], new ChatCompletionOptions { Temperature = 3 }));
        Assert.Equal(400, bad.Status);
        Assert.Contains("temperature", bad.Message);

        ClientResultException model = await Assert.ThrowsAsync<ClientResultException>(() => Client.GetChatClient("gpt-4").CompleteChatAsync(new UserChatMessage("hello")));
        Assert.Equal(404, model.Status);

        await using TestHost closed = await TestHost.StartAsync(new ServerOptions { Port = 0, LogLevel = Microsoft.Extensions.Logging.LogLevel.None, ServedModelName = ["scripted"], ApiKey = ["secret"] });
        OpenAIClientOptions options = new() { Endpoint = new Uri(closed.Url, "/v1") };
        ClientResultException key = await Assert.ThrowsAsync<ClientResultException>(
            () => new OpenAIClient(new ApiKeyCredential("wrong"), options).GetChatClient("scripted").CompleteChatAsync(new UserChatMessage("hello")));
        Assert.Equal(401, key.Status);
        ChatCompletion answer = await new OpenAIClient(new ApiKeyCredential("secret"), options).GetChatClient("scripted").CompleteChatAsync(new UserChatMessage("hello"));
        Assert.Equal("You said: hello", answer.Content[0].Text);
    }

    [Fact]
    public async Task Log_probabilities()
    {
        ChatCompletion answer = await Chat.CompleteChatAsync([new UserChatMessage("hello")], new ChatCompletionOptions { IncludeLogProbabilities = true, TopLogProbabilityCount = 2 });
        Assert.Equal("Hello! I am a test.", string.Concat(answer.ContentTokenLogProbabilities.Select(static t => t.Token)));
        Assert.All(answer.ContentTokenLogProbabilities, static t => Assert.Equal(2, t.TopLogProbabilities.Count));
    }
}
