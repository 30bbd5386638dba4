using System.Text;
using GemmaServer.Text;

namespace GemmaServer.Tests.Text;

/// <summary>Random mixtures of control tokens and fragments; the same seeds every time.</summary>
public class ChatOutputPropertyTests
{
    private static readonly string[] s_fragments =
    [
        "call:", "f", "get_weather", "{", "}", "[", "]", ":", ",", " ", "\n", "a:1", "city:", "Paris", "\"", "'", "\\", "\\u12", "-", ".5", "007",
        "true", "None", "thought\n", "thou", "ght", "\n", "word", "é", "\U0001F600", "{{", "}}", "x:{y:[", "1e5", "New York, NY", "\u0001", "\u00A0",
    ];

    /// <summary>Fragments of real calls are likelier than pure noise would make them.</summary>
    private static List<(byte[] Piece, bool IsSpecial)> RandomOutput(Random random)
    {
        List<(byte[], bool)> pieces = [];
        int length = random.Next(1, 60);
        while (pieces.Count < length)
        {
            switch (random.Next(10))
            {
                case 0:
                    pieces.Add((Bytes(ChatGolden.Markers[random.Next(ChatGolden.Markers.Count)]), true));
                    break;
                case 1:
                    pieces.Add((Bytes("<|tool_call>"), true));
                    pieces.Add((Bytes("call:f{"), false));
                    break;
                case 2:
                    pieces.Add((Bytes("<|\"|>"), true));
                    break;
                case 3:
                    pieces.Add((Bytes(random.Next(3) == 0 ? "<tool_call|>" : random.Next(2) == 0 ? "<|channel>" : "<channel|>"), true));
                    break;
                default:
                    pieces.Add((Bytes(s_fragments[random.Next(s_fragments.Length)]), false));
                    break;
            }
        }
        return pieces;
    }

    [Fact]
    public void Any_token_sequence_parses_without_leaks_into_valid_calls()
    {
        for (int seed = 0; seed < 20_000; seed++)
        {
            Random random = new(seed);
            List<(byte[], bool)> pieces = RandomOutput(random);
            ChatOutputParserTests.Parsed parsed = Run(pieces, random);
            ChatOutputParserTests.AssertInvariants(parsed, $"seed {seed}");
            string shown = string.Concat(parsed.Events.Select(static e => e.Text));
            foreach (string marker in ChatGolden.Markers)
                Assert.False(shown.Contains(marker, StringComparison.Ordinal), $"seed {seed}: {marker} in {shown}");
        }
    }

    [Fact]
    public void Streaming_in_single_bytes_gives_what_whole_pieces_give()
    {
        for (int seed = 0; seed < 10_000; seed++)
        {
            List<(byte[] Piece, bool IsSpecial)> pieces = RandomOutput(new(seed));
            List<(byte[], bool)> bytes = [], joined = [];
            foreach ((byte[] piece, bool isSpecial) in pieces)
            {
                if (isSpecial) bytes.Add((piece, true));
                else foreach (byte b in piece) bytes.Add(([b], false));
                if (!isSpecial && joined is [.., (byte[] before, false)]) joined[^1] = ([.. before, .. piece], false);
                else joined.Add((piece, isSpecial));
            }
            string whole = Run(joined, new(seed)).Merged();
            Assert.True(whole == Run(pieces, new(seed)).Merged(), $"seed {seed}");
            Assert.True(whole == Run(bytes, new(seed)).Merged(), $"seed {seed}");
        }
    }

    [Fact]
    public void Random_bytes_never_throw_and_give_valid_text()
    {
        for (int seed = 0; seed < 2_000; seed++)
        {
            Random random = new(seed);
            byte[] noise = new byte[random.Next(1, 80)];
            random.NextBytes(noise);
            ChatOutputParserTests.AssertInvariants(Run([(Bytes("<|tool_call>"), random.Next(2) == 0), (Bytes("call:f{a:"), false), (noise, false)], random), $"seed {seed}");
        }
    }

    [Fact]
    public void Deep_nesting_and_long_runs_are_taken_in_one_pass()
    {
        const int Many = 200_000;
        foreach (string body in new[] { new string('[', Many), new string('{', Many), new string(' ', Many), new string('\'', Many), new string('}', Many), new string(',', Many), "x" + new string(',', Many) })
        {
            ChatOutputParserTests.Parsed parsed = ChatOutputParserTests.Run(
                [(Bytes("<|tool_call>"), true), (Bytes("call:f{a:"), false), (Bytes(body), false), (Bytes("<|\"|>"), true), (Bytes(body), false), (Bytes("<tool_call|>"), true)],
                PromptState.Content, thinking: false, lengthStop: false);
            Assert.NotEmpty(parsed.Events);
        }
    }

    private static ChatOutputParserTests.Parsed Run(List<(byte[], bool)> pieces, Random random)
    {
        int mode = random.Next(8);
        return ChatOutputParserTests.Run(pieces, (mode & 1) == 0 ? PromptState.Content : PromptState.ThoughtOpen, (mode & 2) == 0, (mode & 4) == 0);
    }

    private static byte[] Bytes(string text) => Encoding.UTF8.GetBytes(text);
}
