using System.Globalization;
using System.Text;
using System.Text.Json;
using GemmaServer.Text;
using Xunit.Abstractions;

namespace GemmaServer.Tests.Text;

public class ChatOutputParserTests(ITestOutputHelper output)
{
    [Fact]
    public void Every_stored_output_is_parsed_as_expected()
    {
        List<string> wrong = [], deviations = [];
        int count = 0;
        foreach (JsonElement item in ChatGolden.Cases("parse"))
        {
            count++;
            Parsed whole = Parse(item, PiecesOf(item));
            AssertInvariants(whole, item.Id());
            if (Difference(item, whole) is not { } difference) continue;
            (item.Str("level") == "may" ? deviations : wrong).Add($"{item.Id()}: {difference}\n  raw {JsonSerializer.Serialize(item.Str("raw"))}");
        }
        output.WriteLine($"{count} outputs; {deviations.Count} of level 'may' deviate:");
        foreach (string deviation in deviations) output.WriteLine("  " + deviation);
        Assert.True(wrong.Count == 0, $"{wrong.Count} of {count} wrong:\n{string.Join('\n', wrong)}");
    }

    [Fact]
    public void Chunking_changes_nothing()
    {
        List<string> wrong = [];
        foreach (JsonElement item in ChatGolden.Cases("parse"))
        {
            if (item.Get("tokens").ValueKind == JsonValueKind.Array) continue;   // text chunks cannot say which marker is a token
            string whole = Parse(item, PiecesOf(item)).Merged();
            foreach ((string name, List<string> chunks) in Chunkings(item))
            {
                string streamed = Parse(item, ChatGolden.Pieces(chunks)).Merged();
                if (streamed != whole) wrong.Add($"{item.Id()} {name}\n  whole  {whole}\n  stream {streamed}");
            }
        }
        Assert.True(wrong.Count == 0, string.Join('\n', wrong.Take(20)));
    }

    [Fact]
    public void Events_come_in_the_stored_order()
    {
        foreach (JsonElement item in ChatGolden.Cases("parse"))
        {
            if (item.Str("level") == "may") continue;
            List<string> expected = [];
            foreach (JsonElement e in item.GetProperty("events_merged").EnumerateArray())
            {
                expected.Add(e.Str("type") == "tool_call"
                    ? $"call {e.GetProperty("index").GetInt32()} {e.Str("name")} {Canonical(e.Str("arguments_json"))}"
                    : $"{e.Str("type")} {e.Str("text")}");
            }
            Parsed parsed = Parse(item, PiecesOf(item));
            Assert.True(expected.SequenceEqual(parsed.MergedEvents()), $"{item.Id()}\n{string.Join('\n', expected)}\nis\n{string.Join('\n', parsed.MergedEvents())}");
        }
    }

    [Fact]
    public void Characters_split_over_chunks_are_put_together()
    {
        foreach (JsonElement item in ChatGolden.Cases("stream_bytes.json"))
        {
            IEnumerable<byte[]> chunks = item.GetProperty("chunks_hex").EnumerateArray().Select(static c => Convert.FromHexString(c.GetString()!));
            Parsed parsed = Run(ChatGolden.Pieces(chunks), PromptState.Content, item.Flag("enable_thinking"), item.Get("stop").ValueKind == JsonValueKind.String);
            AssertInvariants(parsed, item.Id());
            if (item.Get("expected").ValueKind == JsonValueKind.Object) Assert.Null(Difference(item, parsed));
            else Assert.Contains('\uFFFD', parsed.Message.Content);
        }
    }

    [Fact]
    public void Tokens_of_the_thought_are_counted_with_their_channel()
    {
        string[] pieces = ["<|channel>", "thought", "\n", "a", " b", "<channel|>", "Hi", "<turn|>"];
        Assert.Equal(6, Run(ChatGolden.Pieces(pieces), PromptState.Content, true, false).Parser.ReasoningTokens);
        Assert.Equal(3, Run(ChatGolden.Pieces(["a", "b", "<channel|>", "c"]), PromptState.ThoughtOpen, true, false).Parser.ReasoningTokens);
        Assert.Equal(4, Run(ChatGolden.Pieces(["thought", "\n", "a", "<channel|>", "c"]), PromptState.Content, true, false).Parser.ReasoningTokens);
        Assert.Equal(0, Run(ChatGolden.Pieces(["thoughts", " are", " free"]), PromptState.Content, true, false).Parser.ReasoningTokens);
        Assert.Equal(2, Run(ChatGolden.Pieces(["<|channel>", "x", "<|tool_call>", "call:f{}", "<tool_call|>"]), PromptState.Content, true, false).Parser.ReasoningTokens);
    }

    [Fact]
    public void Arguments_stream_while_a_string_is_open()
    {
        OutputParser parser = new(PromptState.Content, enableThinking: false);
        List<OutputEvent> events = [];
        foreach ((byte[] piece, bool isSpecial) in ChatGolden.Pieces(["<|tool_call>", "call:write{text:", "<|\"|>", "one ", "two", "}"]))
            parser.Push(piece, isSpecial, events);
        // The brace may belong to the string or close the call, so it waits; so does white space in front of it.
        Assert.Equal("{\"text\":\"one two", string.Concat(events.Where(static e => e.Kind == OutputEventKind.ToolCallArguments).Select(static e => e.Text)));
        parser.Finish(lengthStop: false, events);
        Assert.Equal("{\"text\":\"one two\"}", Parsed.Collect(events).ToolCalls[0].ArgumentsJson);
    }

    [Fact]
    public void An_ordinary_token_costs_its_delta_and_nothing_else()
    {
        OutputParser parser = new(PromptState.Content, enableThinking: false);
        List<OutputEvent> events = new(64);
        byte[] piece = " word"u8.ToArray();
        for (int i = 0; i < 50; i++) parser.Push(piece, false, events);
        events.Clear();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 50; i++) parser.Push(piece, false, events);
        long perToken = (GC.GetAllocatedBytesForCurrentThread() - before) / 50;
        Assert.True(perToken <= 32, $"{perToken} bytes a token");   // a string of five characters takes 32
    }

    [Theory]
    [InlineData("{a:{{b:1}},c:2}", """{"a":{"b":1},"c":2}""")]
    [InlineData("{'a':'it''s','b':['x','don't, really']}", """{"a":"it''s","b":["x","don't, really"]}""")]
    [InlineData("{a:New York, NY,b:1}", """{"a":"New York, NY","b":1}""")]
    [InlineData("{a:New York, NY, b : [x, y] , c:5 apples, 6 pears}", """{"a":"New York, NY","b":["x","y"],"c":"5 apples, 6 pears"}""")]
    [InlineData("{a:Paris,,}", """{"a":"Paris"}""")]
    [InlineData("{a:Paris, \"b\":\"x\\ny\\u00e9\"}", """{"a":"Paris","b":"x\ny\u00e9"}""")]
    [InlineData("{a:1 2,b:-.5e3,c:-,d:1e,e:--1}", """{"a":"1 2","b":-0.5e3,"c":"-","d":"1e","e":"--1"}""")]
    [InlineData("{:1}", """{"":1}""")]
    [InlineData("{a:[1,,2,],b:[,],c:{}}", """{"a":[1,2],"b":[],"c":{}}""")]
    [InlineData("{a:\"open}", """{"a":"open"}""")]
    [InlineData("{a:'open}", """{"a":"'open"}""")]
    [InlineData("{a:\"\\ud800\"}", """{"a":"\ufffd"}""")]
    [InlineData("{s:<|\"|>ls}}", """{"s":"ls}"}""")]
    [InlineData("{s:<|\"|>ls}}}", """{"s":"ls}}"}""")]
    [InlineData("{s:[<|\"|>ls ]} \n", """{"s":["ls "]}""")]
    [InlineData("{s:[<|\"|>ls ]}] x}", """{"s":["ls ]}] x"]}""")]
    [InlineData("{a b: c\td }", """{"a b":"c\td"}""")]
    public void Loose_notation_becomes_json(string body, string expected)
    {
        Parsed parsed = Run(ChatGolden.Pieces(["<|tool_call>call:f", body, "<tool_call|>"]), PromptState.Content, false, false);
        Assert.Equal(Canonical(expected), Canonical(Assert.Single(parsed.Message.ToolCalls).ArgumentsJson));
    }

    // ---- helpers

    private static List<(byte[], bool)> PiecesOf(JsonElement item) => item.Get("tokens").ValueKind == JsonValueKind.Array
        ? [.. item.Get("tokens").EnumerateArray().Select(static t => (Encoding.UTF8.GetBytes(t[0].GetString()!), t[1].GetBoolean()))]
        : ChatGolden.Pieces([item.Str("raw")]);

    private static IEnumerable<(string, List<string>)> Chunkings(JsonElement item)
    {
        if (item.Get("chunkings").ValueKind == JsonValueKind.Object)
            foreach (JsonProperty chunking in item.Get("chunkings").EnumerateObject())
                yield return (chunking.Name, [.. chunking.Value.EnumerateArray().Select(static c => c.GetString()!)]);
        yield return ("characters", [.. item.Str("raw").EnumerateRunes().Select(static r => r.ToString())]);
    }

    private static Parsed Parse(JsonElement item, List<(byte[], bool)> pieces)
    {
        JsonElement context = item.GetProperty("context");
        return Run(pieces, context.Str("prompt_state") == "thought_open" ? PromptState.ThoughtOpen : PromptState.Content,
            context.Flag("enable_thinking"), context.Str("stop") == "length");
    }

    internal static Parsed Run(List<(byte[] Piece, bool IsSpecial)> pieces, PromptState start, bool thinking, bool lengthStop)
    {
        OutputParser parser = new(start, thinking);
        List<OutputEvent> events = [];
        foreach ((byte[] piece, bool isSpecial) in pieces) parser.Push(piece, isSpecial, events);
        parser.Finish(lengthStop, events);
        return new(parser, events);
    }

    private static string? Difference(JsonElement item, Parsed parsed)
    {
        JsonElement expected = item.GetProperty("expected");
        string finish = parsed.Parser.FinishReason switch { OutputFinish.Length => "length", OutputFinish.ToolCalls => "tool_calls", _ => "stop" };
        string Shown(string reasoning, string content, string finishReason, IEnumerable<string> calls) =>
            JsonSerializer.Serialize(new { reasoning, content, finishReason, calls });
        string should = Shown(expected.Str("reasoning"), expected.Str("content"), expected.Str("finish_reason"),
            expected.GetProperty("tool_calls").EnumerateArray().Select(c => c.Str("name") + Canonical(c.Str("arguments_json"))));
        string isNow = Shown(parsed.Message.Reasoning, parsed.Message.Content, finish, parsed.Message.ToolCalls.Select(static c => c.Name + Canonical(c.ArgumentsJson)));
        return should == isNow ? null : $"\n  is     {isNow}\n  should {should}";
    }

    /// <summary>What holds for every input (6.5): calls in order and valid, nothing after the end, whole text equals its deltas.</summary>
    internal static void AssertInvariants(Parsed parsed, string id)
    {
        int open = -1, started = 0;
        foreach (OutputEvent e in parsed.Events)
        {
            if (e.Kind == OutputEventKind.ToolCallStart)
            {
                Assert.True(open < 0 && e.ToolIndex == started++ && e.Text.Length > 0, id);
                open = e.ToolIndex;
            }
            else if (e.Kind is OutputEventKind.ToolCallArguments or OutputEventKind.ToolCallEnd)
            {
                Assert.True(e.ToolIndex == open, id);
                Assert.True(e.Text.Length > 0 == (e.Kind == OutputEventKind.ToolCallArguments), id);
                if (e.Kind == OutputEventKind.ToolCallEnd) open = -1;
            }
            else
            {
                Assert.True(open < 0 && e.Text.Length > 0, id);
            }
            Assert.True(Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(e.Text)) == e.Text, id);   // no lone surrogate
        }
        foreach (CollectedToolCall call in parsed.Message.ToolCalls)
        {
            using JsonDocument json = JsonDocument.Parse(call.ArgumentsJson, new() { MaxDepth = ChatValue.MaxDepth });
            Assert.Equal(JsonValueKind.Object, json.RootElement.ValueKind);
        }
    }

    /// <summary>JSON with sorted-out duplicates (last wins), exact number lexemes and one way of escaping.</summary>
    internal static string Canonical(string json)
    {
        using JsonDocument document = JsonDocument.Parse(json, new() { MaxDepth = 10_000 });
        StringBuilder result = new();
        Write(document.RootElement);
        return result.ToString();

        void Write(JsonElement element)
        {
            switch (element.ValueKind)
            {
                case JsonValueKind.Object:
                    Dictionary<string, JsonElement> members = [];
                    foreach (JsonProperty member in element.EnumerateObject()) members[member.Name] = member.Value;
                    result.Append('{');
                    foreach ((string key, JsonElement value) in members)
                    {
                        result.Append(CultureInfo.InvariantCulture, $"{JsonSerializer.Serialize(key)}:");
                        Write(value);
                        result.Append(',');
                    }
                    result.Append('}');
                    break;
                case JsonValueKind.Array:
                    result.Append('[');
                    foreach (JsonElement item in element.EnumerateArray())
                    {
                        Write(item);
                        result.Append(',');
                    }
                    result.Append(']');
                    break;
                case JsonValueKind.String:
                    result.Append(JsonSerializer.Serialize(element.GetString()));
                    break;
                default:
                    result.Append(element.GetRawText());
                    break;
            }
        }
    }

    internal sealed class Parsed(OutputParser parser, List<OutputEvent> events)
    {
        public OutputParser Parser => parser;

        public List<OutputEvent> Events => events;

        public OutputCollector Message { get; } = Collect(events);

        public static OutputCollector Collect(List<OutputEvent> events)
        {
            OutputCollector collector = new();
            collector.AddRange(events);
            return collector;
        }

        /// <summary>Adjacent deltas of one kind joined; calls as one event.</summary>
        public List<string> MergedEvents()
        {
            List<string> merged = [];
            StringBuilder arguments = new();
            string name = "";
            OutputEventKind? last = null;
            foreach (OutputEvent e in events)
            {
                if (e.Kind is OutputEventKind.Reasoning or OutputEventKind.Content)
                {
                    string kind = e.Kind == OutputEventKind.Content ? "content " : "reasoning ";
                    if (last == e.Kind) merged[^1] += e.Text;
                    else merged.Add(kind + e.Text);
                }
                else if (e.Kind == OutputEventKind.ToolCallStart)
                {
                    name = e.Text;
                    arguments.Clear();
                }
                else if (e.Kind == OutputEventKind.ToolCallArguments)
                {
                    arguments.Append(e.Text);
                }
                else
                {
                    merged.Add($"call {e.ToolIndex} {name} {Canonical(arguments.ToString())}");
                }
                last = e.Kind;
            }
            return merged;
        }

        /// <summary>Everything there is to compare, unfinished calls included.</summary>
        public string Merged()
        {
            StringBuilder all = new();
            OutputEvent? last = null;
            foreach (OutputEvent e in events)
            {
                if (last is not { } l || l.Kind != e.Kind || l.ToolIndex != e.ToolIndex) all.Append(CultureInfo.InvariantCulture, $"\n{e.Kind} {e.ToolIndex} ");
                all.Append(e.Text);
                last = e;
            }
            return $"{all}\n{parser.FinishReason}";
        }
    }
}
