using System.ClientModel;
using System.Text;
using System.Text.Json;
using OpenAI.Responses;

#pragma warning disable OPENAI001   // the SDK calls its Responses client an evaluation version

namespace GemmaServer.Tests.Http;

/// <summary>The Responses client of the official OpenAI SDK for .NET against the real host.</summary>
public sealed class ResponsesSdkTests(ScriptedHost fixture) : IClassFixture<ScriptedHost>
{
    private static readonly FunctionTool s_weather = ResponseTool.CreateFunctionTool("get_weather",
        BinaryData.FromString("""{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}},"required":["city"]}"""),
        strictModeEnabled: false, functionDescription: "Weather of a city.");

    private ResponsesClient Client => new(new ApiKeyCredential("none"), new ResponsesClientOptions { Endpoint = new Uri(fixture.Host.Url, "/v1") });

    private static CreateResponseOptions Ask(string input)
    {
        CreateResponseOptions options = new() { Model = "scripted" };
        options.InputItems.Add(ResponseItem.CreateUserMessageItem(input));
        return options;
    }

    [Fact]
    public async Task A_whole_response_and_going_on_from_it()
    {
        ResponseResult first = await Client.CreateResponseAsync("scripted", "hello");
        Assert.Equal("Hello! I am a test.", first.GetOutputText());
        Assert.Equal(ResponseStatus.Completed, first.Status);
        Assert.Equal("scripted", first.Model);
        Assert.Equal(first.Usage.TotalTokenCount, first.Usage.InputTokenCount + first.Usage.OutputTokenCount);
        Assert.Null(first.Error);

        ResponseResult second = await Client.CreateResponseAsync("scripted", "unicode", first.Id);
        Assert.Equal(ScriptedHost.Scripts["unicode"], second.GetOutputText());
        Assert.Equal(first.Id, second.PreviousResponseId);
        Assert.Equal("unicode", ((MessageResponseItem)Assert.Single(await ItemsAsync(second.Id))).Content[0].Text);
        Assert.Equal(first.GetOutputText(), ((ResponseResult)await Client.GetResponseAsync(first.Id)).GetOutputText());
        Assert.True((await Client.DeleteResponseAsync(first.Id)).Value.Deleted);
        Assert.Equal(404, (await Assert.ThrowsAsync<ClientResultException>(() => Client.GetResponseAsync(first.Id))).Status);
        Assert.Equal(400, (await Assert.ThrowsAsync<ClientResultException>(() => Client.CancelResponseAsync(second.Id))).Status);
    }

    private async Task<List<ResponseItem>> ItemsAsync(string id)
    {
        List<ResponseItem> items = [];
        await foreach (ResponseItem item in Client.GetResponseInputItemsAsync(id)) items.Add(item);
        return items;
    }

    [Fact]
    public async Task A_streamed_response_with_a_thought()
    {
        CreateResponseOptions options = Ask("think");
        options.StreamingEnabled = true;
        options.ReasoningOptions = new ResponseReasoningOptions { ReasoningEffortLevel = ResponseReasoningEffortLevel.Low };
        StringBuilder text = new(), thought = new();
        ResponseResult? completed = null;
        List<ResponseItem> items = [];
        int number = 0;
        await foreach (StreamingResponseUpdate update in await Client.CreateResponseStreamingAsync(options))
        {
            Assert.Equal(number++, update.SequenceNumber);
            if (update is StreamingResponseOutputTextDeltaUpdate delta) text.Append(delta.Delta);
            if (update is StreamingResponseReasoningTextDeltaUpdate more) thought.Append(more.Delta);
            if (update is StreamingResponseOutputItemDoneUpdate done) items.Add(done.Item);
            if (update is StreamingResponseCompletedUpdate end) completed = end.Response;
        }
        Assert.Equal("The answer is 4.", text.ToString());
        Assert.Equal("Two and two. Four.", thought.ToString());
        Assert.IsType<ReasoningResponseItem>(items[0]);
        Assert.Equal("The answer is 4.", Assert.IsAssignableFrom<MessageResponseItem>(items[1]).Content[0].Text);
        Assert.Equal("The answer is 4.", completed!.GetOutputText());
        Assert.True(completed.Usage.OutputTokenDetails.ReasoningTokenCount > 0);
    }

    [Fact]
    public async Task A_tool_round_trip_with_the_conversation_kept_by_the_client()
    {
        CreateResponseOptions options = Ask("weather");
        options.Tools.Add(s_weather);
        options.StoredOutputEnabled = false;
        options.IncludedProperties.Add(IncludedResponseProperty.ReasoningEncryptedContent);
        ResponseResult first = await Client.CreateResponseAsync(options);
        FunctionCallResponseItem call = Assert.IsType<FunctionCallResponseItem>(Assert.Single(first.OutputItems));
        Assert.Equal("get_weather", call.FunctionName);
        Assert.Equal("Paris", JsonDocument.Parse(call.FunctionArguments).RootElement.GetProperty("city").GetString());
        Assert.Equal("get_weather", Assert.IsType<FunctionTool>(Assert.Single(first.Tools)).FunctionName);

        foreach (ResponseItem item in first.OutputItems) options.InputItems.Add(item);
        options.InputItems.Add(ResponseItem.CreateFunctionCallOutputItem(call.CallId, "sunny"));
        Assert.Equal("It is sunny in Paris.", ((ResponseResult)await Client.CreateResponseAsync(options)).GetOutputText());
    }

    [Fact]
    public async Task Streamed_tool_calls_and_their_results_by_id()
    {
        CreateResponseOptions options = Ask("two calls");
        options.StreamingEnabled = true;
        options.Tools.Add(s_weather);
        Dictionary<string, string> arguments = [];
        List<string> names = [];
        ResponseResult? completed = null;
        await foreach (StreamingResponseUpdate update in await Client.CreateResponseStreamingAsync(options))
        {
            if (update is StreamingResponseFunctionCallArgumentsDeltaUpdate delta) arguments[delta.ItemId] = arguments.GetValueOrDefault(delta.ItemId) + delta.Delta;
            if (update is StreamingResponseFunctionCallArgumentsDoneUpdate done) Assert.Equal(done.FunctionArguments.ToString(), arguments[done.ItemId]);
            if (update is StreamingResponseOutputItemDoneUpdate { Item: FunctionCallResponseItem call }) names.Add(call.FunctionName);
            if (update is StreamingResponseCompletedUpdate end) completed = end.Response;
        }
        Assert.Equal(["first", "second"], names);

        CreateResponseOptions next = new() { Model = "scripted", PreviousResponseId = completed!.Id };
        foreach (FunctionCallResponseItem call in completed.OutputItems.OfType<FunctionCallResponseItem>())
            next.InputItems.Add(ResponseItem.CreateFunctionCallOutputItem(call.CallId, "ok"));
        Assert.Equal("It is sunny in Paris.", ((ResponseResult)await Client.CreateResponseAsync(next)).GetOutputText());
    }

    [Fact]
    public async Task Limits_log_probabilities_and_errors()
    {
        CreateResponseOptions options = Ask("long");
        options.MaxOutputTokenCount = 5;
        options.TopLogProbabilityCount = 2;
        options.Instructions = "Be short.";
        ResponseResult cut = await Client.CreateResponseAsync(options);
        Assert.Equal(ResponseStatus.Incomplete, cut.Status);
        Assert.Equal(ResponseIncompleteStatusReason.MaxOutputTokens, cut.IncompleteStatusDetails.Reason);
        Assert.Equal(5, cut.Usage.OutputTokenCount);

        options.Temperature = 3;
        ClientResultException bad = await Assert.ThrowsAsync<ClientResultException>(() => Client.CreateResponseAsync(options));
        Assert.Equal(400, bad.Status);
        Assert.Contains("temperature", bad.Message);
    }
}
