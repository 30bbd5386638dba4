using System.Text;
using System.Text.Json;
using Anthropic;
using Anthropic.Exceptions;
using Anthropic.Models.Messages;

namespace GemmaServer.Tests.Http;

/// <summary>The official Anthropic SDK for .NET against the real host.</summary>
public sealed class AnthropicSdkTests(ScriptedHost fixture) : IClassFixture<ScriptedHost>
{
    private AnthropicClient Client => new() { BaseUrl = fixture.Host.Url.ToString().TrimEnd('/'), ApiKey = "none", MaxRetries = 0 };

    private static Tool Weather => new()
    {
        Name = "get_weather",
        Description = "Weather of a city.",
        InputSchema = new InputSchema { Properties = new Dictionary<string, JsonElement> { ["city"] = JsonSerializer.SerializeToElement(new { type = "string" }) }, Required = ["city"] },
    };

    private static MessageCreateParams Ask(string user) => new() { Model = "scripted", MaxTokens = 200, Messages = [new UserMessageParam(user)] };

    [Fact]
    public async Task A_whole_message()
    {
        Message message = await Client.Messages.Create(Ask("hello"));
        message.Validate();
        Assert.True(Assert.Single(message.Content).TryPickText(out TextBlock? text));
        Assert.Equal("Hello! I am a test.", text!.Text);
        Assert.Equal(Anthropic.Models.Messages.StopReason.EndTurn, message.StopReason!.Value());
        Assert.Equal("scripted", message.Model.Raw());
        Assert.True(message.Usage.InputTokens + message.Usage.CacheReadInputTokens > 0);
    }

    [Fact]
    public async Task A_streamed_message_with_thinking()
    {
        StringBuilder text = new(), thinking = new(), signature = new();
        string? stop = null;
        List<string> kinds = [];
        await foreach (RawMessageStreamEvent e in Client.Messages.CreateStreaming(Ask("think") with { Thinking = new ThinkingConfigEnabled { BudgetTokens = 1024 } }))
        {
            e.Validate();
            kinds.Add(e.Type.Raw());
            if (e.TryPickDelta(out RawMessageDeltaEvent? end)) stop = end!.Delta.StopReason?.Raw();
            if (!e.TryPickContentBlockDelta(out RawContentBlockDeltaEvent? delta)) continue;
            if (delta!.Delta.TryPickText(out TextDelta? piece)) text.Append(piece!.Text);
            if (delta.Delta.TryPickThinking(out ThinkingDelta? thought)) thinking.Append(thought!.Thinking);
            if (delta.Delta.TryPickSignature(out SignatureDelta? signed)) signature.Append(signed!.Signature);
        }
        Assert.Equal("The answer is 4.", text.ToString());
        Assert.Equal("Two and two. Four.", thinking.ToString());
        Assert.NotEqual("", signature.ToString());
        Assert.Equal("end_turn", stop);
        Assert.Equal("message_start", kinds[0]);
        Assert.Equal("message_stop", kinds[^1]);
    }

    [Fact]
    public async Task A_tool_round_trip()
    {
        Message first = await Client.Messages.Create(Ask("weather") with { Tools = [Weather] });
        first.Validate();
        Assert.Equal(Anthropic.Models.Messages.StopReason.ToolUse, first.StopReason!.Value());
        Assert.True(Assert.Single(first.Content).TryPickToolUse(out ToolUseBlock? call));
        Assert.Equal("get_weather", call!.Name);
        Assert.Equal("Paris", call.Input["city"].GetString());

        Message second = await Client.Messages.Create(Ask("weather") with
        {
            Tools = [Weather],
            Messages =
            [
                new UserMessageParam("weather"),
                new AssistantMessageParam { Content = new List<ContentBlockParam> { new ToolUseBlockParam { ID = call.ID, Name = call.Name, Input = call.Input } } },
                new UserMessageParam { Content = new List<ContentBlockParam> { new ToolResultBlockParam(call.ID) { Content = "sunny" } } },
            ],
        });
        Assert.True(second.Content[0].TryPickText(out TextBlock? text));
        Assert.Equal("It is sunny in Paris.", text!.Text);
    }

    [Fact]
    public async Task Counted_tokens()
    {
        MessageTokensCount count = await Client.Messages.CountTokens(new MessageCountTokensParams { Model = "scripted", Messages = [new UserMessageParam("hello")] });
        Message message = await Client.Messages.Create(Ask("hello"));
        Assert.Equal(message.Usage.InputTokens + message.Usage.CacheReadInputTokens, count.InputTokens);
    }

    [Fact]
    public async Task Error_classes()
    {
        AnthropicBadRequestException bad = await Assert.ThrowsAsync<AnthropicBadRequestException>(() => Client.Messages.Create(Ask("hello") with { MaxTokens = 0 }));
        Assert.Contains("max_tokens", bad.Message);
        await Assert.ThrowsAsync<AnthropicNotFoundException>(() => Client.Messages.Create(Ask("hello") with { Model = "claude" }));

        await using TestHost closed = await TestHost.StartAsync(new ServerOptions { Port = 0, LogLevel = Microsoft.Extensions.Logging.LogLevel.None, ServedModelName = ["scripted"], ApiKey = ["secret"] });
        string url = closed.Url.ToString().TrimEnd('/');
        await Assert.ThrowsAsync<AnthropicUnauthorizedException>(() => new AnthropicClient { BaseUrl = url, ApiKey = "wrong", MaxRetries = 0 }.Messages.Create(Ask("hello")));
        Message answer = await new AnthropicClient { BaseUrl = url, ApiKey = "secret", MaxRetries = 0 }.Messages.Create(Ask("hello"));
        Assert.Equal("assistant", answer.Role.GetString());
    }
}
