using System.Text;
using System.Text.Json;
using GemmaServer.Text;

namespace GemmaServer.Tests;

public class DetokenizerTests
{
    [Fact]
    public void Streaming_gives_the_reference_text_where_byte_runs_are_whole()
    {
        int seen = 0;
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
            foreach (JsonElement test in vocabulary.Golden.GetProperty("decode").EnumerateArray())
                foreach (bool skip in (bool[])[false, true])
                {
                    string reference = test.GetProperty(skip ? "hf_skip_special" : "hf_keep_special").GetString()!;
                    if (reference.Contains('\uFFFD')) continue;   // the next test
                    Assert.Equal(reference, Stream(vocabulary.FromGguf, GoldenVocabulary.Ids(test.GetProperty("ids")), skip));
                    seen++;
                }
        Assert.True(seen > 10 * GoldenVocabulary.All.Count(), $"{seen} lists");
    }

    [Fact]
    public void Broken_bytes_become_one_replacement_each_and_valid_ones_beside_them_stay()
    {
        int seen = 0;
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
            foreach (JsonElement test in vocabulary.Golden.GetProperty("decode").EnumerateArray())
            {
                byte[] bytes = test.GetProperty("llama_b64").GetBytesFromBase64();
                Assert.Equal(PerByte(bytes), Stream(vocabulary.FromJson, GoldenVocabulary.Ids(test.GetProperty("ids")), skip: false));
                seen++;
            }
        Assert.True(seen > 10 * GoldenVocabulary.All.Count(), $"{seen} lists");
    }

    [Fact]
    public void Partial_utf8_is_held_back_until_complete()
    {
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
        {
            Detokenizer stream = new(vocabulary.FromJson, skipSpecial: true);
            Assert.Equal(["", "", "", "😀"], Encoding.UTF8.GetBytes("😀").Select(b => stream.Push(Byte(vocabulary, b))));
            Assert.Equal(["", "é"], Encoding.UTF8.GetBytes("é").Select(b => stream.Push(Byte(vocabulary, b))));
            Assert.Equal("", stream.Flush());
        }
    }

    [Fact]
    public void Bytes_left_at_the_end_or_before_other_text_become_one_replacement_each()
    {
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
        {
            int a = vocabulary.FromJson.TokenId("a")!.Value;
            Detokenizer stream = new(vocabulary.FromJson, skipSpecial: true);
            Assert.Equal(["", "", ""], ((byte[])[0xF0, 0x9F, 0x98]).Select(b => stream.Push(Byte(vocabulary, b))));
            Assert.Equal("\uFFFD\uFFFD\uFFFDa", stream.Push(a));
            Assert.Equal("", stream.Push(Byte(vocabulary, 0xE2)));
            Assert.Equal("\uFFFD", stream.Push(Byte(vocabulary, 0xE2)));
            Assert.Equal("", stream.Push(Byte(vocabulary, 0x82)));
            Assert.Equal("\uFFFD\uFFFD", stream.Flush());
            Assert.Equal("a", stream.Push(a));
        }
    }

    [Fact]
    public void A_skipped_control_token_adds_nothing_and_a_kept_one_its_text()
    {
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
        {
            int[] ids = vocabulary.FromJson.Encode(" a<turn|>", parseSpecial: true);
            Assert.Equal(" a", Stream(vocabulary.FromJson, ids, skip: true));
            Assert.Equal(" a<turn|>", Stream(vocabulary.FromJson, ids, skip: false));
        }
    }

    [Fact]
    public void Text_split_over_byte_tokens_never_shows_a_replacement_character()
    {
        Random random = new(8);
        foreach (GoldenVocabulary vocabulary in GoldenVocabulary.All)
            for (int round = 0; round < 200; round++)
            {
                string text = TokenizerTests.RandomText(random, 60).Replace('\uFFFD', '?').Replace('▁', ' ');
                int[] ids = vocabulary.FromGguf.Encode(text, parseSpecial: false);
                Assert.Equal(text, Stream(vocabulary.FromGguf, ids, skip: true));
            }
    }

    [Fact]
    public void Holding_back_allocates_nothing_and_giving_out_only_the_string()
    {
        GoldenVocabulary vocabulary = GoldenVocabulary.All[0];
        Detokenizer stream = new(vocabulary.FromJson, skipSpecial: true);
        int[] smile = [.. Encoding.UTF8.GetBytes("😀").Select(b => Byte(vocabulary, b))];
        foreach (int id in smile) stream.Push(id);

        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 3; i++) stream.Push(smile[i]);
        stream.Push(vocabulary.FromJson.Special.TurnEnd);
        long held = GC.GetAllocatedBytesForCurrentThread() - before;
        string text = stream.Push(smile[3]);
        long given = GC.GetAllocatedBytesForCurrentThread() - before;

        before = GC.GetAllocatedBytesForCurrentThread();
        string copy = new('x', text.Length);
        long oneString = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.Equal(2, copy.Length);
        Assert.Equal(0, held);
        Assert.Equal(oneString, given);
    }

    private static int Byte(GoldenVocabulary vocabulary, byte value) => vocabulary.FromJson.TokenId($"<0x{value:X2}>")!.Value;

    private static string Stream(Tokenizer tokenizer, int[] ids, bool skip)
    {
        Detokenizer stream = new(tokenizer, skip);
        return string.Concat(ids.Select(stream.Push)) + stream.Flush();
    }

    // Independent of System.Text: by the table of well-formed sequences in the Unicode standard (3-7).
    internal static string PerByte(ReadOnlySpan<byte> bytes)
    {
        StringBuilder text = new();
        for (int i = 0; i < bytes.Length;)
        {
            int length = bytes[i] switch { < 0x80 => 1, >= 0xC2 and < 0xE0 => 2, >= 0xE0 and < 0xF0 => 3, >= 0xF0 and < 0xF5 => 4, _ => 0 };
            bool valid = length > 0 && i + length <= bytes.Length;
            int scalar = length switch { 1 => bytes[i], 2 => bytes[i] & 0x1F, 3 => bytes[i] & 0x0F, _ => bytes[i] & 0x07 };
            for (int k = 1; valid && k < length; k++)
            {
                valid = (bytes[i + k] & 0xC0) == 0x80;
                scalar = (scalar << 6) | (bytes[i + k] & 0x3F);
            }
            valid = valid && Rune.IsValid(scalar) && new Rune(scalar).Utf8SequenceLength == length;
            text.Append(valid ? new Rune(scalar).ToString() : "\uFFFD");
            i += valid ? length : 1;
        }
        return text.ToString();
    }
}
