using System.Text.Json;

namespace GemmaServer;

/// <summary><c>GET /props</c>, of llama.cpp's object what its clients look at: context, places, sampling where a request says nothing.</summary>
internal static class PropsEndpoint
{
    public static void Map(IEndpointRouteBuilder routes, Server server) => routes.MapGet("/props", async http =>
    {
        if (server.Model is not { } model)
        {
            await ApiError.Loading.WriteAsync(http);
            return;
        }
        http.Response.ContentType = "application/json";
        await using Utf8JsonWriter json = new(http.Response.BodyWriter, JsonStyle.Writer);
        json.WriteStartObject();
        json.WriteStartObject("default_generation_settings"u8);
        json.WriteNumber("n_ctx"u8, model.MaxModelLength);
        json.WriteStartObject("params"u8);
        json.WriteNumber("temperature"u8, model.Defaults.Temperature);
        json.WriteNumber("top_p"u8, model.Defaults.TopP);
        json.WriteNumber("top_k"u8, model.Defaults.TopK);
        json.WriteEndObject();
        json.WriteEndObject();
        json.WriteNumber("total_slots"u8, server.Options.MaxNumSeqs);
        json.WriteString("model_alias"u8, model.Names[0]);
        json.WriteStartObject("modalities"u8);
        json.WriteBoolean("vision"u8, false);
        json.WriteBoolean("audio"u8, false);
        json.WriteEndObject();
        json.WriteString("build_info"u8, model.Fingerprint);
        json.WriteEndObject();
    });
}
