using System.Net.Http.Headers;
using System.Text.Json;

namespace GemmaServer.Tests.Http;

/// <summary>One host for a class; bodies up to 1 MiB.</summary>
public sealed class BadInputHost : IAsyncLifetime
{
    internal TestHost Host { get; private set; } = null!;

    public async Task InitializeAsync() => Host = await TestHost.StartAsync(
        new ServerOptions { Port = 0, LogLevel = Microsoft.Extensions.Logging.LogLevel.None, ServedModelName = ["scripted"], BodyLimit = 1 << 20 },
        static runner => runner.StepTime = TimeSpan.FromMilliseconds(2));

    public async Task DisposeAsync() => await Host.DisposeAsync();
}

public sealed class BadInputTests(BadInputHost fixture) : IClassFixture<BadInputHost>
{
    public static TheoryData<int, string> Cases
    {
        get
        {
            TheoryData<int, string> cases = [];
            for (int i = 0; i < BadInputs.All.Count; i++) cases.Add(i, ApiError.Echo(BadInputs.All[i].Name)[..Math.Min(80, BadInputs.All[i].Name.Length)]);
            return cases;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public async Task Bad_input_gives_its_status_and_an_error_object_that_names_the_field(int index, string name)
    {
        Assert.NotNull(name);
        await CheckAsync(BadInputs.All[index]);
    }

    [Fact]
    public void The_table_has_at_least_150_cases() => Assert.True(BadInputs.All.Count >= 150, $"{BadInputs.All.Count} cases");

    [Fact]
    public async Task A_good_stream_goes_on_beside_every_bad_request()
    {
        using HttpResponseMessage response = await fixture.Host.PostAsync(
            "/v1/chat/completions", TestHost.Chat(ScriptedRunner.Marathon, "\"stream\":true"), HttpCompletionOption.ResponseHeadersRead);
        using StreamReader stream = new(await response.Content.ReadAsStreamAsync());
        for (int i = 0; i < 5; i++) Assert.StartsWith("data: {", await LineAsync(stream));

        await Parallel.ForEachAsync(BadInputs.All, new ParallelOptions { MaxDegreeOfParallelism = 8 }, async (bad, _) => await CheckAsync(bad));

        fixture.Host.Runner.EndMarathon = true;
        string last = "", beforeLast = "";
        while (await LineAsync(stream) is { } line) (beforeLast, last) = (last, line);
        Assert.Equal("data: [DONE]", last);
        Assert.Equal("stop", TestHost.Json(beforeLast["data: ".Length..]).GetProperty("choices")[0].GetProperty("finish_reason").GetString());
    }

    private static async Task<string?> LineAsync(StreamReader stream)
    {
        string? line = await stream.ReadLineAsync();
        if (line is not null) Assert.Equal("", await stream.ReadLineAsync());
        return line;
    }

    private async Task CheckAsync(BadInput bad)
    {
        using HttpRequestMessage request = new(new HttpMethod(bad.Method), bad.Path);
        if (bad.Method == "POST")
        {
            request.Content = new ByteArrayContent(bad.Body);
            // A server that refuses a body closes the connection without reading it; a client in the middle of sending would see that first.
            request.Headers.ExpectContinue = bad.Body.Length > 256 << 10;
            if (bad.ContentType.Length > 0) request.Content.Headers.ContentType = MediaTypeHeaderValue.Parse(bad.ContentType);
        }
        using HttpResponseMessage response = await fixture.Host.Client.SendAsync(request);
        string text = await response.Content.ReadAsStringAsync();
        Assert.True(bad.Status == (int)response.StatusCode, $"{bad.Name}: expected {bad.Status}, got {(int)response.StatusCode}: {text}");
        Assert.Equal("application/json", response.Content.Headers.ContentType?.MediaType);
        Assert.True(response.Headers.Contains("x-request-id"));

        JsonElement root = TestHost.Json(text);
        Assert.Equal(["error"], root.EnumerateObject().Select(static m => m.Name));
        JsonElement error = root.GetProperty("error");
        Assert.Equal(["code", "message", "param", "type"], error.EnumerateObject().Select(static m => m.Name).Order());
        Assert.True(bad.Code == error.GetProperty("code").GetString() && bad.Param == error.GetProperty("param").GetString(),
            $"{bad.Name}: expected {bad.Code} for {bad.Param}, got {text}");
        Assert.Equal("invalid_request_error", error.GetProperty("type").GetString());
        string message = error.GetProperty("message").GetString()!;
        Assert.InRange(message.Length, 10, 600);
        Assert.DoesNotContain("Exception", message);
        Assert.DoesNotContain("   at ", message);
    }
}
