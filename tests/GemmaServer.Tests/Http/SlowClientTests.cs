using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using GemmaServer.Engine;

namespace GemmaServer.Tests.Http;

/// <summary>A client that does not read slows only itself, costs bounded memory, and ends its request by leaving.</summary>
[Collection(nameof(SlowClientTests))]
[CollectionDefinition(nameof(SlowClientTests), DisableParallelization = true)]    // others' memory would be counted too
public sealed class SlowClientTests
{
    private const string Path = "/v1/chat/completions";
    private const int Choices = 3;
    private const int SlowClients = 4;

    // With twenty logprobs a token is some kilobytes of stream: the answer is far more than what the sockets' buffers take.
    private const string Large = "\"stream\":true,\"n\":3,\"logprobs\":true,\"top_logprobs\":20";

    private static readonly string s_answer = string.Concat(Enumerable.Repeat("word ", 1200));

    [Fact]
    public async Task Clients_that_do_not_read_hold_up_neither_the_engine_nor_others_nor_memory()
    {
        await using TestHost host = await TestHost.StartAsync(script: static r => r.Answers["large"] = s_answer, maxSequences: 32);
        long answer = await ReadAsync(host);
        Assert.True(answer > 9 << 20, $"{answer} bytes");      // twice what Linux keeps for a socket at most by default
        long before = GC.GetTotalMemory(forceFullCollection: true);

        Socket[] slow = [.. Enumerable.Range(0, SlowClients).Select(_ => Ask(host, "large"))];
        await TestHost.UntilAsync(() => host.Server.InFlight == SlowClients, "they are served");
        for (int i = 0; i < 3; i++) await ReadAsync(host);

        // The engine is through with everybody; those who do not read still wait for their answers.
        await TestHost.UntilAsync(() => host.Model.Engine.Metrics.Finished(FinishReason.Stop) == Choices * (1 + SlowClients + 3), "the engine is done");
        Assert.Equal(SlowClients, host.Server.InFlight);
        Assert.Equal(0, host.Runner.OpenSlots);

        // Kept for them is the tokens with their logprobs, not the text that these become.
        long kept = GC.GetTotalMemory(forceFullCollection: true) - before;
        Assert.True(kept < SlowClients * answer / 4, $"{kept} bytes are kept for {SlowClients} answers of {answer}.");

        foreach (Socket socket in slow) socket.Dispose();
        await TestHost.UntilAsync(() => host.Server.InFlight == 0, "their requests have ended");
    }

    [Fact]
    public async Task A_client_that_stopped_reading_and_leaves_ends_its_request_in_the_engine()
    {
        await using TestHost host = await TestHost.StartAsync(script: static r =>
        {
            r.Answers["large"] = s_answer;
            r.StepTime = TimeSpan.FromMilliseconds(2);      // or it would be over before the client leaves
        });
        using (Socket slow = Ask(host, "large"))
        {
            byte[] some = new byte[2000];
            Assert.True(await slow.ReceiveAsync(some) > 0);
            Assert.StartsWith("HTTP/1.1 200", Encoding.UTF8.GetString(some));
            await TestHost.UntilAsync(() => host.Model.Engine.Metrics.GeneratedTokens > 300, "it goes on without a reader");
        }
        await TestHost.UntilAsync(() => host.Server.InFlight == 0 && host.Runner.OpenSlots == 0, "the slot is free");
        Assert.Equal((Choices, 0), (host.Model.Engine.Metrics.Finished(FinishReason.Abort), host.Model.Engine.Metrics.Finished(FinishReason.Stop)));
    }

    /// <summary>Reads as fast as it comes, line by line, so that nothing of the answer stays in memory; gives its size.</summary>
    private static async Task<long> ReadAsync(TestHost host)
    {
        using HttpResponseMessage response = await host.PostAsync(Path, TestHost.Chat("large", Large), HttpCompletionOption.ResponseHeadersRead);
        using StreamReader lines = new(await response.Content.ReadAsStreamAsync());
        StringBuilder[] content = [.. Enumerable.Range(0, Choices).Select(static _ => new StringBuilder())];
        long length = 0;
        string last = "";
        while (await lines.ReadLineAsync() is { } line)
        {
            length += line.Length;
            if (line.Length > 0) last = line;
            if (!line.StartsWith("data: {", StringComparison.Ordinal)) continue;
            foreach (JsonElement choice in TestHost.Json(line["data: ".Length..]).GetProperty("choices").EnumerateArray())
            {
                if (choice.GetProperty("delta").TryGetProperty("content", out JsonElement text)) content[choice.GetProperty("index").GetInt32()].Append(text.GetString());
            }
        }
        Assert.Equal("data: [DONE]", last);
        Assert.All(content, static c => Assert.Equal(s_answer, c.ToString()));
        return length;
    }

    /// <summary>Sends a request and does not read the answer; the system's own buffer for it is as small as can be.</summary>
    private static Socket Ask(TestHost host, string user)
    {
        Socket socket = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { ReceiveBufferSize = 4096 };
        socket.Connect(new IPEndPoint(IPAddress.Loopback, host.Url.Port));
        byte[] body = Encoding.UTF8.GetBytes(TestHost.Chat(user, Large));
        socket.Send(Encoding.ASCII.GetBytes($"POST {Path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {body.Length}\r\n\r\n"));
        socket.Send(body);
        return socket;
    }
}
