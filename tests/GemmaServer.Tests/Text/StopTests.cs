using System.Text;
using GemmaServer.Text;

namespace GemmaServer.Tests;

public class StopTests
{
    private static Tokenizer Tokenizer => GoldenVocabulary.All[0].FromJson;

    [Fact]
    public void The_filter_cuts_at_the_first_match_however_the_text_is_split()
    {
        Random random = new(21);
        for (int round = 0; round < 3000; round++)
        {
            string text = Letters(random, random.Next(0, 9));
            string[] stops = [.. Enumerable.Range(0, random.Next(1, 4)).Select(_ => Letters(random, random.Next(1, 5)))];
            (string expected, string? matched) = Cut(text, stops);
            // Every way to split a text of up to 8 letters.
            for (int split = 0; split < 1 << Math.Max(0, text.Length - 1); split++)
            {
                StopTextFilter filter = new(stops);
                string given = "";
                foreach (string delta in Deltas(text, split))
                {
                    given += filter.Push(delta);
                    // Nothing given out may turn out to belong to a stop string, now or with what follows.
                    Assert.StartsWith(given, expected);
                }
                given += filter.Flush();
                Assert.True(expected == given, $"'{text}' by {string.Join(",", stops)}: '{given}' instead of '{expected}'");
                Assert.Equal(matched, filter.MatchedStop);
                Assert.Equal(matched is not null, filter.Stopped);
            }
        }
    }

    [Fact]
    public void What_may_become_a_stop_string_is_held_back_and_no_more_than_that()
    {
        Random random = new(22);
        for (int round = 0; round < 2000; round++)
        {
            string text = Letters(random, random.Next(1, 30));
            string[] stops = [.. Enumerable.Range(0, random.Next(1, 4)).Select(_ => Letters(random, random.Next(2, 7)))];
            StopTextFilter filter = new(stops);
            string given = "";
            for (int i = 0; i < text.Length && !filter.Stopped; i++)
            {
                given += filter.Push(text[i..(i + 1)]);
                if (filter.Stopped) break;
                string sofar = text[..(i + 1)];
                int held = Enumerable.Range(0, sofar.Length + 1).First(n => stops.Any(s => s.StartsWith(sofar[n..], StringComparison.Ordinal)));
                Assert.Equal(sofar[..held], given);
            }
        }
    }

    [Fact]
    public void With_include_stop_the_text_ends_with_the_stop_string()
    {
        Random random = new(23);
        int found = 0;
        for (int round = 0; round < 2000; round++)
        {
            string text = Letters(random, random.Next(1, 12));
            string[] stops = [Letters(random, random.Next(1, 4)), Letters(random, random.Next(1, 4))];
            (string expected, string? matched) = Cut(text, stops);
            StopTextFilter filter = new(stops, includeStop: true);
            string given = string.Concat(Deltas(text, random.Next(1 << (text.Length - 1))).Select(filter.Push)) + filter.Flush();
            Assert.Equal(expected + matched, given);
            if (matched is not null) found++;
        }
        Assert.True(found > 500);
    }

    [Fact]
    public void After_a_stop_nothing_more_is_given_out()
    {
        StopTextFilter filter = new(["END"]);
        Assert.Equal("ab", filter.Push("abENDcd"));
        Assert.Equal("", filter.Push("more"));
        Assert.Equal("", filter.Flush());
        Assert.Equal("END", filter.MatchedStop);
    }

    [Fact]
    public void Without_stop_strings_text_passes_at_once()
    {
        foreach (string[] none in (string[][])[[], [""]])
        {
            StopTextFilter filter = new(none);
            Assert.Equal("abc", filter.Push("abc"));
            Assert.False(filter.Stopped);
            Assert.False(new StopMatcher(Tokenizer, none, thoughtOpen: false).Push(Tokenizer.TokenId("a")!.Value));
        }
    }

    [Fact]
    public void The_matcher_stops_at_the_token_that_completes_what_the_filter_cuts()
    {
        Random random = new(24);
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
        {
            Tokenizer tokenizer = vocabulary.FromGguf;
            int found = 0;
            for (int round = 0; round < 1500; round++)
            {
                // Any ordinary tokens, broken bytes included; stop strings are parts of the text, or nearly.
                int[] ids = [.. Enumerable.Range(0, random.Next(1, 25)).Select(_ => random.Next(27, tokenizer.VocabularySize))];
                string text = Shown(tokenizer, ids);
                string[] stops = [.. Enumerable.Range(0, 2).Select(_ => PartOf(random, text))];
                found += AssertAgree(tokenizer, ids, stops) ? 1 : 0;
            }
            Assert.True(found > 500, $"{vocabulary.Name}: {found}");
        }
    }

    [Fact]
    public void A_stop_string_is_found_inside_and_across_tokens_and_bytes()
    {
        int[] smile = [.. Encoding.UTF8.GetBytes("😀").Select(b => Tokenizer.TokenId($"<0x{b:X2}>")!.Value)];
        StopMatcher matcher = new(Tokenizer, ["a😀"], thoughtOpen: false);
        Assert.False(matcher.Push(Tokenizer.TokenId("a")!.Value));
        Assert.Equal([false, false, false, true], smile.Select(matcher.Push));

        int the = Tokenizer.Encode(" the", parseSpecial: false) is [int one] ? one : throw new InvalidOperationException("' the' is not one token");
        Assert.True(new StopMatcher(Tokenizer, ["he"], thoughtOpen: false).Push(the));
        Assert.True(new StopMatcher(Tokenizer, [" t"], thoughtOpen: false).Push(the));
    }

    // The text's markers stand for the tokens; the stop string is "stop" unless given.
    [Theory]
    [InlineData("a stop", false, 1)]
    [InlineData("<|channel>thought\nstop<channel|>no", false, 0)]
    [InlineData("<|channel>thought\nstop<channel|>stop", false, 1)]
    [InlineData("stop", true, 0)]
    [InlineData("stop<channel|>", true, 0)]
    [InlineData("stop<channel|>stop", true, 1)]
    [InlineData("<|tool_call>call:f{a:<|\"|>stop<|\"|>}<tool_call|>", false, 0)]
    [InlineData("<|tool_call>call:f{}<tool_call|>stop", false, 1)]
    [InlineData("<|channel>x<|tool_call>stop<channel|>stop", false, 0)]
    [InlineData("<|channel>x<|tool_call>stop<tool_call|>stop", false, 1)]
    [InlineData("<|tool_call>stop<|channel>stop<tool_call|>stop", false, 0)]
    [InlineData("st<channel|>op", false, 0)]
    [InlineData("st<|channel>x<channel|>op", false, 0)]
    [InlineData("st<|image|>op", false, 0)]
    [InlineData("st<|image|>stop", false, 1)]
    [InlineData("<turn|>stop", false, 0)]
    [InlineData("<|turn>stop", false, 0)]
    [InlineData("<|tool_response>stop", false, 0)]
    public void Only_visible_content_is_matched_and_never_across_a_control_token(string text, bool thoughtOpen, int matches)
    {
        StopMatcher matcher = new(Tokenizer, ["stop"], thoughtOpen);
        Assert.Equal(matches == 1, Tokenizer.Encode(text, parseSpecial: true).Any(matcher.Push));
    }

    [Theory]
    [InlineData("\n\nHi", "\n\n", true)]                               // no control token before: the text is shown as it is
    [InlineData("<|channel>x<channel|>\n\nHi", "\n\n", false)]         // dropped by the parser
    [InlineData("<|channel>x<channel|>\u001C\u2003 \nHi", "\n", false)]
    [InlineData("<|channel>x<channel|>\n\nHi\n\n", "\n\n", true)]
    [InlineData("<|channel>x<channel|>\nHi", "Hi", true)]
    [InlineData("\n<|channel>x<channel|>\nHi", "\n\n", false)]
    [InlineData("Hi<|channel>x<channel|>\n\nHo", "\n\n", true)]        // after visible text white space stays
    public void White_space_between_a_control_token_and_the_first_visible_character_is_not_matched(string text, string stop, bool matches)
    {
        StopMatcher matcher = new(Tokenizer, [stop], thoughtOpen: false);
        Assert.Equal(matches, Tokenizer.Encode(text, parseSpecial: true).Any(matcher.Push));
    }

    [Fact]
    public void A_character_cut_off_by_a_control_token_counts_as_the_replacement_it_is_shown_as()
    {
        int[] ids = [Tokenizer.TokenId("a")!.Value, Tokenizer.TokenId("<0xE2>")!.Value, Tokenizer.Special.ChannelStart];
        StopMatcher matcher = new(Tokenizer, ["a\uFFFD"], thoughtOpen: false);
        Assert.Equal([false, false, true], ids.Select(matcher.Push));
    }

    [Fact]
    public void A_quote_token_in_content_counts_as_the_quotation_mark_it_is_shown_as()
    {
        StopMatcher matcher = new(Tokenizer, ["a\"b"], thoughtOpen: false);
        Assert.Equal([false, false, true], Tokenizer.Encode("a<|\"|>b", parseSpecial: true).Select(matcher.Push));
    }

    [Fact]
    public void Control_tokens_spelled_as_text_are_text_to_the_matcher()
    {
        StopMatcher matcher = new(Tokenizer, ["<|channel>s"], thoughtOpen: false);
        Assert.Contains(true, Tokenizer.Encode("<|channel>stop", parseSpecial: false).Select(matcher.Push));
    }

    [Fact]
    public void Matching_allocates_nothing()
    {
        int[] ids = Tokenizer.Encode("The quick brown fox 😀<|channel>thought\nx<channel|> and so on", parseSpecial: true);
        StopMatcher matcher = new(Tokenizer, ["never", "😀😀"], thoughtOpen: false);
        foreach (int id in ids) matcher.Push(id);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int round = 0; round < 100; round++)
            foreach (int id in ids) matcher.Push(id);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    private static bool AssertAgree(Tokenizer tokenizer, int[] ids, string[] stops)
    {
        StopMatcher matcher = new(tokenizer, stops, thoughtOpen: false);
        StopTextFilter filter = new(stops);
        Detokenizer text = new(tokenizer, skipSpecial: true);
        foreach (int id in ids)
        {
            bool stopped = matcher.Push(id);
            filter.Push(text.Push(id));
            Assert.True(filter.Stopped == stopped, $"{GoldenVocabulary.Ids(ids)} by '{string.Join("','", stops)}' at {id}");
            if (stopped) return true;
        }
        return false;
    }

    // The definition: the match whose end comes first, and the longest that ends there.
    private static (string Text, string? Matched) Cut(string text, string[] stops)
    {
        for (int end = 1; end <= text.Length; end++)
        {
            string? longest = stops.Where(s => text[..end].EndsWith(s, StringComparison.Ordinal)).MaxBy(static s => s.Length);
            if (longest is not null) return (text[..(end - longest.Length)], longest);
        }
        return (text, null);
    }

    private static IEnumerable<string> Deltas(string text, int split)
    {
        int start = 0;
        for (int i = 1; i < text.Length; i++)
        {
            if ((split >> (i - 1) & 1) == 0) continue;
            yield return text[start..i];
            start = i;
        }
        yield return text[start..];
    }

    private static string Letters(Random random, int length) =>
        string.Concat(Enumerable.Range(0, length).Select(_ => "aab"[random.Next(3)]));

    private static string Shown(Tokenizer tokenizer, int[] ids)
    {
        Detokenizer text = new(tokenizer, skipSpecial: true);
        return string.Concat(ids.Select(text.Push)) + text.Flush();
    }

    private static string PartOf(Random random, string text)
    {
        if (text.Length == 0) return "x";
        int start = random.Next(text.Length);
        string part = text.Substring(start, random.Next(1, Math.Min(8, text.Length - start) + 1));
        return random.Next(4) == 0 ? part + "?" : part;
    }
}
