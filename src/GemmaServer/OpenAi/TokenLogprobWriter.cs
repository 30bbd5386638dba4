using System.Text;
using System.Text.Json;
using GemmaServer.Compute;
using GemmaServer.Engine;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>Logprobs in the chat shape: token text, logprob, bytes, and the best beside it.</summary>
internal static class TokenLogprobWriter
{
    // JSON has no minus infinity; OpenAI's own value for "as good as never".
    private const float Never = -9999f;

    /// <summary>The <c>logprobs</c> object of a chat choice.</summary>
    public static void Write(Utf8JsonWriter json, Tokenizer tokenizer, IReadOnlyList<TokenEvent> tokens)
    {
        json.WriteStartObject("logprobs"u8);
        json.WritePropertyName("content"u8);
        WriteArray(json, tokenizer, tokens);
        json.WriteNull("refusal"u8);
        json.WriteEndObject();
    }

    /// <summary>One object for each token.</summary>
    public static void WriteArray(Utf8JsonWriter json, Tokenizer tokenizer, IReadOnlyList<TokenEvent> tokens)
    {
        json.WriteStartArray();
        foreach (TokenEvent token in tokens)
        {
            json.WriteStartObject();
            Members(json, tokenizer, token.Token, token.Logprob);
            json.WriteStartArray("top_logprobs"u8);
            foreach (TokenLogprob top in token.TopLogprobs ?? [])
            {
                json.WriteStartObject();
                Members(json, tokenizer, top.Token, top.Logprob);
                json.WriteEndObject();
            }
            json.WriteEndArray();
            json.WriteEndObject();
        }
        json.WriteEndArray();
    }

    /// <summary>A token's text by itself; bytes that are no character show as U+FFFD.</summary>
    public static string TextOf(Tokenizer tokenizer, int token) => Encoding.UTF8.GetString(tokenizer.TokenBytes(token));

    /// <summary>A number JSON can carry.</summary>
    public static float Finite(float logprob) => float.IsFinite(logprob) ? Math.Max(logprob, Never) : Never;

    private static void Members(Utf8JsonWriter json, Tokenizer tokenizer, int token, float logprob)
    {
        json.WriteString("token"u8, TextOf(tokenizer, token));
        json.WriteNumber("logprob"u8, Finite(logprob));
        json.WriteStartArray("bytes"u8);
        foreach (byte b in tokenizer.TokenBytes(token)) json.WriteNumberValue(b);
        json.WriteEndArray();
    }
}
