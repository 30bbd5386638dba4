using System.Text.Json;

namespace GemmaServer;

/// <summary><c>GET /v1/models</c> and <c>GET /v1/models/{id}</c>, with vLLM's additions.</summary>
internal static class ModelsEndpoint
{
    public static void Map(IEndpointRouteBuilder routes, Server server)
    {
        routes.MapGet("/v1/models", http => ListAsync(http, server));
        // Names may hold slashes, as on hubs.
        routes.MapGet("/v1/models/{**id}", http => OneAsync(http, server));
    }

    private static async Task ListAsync(HttpContext http, Server server)
    {
        if (server.Model is not { } model)
        {
            await ApiError.Loading.WriteAsync(http);
            return;
        }
        http.Response.ContentType = "application/json";
        await using Utf8JsonWriter json = new(http.Response.BodyWriter, JsonStyle.Writer);
        json.WriteStartObject();
        json.WriteString("object"u8, "list"u8);
        json.WriteStartArray("data"u8);
        foreach (string name in model.Names) Write(json, model, name);
        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static async Task OneAsync(HttpContext http, Server server)
    {
        string id = (string?)http.Request.RouteValues["id"] ?? "";
        ApiError? error = server.Model is not { } model ? ApiError.Loading : model.Serves(id) ? null : ApiError.UnknownModel(id);
        if (error is not null)
        {
            await error.WriteAsync(http);
            return;
        }
        http.Response.ContentType = "application/json";
        await using Utf8JsonWriter json = new(http.Response.BodyWriter, JsonStyle.Writer);
        Write(json, server.Model!, id);
    }

    private static void Write(Utf8JsonWriter json, ServedModel model, string name)
    {
        json.WriteStartObject();
        json.WriteString("id"u8, name);
        json.WriteString("object"u8, "model"u8);
        json.WriteNumber("created"u8, model.Created.ToUnixTimeSeconds());
        json.WriteString("owned_by"u8, "gemmaserver"u8);
        json.WriteString("root"u8, model.Names[0]);
        json.WriteNull("parent"u8);
        json.WriteNumber("max_model_len"u8, model.MaxModelLength);
        json.WriteStartArray("permission"u8);
        json.WriteEndArray();
        json.WriteEndObject();
    }
}
