using System.Net;
using System.Text;
using System.Text.Json;

namespace GemmaServer.Tests.Http;

/// <summary>Reads streamed responses, and puts them together again from their events alone.</summary>
internal static class ResponseStreamReader
{
    /// <summary>Streams a response; fails on anything that is not in the contract of all events.</summary>
    public static async Task<List<JsonElement>> StreamResponseAsync(this TestHost host, string json)
    {
        using HttpResponseMessage response = await host.PostAsync("/v1/responses", json, HttpCompletionOption.ResponseHeadersRead);
        string text = await response.Content.ReadAsStringAsync();
        Assert.True(response.StatusCode == HttpStatusCode.OK, text);
        Assert.Equal("text/event-stream; charset=utf-8", response.Content.Headers.ContentType!.ToString());
        return Events(text);
    }

    /// <summary>Takes a stream apart: each event is named as its data is, and numbered; comments may stand between.</summary>
    public static List<JsonElement> Events(string stream)
    {
        Assert.EndsWith("\n\n", stream);
        List<JsonElement> events = [];
        foreach (string part in stream[..^2].Split("\n\n"))
        {
            if (part.StartsWith(": ", StringComparison.Ordinal)) continue;
            string[] lines = part.Split('\n');
            Assert.Equal(2, lines.Length);
            Assert.StartsWith("data: {", lines[1]);
            JsonElement data = TestHost.Json(lines[1]["data: ".Length..]);
            Assert.Equal("event: " + TypeOf(data), lines[0]);
            Assert.Equal(events.Count, data.GetProperty("sequence_number").GetInt32());
            events.Add(data);
        }
        return events;
    }

    public static string TypeOf(JsonElement data) => data.GetProperty("type").GetString()!;

    /// <summary>The types in order, deltas of one kind counted once.</summary>
    public static List<string> Order(IEnumerable<JsonElement> events)
    {
        List<string> order = [];
        foreach (string type in events.Select(TypeOf))
        {
            string name = type["response.".Length..];
            if (!name.EndsWith(".delta", StringComparison.Ordinal) || order.Count == 0 || order[^1] != name) order.Add(name);
        }
        return order;
    }

    /// <summary>Checks that items, parts and deltas belong together, and gives each item's text as its deltas tell it.</summary>
    public static List<(string Type, string Text)> Join(IReadOnlyList<JsonElement> events)
    {
        List<(string Type, string Text)> items = [];
        StringBuilder text = new();
        string id = "";
        foreach (JsonElement e in events)
        {
            string type = TypeOf(e);
            if (type == "response.output_item.added")
            {
                id = e.GetProperty("item").GetProperty("id").GetString()!;
                Assert.Equal("in_progress", e.GetProperty("item").GetProperty("status").GetString());
                text.Clear();
            }
            if (e.TryGetProperty("item_id", out JsonElement itemId)) Assert.Equal(id, itemId.GetString());
            if (e.TryGetProperty("output_index", out JsonElement index)) Assert.Equal(items.Count, index.GetInt32());
            if (e.TryGetProperty("content_index", out JsonElement content)) Assert.Equal(0, content.GetInt32());
            if (e.TryGetProperty("delta", out JsonElement delta)) text.Append(delta.GetString());
            if (e.TryGetProperty("text", out JsonElement all) || e.TryGetProperty("arguments", out all)) Assert.Equal(text.ToString(), all.GetString());
            if (type == "response.content_part.done") Assert.Equal(text.ToString(), e.GetProperty("part").GetProperty("text").GetString());
            if (type != "response.output_item.done") continue;
            Assert.Equal(id, e.GetProperty("item").GetProperty("id").GetString());
            items.Add((e.GetProperty("item").GetProperty("type").GetString()!, text.ToString()));
        }
        return items;
    }

    /// <summary>What an item says, thinks or calls with.</summary>
    public static string TextOf(JsonElement item) =>
        item.TryGetProperty("arguments", out JsonElement arguments) ? arguments.GetString()! : item.GetProperty("content")[0].GetProperty("text").GetString()!;

    /// <summary>A value without the ids and times that every response makes anew.</summary>
    public static string WithoutIds(JsonElement value) =>
        System.Text.RegularExpressions.Regex.Replace(value.GetRawText(), "\"(resp|msg|rs|fc|call)_[0-9a-f]+\"|\"(created|completed)_at\":[0-9]+", "0");
}
