using System.Text;
using System.Text.Json.Nodes;
using GemmaServer.Tests;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace GemmaServer.GoldenTests.Demo;

/// <summary>The demo model over HTTP, computed where <c>--device</c> says.</summary>
[Trait("Category", "Device")]
public sealed class DeviceServingTests
{
    [DeviceTheory]
    [MemberData(nameof(TestDevices.All), MemberType = typeof(TestDevices))]
    public async Task The_demo_model_answers_over_http(string device)
    {
        List<string> mistakes = [];
        ServerOptions options = OptionsReader.Read(
            new Dictionary<string, string[]>
            {
                ["device"] = [device], ["port"] = ["0"], ["log-level"] = ["none"], ["kv-cache-memory"] = ["64M"], ["max-num-seqs"] = ["8"],
            },
            new Dictionary<string, string?>(), new ConfigurationBuilder().Build(), mistakes);
        Assert.Empty(mistakes);
        List<string> log = [];
        await using WebApplication app = GemmaServerApp.Build(options, static s => s.HandleSignals = false);
        app.Serve(ModelLoader.Load(options, (checkpoint, drafter, o, say) => RunnerMaker.Make(checkpoint, drafter, o, line =>
        {
            log.Add(line);
            say(line);
        }), NullLogger.Instance));
        await app.StartAsync();
        Assert.Contains(log, l => l.StartsWith($"Device: {device}", StringComparison.Ordinal));
        Assert.Contains(log, static l => l.Contains("all on the device", StringComparison.Ordinal));

        using HttpClient client = new() { BaseAddress = new Uri(app.Urls.First()), Timeout = TimeSpan.FromMinutes(2) };
        string[] questions = ["What is the capital of France?", "What is the capital of Italy?", "What is the capital of Japan?"];
        string[] answers = await Task.WhenAll(questions.Select(q => AskAsync(client, q)));
        Assert.Contains("Paris", answers[0]);
        Assert.Contains("Rome", answers[1]);
        Assert.Contains("Tokyo", answers[2]);
    }

    private static async Task<string> AskAsync(HttpClient client, string question)
    {
        JsonObject request = new()
        {
            ["messages"] = new JsonArray(new JsonObject { ["role"] = "user", ["content"] = question }), ["temperature"] = 0, ["max_tokens"] = 40,
        };
        using HttpResponseMessage response = await client.PostAsync("/v1/chat/completions", new StringContent(request.ToJsonString(), Encoding.UTF8, "application/json"));
        string body = await response.Content.ReadAsStringAsync();
        Assert.True(response.IsSuccessStatusCode, body);
        return (string)JsonNode.Parse(body)!["choices"]![0]!["message"]!["content"]!;
    }
}
