using System.Net;
using System.Text;
using System.Text.Json;
using GemmaServer.Tests.Text;

namespace GemmaServer.Tests.Http;

/// <summary>A streamed message, taken apart and put together again as clients do it.</summary>
internal sealed class AnthropicStream
{
    /// <summary>Names and objects in order, pings left out.</summary>
    public List<(string Name, JsonElement Data)> Events { get; } = [];

    public List<JsonElement> Blocks { get; } = [];

    public IEnumerable<string> Names => Events.Select(static e => e.Name);

    public JsonElement Start => Events[0].Data.GetProperty("message");

    public JsonElement End => Events[^2].Data;

    public int Pings { get; private set; }

    public static async Task<AnthropicStream> AskAsync(TestHost host, string json)
    {
        using HttpResponseMessage response = await host.PostAsync("/v1/messages", json, HttpCompletionOption.ResponseHeadersRead);
        string text = await response.Content.ReadAsStringAsync();
        Assert.True(response.StatusCode == HttpStatusCode.OK, text);
        Assert.Equal("text/event-stream; charset=utf-8", response.Content.Headers.ContentType!.ToString());
        return Of(text);
    }

    public static AnthropicStream Of(string text)
    {
        AnthropicStream stream = new();
        Assert.EndsWith("\n\n", text);
        foreach (string part in text[..^2].Split("\n\n"))
        {
            string[] lines = part.Split('\n');
            Assert.Equal(2, lines.Length);
            Assert.StartsWith("event: ", lines[0]);
            Assert.StartsWith("data: ", lines[1]);
            JsonElement data = TestHost.Json(lines[1]["data: ".Length..]);
            Assert.Equal(lines[0]["event: ".Length..], data.GetProperty("type").GetString());
            if (data.Str("type") == "ping") stream.Pings++;
            else stream.Events.Add((data.Str("type"), data));
        }
        return stream;
    }

    /// <summary>Checks the order of events and joins the deltas; what comes out must be the whole answer's content.</summary>
    public List<string> Joined()
    {
        Assert.Equal("message_start", Events[0].Name);
        Assert.Equal(["message_delta", "message_stop"], Names.TakeLast(2));
        List<string> blocks = [];
        for (int i = 1; i < Events.Count - 2; i++)
        {
            Assert.Equal("content_block_start", Events[i].Name);
            Assert.Equal(blocks.Count, Events[i].Data.GetProperty("index").GetInt32());
            JsonElement block = Events[i].Data.GetProperty("content_block");
            StringBuilder text = new(), signature = new();
            for (i++; Events[i].Name == "content_block_delta"; i++)
            {
                Assert.Equal(blocks.Count, Events[i].Data.GetProperty("index").GetInt32());
                JsonElement delta = Events[i].Data.GetProperty("delta");
                string kind = delta.Str("type");
                Assert.Contains(kind, block.Str("type") switch
                {
                    "text" => ["text_delta"],
                    "thinking" => ["thinking_delta", "signature_delta"],
                    _ => (string[])["input_json_delta"],
                });
                if (kind == "signature_delta") signature.Append(delta.Str("signature"));
                else
                {
                    Assert.Equal(0, signature.Length);      // it closes the thought
                    text.Append(delta.Str(kind switch { "text_delta" => "text", "thinking_delta" => "thinking", _ => "partial_json" }));
                }
            }
            Assert.Equal("content_block_stop", Events[i].Name);
            Assert.Equal(blocks.Count, Events[i].Data.GetProperty("index").GetInt32());
            Assert.Equal(block.Str("type") == "thinking", signature.Length > 0);
            blocks.Add(Describe(block.Str("type"), block.TryGetProperty("name", out JsonElement name) ? name.GetString()! : "", text.ToString()));
        }
        return blocks;
    }

    /// <summary>The content of a whole answer in the same words.</summary>
    public static List<string> Content(JsonElement message) =>
    [
        .. message.GetProperty("content").EnumerateArray().Select(static b => b.Str("type") switch
        {
            "tool_use" => Describe("tool_use", b.Str("name"), b.GetProperty("input").GetRawText()),
            string type => Describe(type, "", b.Str(type)),
        }),
    ];

    private static string Describe(string type, string name, string text) => $"{type} {name}: {text}";
}
