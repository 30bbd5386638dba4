using System.ClientModel;
using System.Text;
using System.Text.Json;
using OpenAI;
using OpenAI.Chat;
using OpenAI.Models;

namespace GemmaServer.GoldenTests.Demo;

/// <summary>The official .NET client (NuGet <c>OpenAI</c>) against the demo model.</summary>
[Collection(DemoServerCollection.Name)]
public class OpenAiSdkTests(DemoServer server) : StreamingTests(server)
{
    private const string Model = "gemma4-demo";

    private static readonly ChatTool s_weather = ChatTool.CreateFunctionTool(
        "get_weather", "Get the current weather in a city.",
        BinaryData.FromString("""{"type":"object","properties":{"city":{"type":"string","description":"Name of the city"}},"required":["city"]}"""));

    private OpenAIClientOptions Options => new() { Endpoint = new Uri(Server.Url, "/v1"), RetryPolicy = new System.ClientModel.Primitives.ClientRetryPolicy(0) };

    private ChatClient Chat => new(Model, new ApiKeyCredential("unused"), Options);

    [Fact]
    public async Task Whole_chat_answers_with_usage()
    {
        ChatCompletion answer = await Chat.CompleteChatAsync([new UserChatMessage("What is the capital of France?")], new ChatCompletionOptions { Temperature = 0 });
        Assert.Contains("Paris", answer.Content[0].Text, StringComparison.Ordinal);
        Assert.Equal(ChatFinishReason.Stop, answer.FinishReason);
        Assert.Equal(answer.Usage.TotalTokenCount, answer.Usage.InputTokenCount + answer.Usage.OutputTokenCount);
    }

    [Fact]
    public async Task Streamed_chat_gives_the_same_text_as_the_whole_one()
    {
        ChatMessage[] messages = [new UserChatMessage("What is the capital of Italy?")];
        ChatCompletion whole = await Chat.CompleteChatAsync(messages, new ChatCompletionOptions { Temperature = 0 });
        StringBuilder text = new();
        int updates = 0;
        ChatTokenUsage? usage = null;
        await foreach (StreamingChatCompletionUpdate update in Chat.CompleteChatStreamingAsync(messages, new ChatCompletionOptions { Temperature = 0 }))
        {
            updates++;
            foreach (ChatMessageContentPart part in update.ContentUpdate) text.Append(part.Text);
            usage = update.Usage ?? usage;
        }
        Assert.Equal(whole.Content[0].Text, text.ToString());
        Assert.True(updates > 3);
        Assert.Equal(whole.Usage.OutputTokenCount, usage!.OutputTokenCount);
    }

    [Fact]
    public async Task A_tool_call_goes_out_and_its_result_comes_back_into_the_answer()
    {
        List<ChatMessage> messages = [new UserChatMessage("What is the weather in Oslo?")];
        ChatCompletionOptions options = new() { Temperature = 0, Tools = { s_weather } };
        ChatCompletion first = await Chat.CompleteChatAsync(messages, options);
        Assert.Equal(ChatFinishReason.ToolCalls, first.FinishReason);
        ChatToolCall call = Assert.Single(first.ToolCalls);
        Assert.Equal("get_weather", call.FunctionName);
        Assert.Equal("Oslo", JsonDocument.Parse(call.FunctionArguments).RootElement.GetProperty("city").GetString());

        messages.Add(new AssistantChatMessage(first));
        messages.Add(new ToolChatMessage(call.Id, """{"temperature": 7, "condition": "rain"}"""));
        ChatCompletion second = await Chat.CompleteChatAsync(messages, options);
        Assert.Equal(ChatFinishReason.Stop, second.FinishReason);
        Assert.Contains("7", second.Content[0].Text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Json_by_a_schema_is_the_same_whole_and_streamed()
    {
        ChatCompletionOptions options = new()
        {
            Temperature = 0,
            ResponseFormat = ChatResponseFormat.CreateJsonSchemaFormat("place", BinaryData.FromString("""
                {"type":"object","properties":{"name":{"type":"string","maxLength":12},"kind":{"enum":["city","river"]}},"required":["name","kind"],"additionalProperties":false}
                """), "A place.", jsonSchemaIsStrict: true),
        };
        ChatMessage[] messages = [new UserChatMessage("What is the capital of France?")];
        ChatCompletion whole = await Chat.CompleteChatAsync(messages, options);
        Assert.Equal(ChatFinishReason.Stop, whole.FinishReason);
        using JsonDocument place = JsonDocument.Parse(whole.Content[0].Text);
        Assert.Equal(["name", "kind"], place.RootElement.EnumerateObject().Select(static m => m.Name));
        Assert.Contains(place.RootElement.GetProperty("kind").GetString(), (string[])["city", "river"]);

        StringBuilder text = new();
        await foreach (StreamingChatCompletionUpdate update in Chat.CompleteChatStreamingAsync(messages, options))
        {
            foreach (ChatMessageContentPart part in update.ContentUpdate) text.Append(part.Text);
        }
        Assert.Equal(whole.Content[0].Text, text.ToString());
    }

    [Fact]
    public async Task A_call_is_made_where_one_is_required_and_only_by_the_tool_named()
    {
        ChatMessage[] messages = [new UserChatMessage("What is 7 plus 5?")];
        foreach (ChatToolChoice choice in (ChatToolChoice[])[ChatToolChoice.CreateRequiredChoice(), ChatToolChoice.CreateFunctionChoice("get_weather")])
        {
            ChatCompletionOptions options = new() { Temperature = 0, Tools = { s_weather }, ToolChoice = choice, AllowParallelToolCalls = false };
            ChatCompletion answer = await Chat.CompleteChatAsync(messages, options);
            Assert.Equal(ChatFinishReason.ToolCalls, answer.FinishReason);
            ChatToolCall call = Assert.Single(answer.ToolCalls);
            Assert.Equal("get_weather", call.FunctionName);
            Assert.Equal(JsonValueKind.String, JsonDocument.Parse(call.FunctionArguments).RootElement.GetProperty("city").ValueKind);
        }
    }

    [Fact]
    public async Task Models_are_listed_and_found()
    {
        OpenAIModelClient models = new(new ApiKeyCredential("unused"), Options);
        OpenAIModelCollection all = await models.GetModelsAsync();
        Assert.Contains(all, m => m.Id == Model);
        OpenAIModel one = await models.GetModelAsync(Model);
        Assert.Equal(Model, one.Id);
    }

    [Fact]
    public async Task Errors_carry_their_status()
    {
        ClientResultException bad = await Assert.ThrowsAsync<ClientResultException>(
            async () => await Chat.CompleteChatAsync([new UserChatMessage("Hi")], new ChatCompletionOptions { Temperature = 3 }));
        Assert.Equal(400, bad.Status);
        ChatClient nobody = new("nobody", new ApiKeyCredential("unused"), Options);
        ClientResultException missing = await Assert.ThrowsAsync<ClientResultException>(
            async () => await nobody.CompleteChatAsync([new UserChatMessage("Hi")]));
        Assert.Equal(404, missing.Status);
    }
}
