using System.Diagnostics;
using System.Text.Json;
using GemmaServer.Engine;

namespace GemmaServer;

/// <summary>How long an answer took, for clients that ask for it: vLLM's <c>metrics</c> and llama.cpp's <c>timings</c>, of the first choice.</summary>
internal static class AnswerTimes
{
    /// <summary>Writes the members that the request asked for.</summary>
    public static void Write(Utf8JsonWriter json, SamplingFields sampling, Generation generation)
    {
        if (!sampling.WantsMetrics && !sampling.WantsTimings) return;
        long end = generation.FinishedAt > 0 ? generation.FinishedAt : Stopwatch.GetTimestamp();
        double queue = Milliseconds(generation.QueuedAt, generation.AdmittedAt);
        double prompt = Milliseconds(generation.AdmittedAt, generation.FirstTokenAt);
        double decode = Milliseconds(generation.FirstTokenAt, end);
        int tokens = generation.GeneratedTokens;
        if (sampling.WantsMetrics)
        {
            json.WriteStartObject("metrics"u8);
            json.WriteNumber("queue_time_ms"u8, queue);
            json.WriteNumber("time_to_first_token_ms"u8, queue + prompt);
            json.WriteNumber("generation_time_ms"u8, decode);
            json.WriteNumber("mean_itl_ms"u8, Ratio(decode, tokens - 1));
            json.WriteNumber("tokens_per_second"u8, Ratio(1000.0 * (tokens - 1), decode));
            json.WriteEndObject();
        }
        if (!sampling.WantsTimings) return;
        int computed = generation.PromptTokens - generation.CachedTokens;
        json.WriteStartObject("timings"u8);
        json.WriteNumber("cache_n"u8, generation.CachedTokens);
        json.WriteNumber("prompt_n"u8, computed);
        json.WriteNumber("prompt_ms"u8, prompt);
        json.WriteNumber("prompt_per_token_ms"u8, Ratio(prompt, computed));
        json.WriteNumber("prompt_per_second"u8, Ratio(1000.0 * computed, prompt));
        json.WriteNumber("predicted_n"u8, tokens);
        json.WriteNumber("predicted_ms"u8, decode);
        json.WriteNumber("predicted_per_token_ms"u8, Ratio(decode, tokens - 1));
        json.WriteNumber("predicted_per_second"u8, Ratio(1000.0 * (tokens - 1), decode));
        json.WriteEndObject();
    }

    private static double Milliseconds(long from, long to) => from == 0 || to <= from ? 0 : Math.Round(Stopwatch.GetElapsedTime(from, to).TotalMilliseconds, 3);

    private static double Ratio(double a, double b) => b > 0 && a > 0 ? Math.Round(a / b, 3) : 0;
}
