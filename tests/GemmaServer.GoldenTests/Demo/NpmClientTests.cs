using GemmaServer.Tests;
using Xunit.Abstractions;

namespace GemmaServer.GoldenTests.Demo;

/// <summary>Clients that people use, unchanged, against the demo model.</summary>
[Collection(DemoServerCollection.Name)]
public class NpmClientTests(DemoServer server, ITestOutputHelper output) : StreamingTests(server)
{
    [NpmTheory]
    [InlineData("openai-demo.mjs", 10)]
    [InlineData("ai-sdk-demo.mjs", 9)]
    [InlineData("langchain-demo.mjs", 6)]
    [InlineData("anthropic-demo.mjs", 9)]
    [InlineData("ollama-demo.mjs", 8)]
    [InlineData("responses-demo.mjs", 11)]
    public async Task The_client_gets_what_it_expects(string script, int checks)
    {
        string lines = await Npm.RunAsync(script, "", Server.Url.ToString().TrimEnd('/'));
        output.WriteLine(lines);
        Assert.Equal(checks, lines.Split('\n').Count(l => l.StartsWith("ok ", StringComparison.Ordinal)));
    }
}
