using GemmaServer.Tests;
using Xunit.Abstractions;

namespace GemmaServer.GoldenTests.Demo;

[Collection(DemoServerCollection.Name)]
public class NpmClientTests(DemoServer server, ITestOutputHelper output)
{
    [NpmFact]
    public async Task The_official_npm_client_chats_streams_calls_tools_and_sees_its_error_classes()
    {
        string lines = await Npm.RunAsync("openai-demo.mjs", "", server.Url.ToString().TrimEnd('/'));
        output.WriteLine(lines);
        Assert.Equal(6, lines.Split('\n').Count(l => l.StartsWith("ok ", StringComparison.Ordinal)));
    }
}
