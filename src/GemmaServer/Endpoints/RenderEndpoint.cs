using System.Text.Json;
using GemmaServer.Engine;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary>
/// <c>POST /v1/chat/completions/render</c> and <c>/v1/completions/render</c> as vLLM has them: what a request comes to before
/// anything is generated, as token ids and sampling parameters. A text completion may have several prompts, so it gives an array.
/// </summary>
internal static class RenderEndpoint
{
    public static void Map(IEndpointRouteBuilder routes, Server server)
    {
        routes.MapPost("/v1/chat/completions/render", http => ChatAsync(http, server));
        routes.MapPost("/v1/completions/render", http => TextAsync(http, server));
    }

    private static async Task ChatAsync(HttpContext http, Server server)
    {
        (ChatRequest? request, ServedModel? model, ApiError? error) = await server.ReadAsync<ChatRequest>(http, ChatRequestReader.Read);
        if (error is not null)
        {
            await error.WriteAsync(http);
            return;
        }
        GenerationRequest generation = request!.Sampling.ToRequest(http.TraceIdentifier, request.Prompt, request.MaxTokens, choice: 0, request.Logprobs,
            promptLogprobs: -1, request.Start == PromptState.ThoughtOpen, default, request.GenerationStart);
        http.Response.ContentType = "application/json";
        await using Utf8JsonWriter json = new(http.Response.BodyWriter, JsonStyle.Writer);
        Write(json, model!, request.Sampling, generation);
    }

    private static async Task TextAsync(HttpContext http, Server server)
    {
        (CompletionRequest? request, ServedModel? model, ApiError? error) = await server.ReadAsync<CompletionRequest>(http, CompletionRequestReader.Read);
        if (error is not null)
        {
            await error.WriteAsync(http);
            return;
        }
        http.Response.ContentType = "application/json";
        await using Utf8JsonWriter json = new(http.Response.BodyWriter, JsonStyle.Writer);
        json.WriteStartArray();
        foreach (CompletionPrompt prompt in request!.Prompts)
        {
            Write(json, model!, request.Sampling, request.Sampling.ToRequest(http.TraceIdentifier, prompt.Tokens, request.MaxTokens, choice: 0, request.Logprobs,
                request.Echo ? request.Logprobs : -1, thoughtOpen: false, default));
        }
        json.WriteEndArray();
    }

    private static void Write(Utf8JsonWriter json, ServedModel model, SamplingFields fields, GenerationRequest request)
    {
        json.WriteStartObject();
        json.WriteString("request_id"u8, request.Id);
        json.WriteStartArray("token_ids"u8);
        foreach (int token in request.Prompt) json.WriteNumberValue(token);
        json.WriteEndArray();
        json.WriteNull("features"u8);
        WriteSampling(json, fields, request);
        json.WriteString("model"u8, model.Names[0]);
        json.WriteBoolean("stream"u8, fields.Stream);
        json.WriteNull("stream_options"u8);
        json.WriteString("cache_salt"u8, request.CacheSalt);
        json.WriteNumber("priority"u8, request.Priority);
        json.WriteNull("kv_transfer_params"u8);
        json.WriteEndObject();
    }

    private static void WriteSampling(Utf8JsonWriter json, SamplingFields fields, GenerationRequest request)
    {
        Compute.SamplingParams sampling = request.Sampling;
        json.WriteStartObject("sampling_params"u8);
        json.WriteNumber("n"u8, fields.N);
        json.WriteNumber("presence_penalty"u8, sampling.PresencePenalty);
        json.WriteNumber("frequency_penalty"u8, sampling.FrequencyPenalty);
        json.WriteNumber("repetition_penalty"u8, sampling.RepetitionPenalty);
        json.WriteNumber("temperature"u8, sampling.Temperature);
        json.WriteNumber("top_p"u8, sampling.TopP);
        json.WriteNumber("top_k"u8, sampling.TopK);
        json.WriteNumber("min_p"u8, sampling.MinP);
        json.WriteNumber("seed"u8, sampling.Seed);
        json.WriteStartArray("stop"u8);
        foreach (string stop in fields.Stops) json.WriteStringValue(stop);
        json.WriteEndArray();
        json.WriteStartArray("stop_token_ids"u8);
        foreach (int token in fields.StopTokens) json.WriteNumberValue(token);
        json.WriteEndArray();
        json.WriteBoolean("ignore_eos"u8, fields.IgnoreEos);
        json.WriteNumber("max_tokens"u8, request.MaxTokens);
        json.WriteNumber("min_tokens"u8, fields.MinTokens);
        if (sampling.Logprobs >= 0) json.WriteNumber("logprobs"u8, sampling.Logprobs);
        else json.WriteNull("logprobs"u8);
        if (request.PromptLogprobs >= 0) json.WriteNumber("prompt_logprobs"u8, request.PromptLogprobs);
        else json.WriteNull("prompt_logprobs"u8);
        json.WriteBoolean("skip_special_tokens"u8, fields.SkipSpecial);
        json.WriteBoolean("include_stop_str_in_output"u8, fields.IncludeStop);
        json.WriteStartObject("logit_bias"u8);
        foreach ((int token, float bias) in sampling.LogitBias) json.WriteNumber(token.ToString(System.Globalization.CultureInfo.InvariantCulture), bias);
        json.WriteEndObject();
        json.WriteEndObject();
    }
}
