using System.Globalization;
using System.Text.Json;

namespace GemmaServer;

/// <summary>
/// <c>POST /v1/responses</c>, and what can be done with a response that is stored: read it, list its input, delete it.
/// </summary>
internal static class ResponsesEndpoint
{
    private const int DefaultLimit = 20, MaxLimit = 100;

    /// <summary>A count as the readers' common form wants it.</summary>
    private sealed record Counted(int Tokens);

    public static void Map(IEndpointRouteBuilder routes, Server server)
    {
        routes.MapPost("/v1/responses", http => CreateAsync(http, server));
        routes.MapPost("/v1/responses/input_tokens", http => CountAsync(http, server));
        routes.MapGet("/v1/responses/{id}", http => GetAsync(http, server.Responses));
        routes.MapDelete("/v1/responses/{id}", http => DeleteAsync(http, server.Responses));
        routes.MapPost("/v1/responses/{id}/cancel", http => CancelAsync(http, server.Responses));
        routes.MapGet("/v1/responses/{id}/input_items", http => ListInputAsync(http, server.Responses));
    }

    private static async Task CreateAsync(HttpContext http, Server server)
    {
        string owner = RequestOrigin.OwnerOf(http);
        RequestOrigin origin = default;
        (ResponsesRequest? request, ServedModel? model, ApiError? error) = await server.ReadAsync<ResponsesRequest>(http,
            (JsonElement root, ServedModel served, ServerOptions options, out ResponsesRequest? read) =>
                ResponsesReader.Read(root, served, options, server.Responses, owner, out read));
        error ??= RequestOrigin.Read(http, server.Options, out origin);
        if (error is not null) await error.WriteAsync(http);
        else await ChatAnswer.ServeAsync(http, server, "responses", model!, request!.Chat, origin, new ResponsesShape(model!, request, server.Responses));
    }

    private static async Task CountAsync(HttpContext http, Server server)
    {
        string owner = RequestOrigin.OwnerOf(http);
        (Counted? counted, _, ApiError? error) = await server.ReadAsync<Counted>(http,
            (JsonElement root, ServedModel served, ServerOptions options, out Counted? read) =>
            {
                ApiError? wrong = ResponsesReader.Count(root, served, options, server.Responses, owner, out int tokens);
                read = new Counted(tokens);
                return wrong;
            });
        if (error is not null)
        {
            await error.WriteAsync(http);
            return;
        }
        await using Utf8JsonWriter json = Begin(http);
        json.WriteStartObject();
        json.WriteString("object"u8, "response.input_tokens"u8);
        json.WriteNumber("input_tokens"u8, counted!.Tokens);
        json.WriteEndObject();
    }

    private static async Task GetAsync(HttpContext http, ResponseStore store)
    {
        StoredResponse? response = store.Find(IdOf(http), RequestOrigin.OwnerOf(http));
        ApiError? error = response is null ? ApiError.UnknownResponse(IdOf(http))
            : http.Request.Query["stream"].ToString() is "true" or "1" ? ApiError.UnsupportedParameter("stream", "Only responses made in the background could be streamed again.")
            : null;
        if (error is not null)
        {
            await error.WriteAsync(http);
            return;
        }
        http.Response.ContentType = "application/json";
        await http.Response.BodyWriter.WriteAsync(response!.Body, http.RequestAborted);
    }

    private static async Task DeleteAsync(HttpContext http, ResponseStore store)
    {
        string id = IdOf(http);
        if (!store.Remove(id, RequestOrigin.OwnerOf(http)))
        {
            await ApiError.UnknownResponse(id).WriteAsync(http);
            return;
        }
        await using Utf8JsonWriter json = Begin(http);
        json.WriteStartObject();
        json.WriteString("id"u8, id);
        json.WriteString("object"u8, "response"u8);
        json.WriteBoolean("deleted"u8, true);
        json.WriteEndObject();
    }

    /// <summary>Only a response that was made in the background could be cancelled, and there are none.</summary>
    private static Task CancelAsync(HttpContext http, ResponseStore store) =>
        (store.Find(IdOf(http), RequestOrigin.OwnerOf(http)) is null ? ApiError.UnknownResponse(IdOf(http)) : ApiError.CannotCancel).WriteAsync(http);

    private static async Task ListInputAsync(HttpContext http, ResponseStore store)
    {
        StoredResponse? response = store.Find(IdOf(http), RequestOrigin.OwnerOf(http));
        IQueryCollection query = http.Request.Query;
        string order = query["order"].FirstOrDefault() ?? "desc";
        string? limitText = query["limit"].FirstOrDefault();
        int limit = DefaultLimit;
        ApiError? error = response is null ? ApiError.UnknownResponse(IdOf(http))
            : order is not ("asc" or "desc") ? ApiError.Value("order", order, "asc", "desc")
            : limitText is not null && !int.TryParse(limitText, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out limit)
                ? ApiError.WrongType("limit", "an integer", "a string")
            : limit < 1 ? ApiError.IntegerTooSmall("limit", "1", limitText!)
            : limit > MaxLimit ? ApiError.IntegerTooBig("limit", $"{MaxLimit}", limitText!)
            : null;
        List<JsonElement> items = [];
        int from = 0;
        if (error is null)
        {
            items = [.. response!.InputItems()];
            if (order == "desc") items.Reverse();
            if (query["after"].FirstOrDefault() is { Length: > 0 } after)
            {
                from = 1 + items.FindIndex(item => item.GetProperty("id").ValueEquals(after));
                if (from == 0) error = ApiError.BadValue("after", $"there is no item '{ApiError.Echo(after)}' in this input.");
            }
        }
        if (error is not null)
        {
            await error.WriteAsync(http);
            return;
        }
        List<JsonElement> page = items.GetRange(from, Math.Min(limit, items.Count - from));
        await using Utf8JsonWriter json = Begin(http);
        json.WriteStartObject();
        json.WriteString("object"u8, "list"u8);
        json.WriteStartArray("data"u8);
        foreach (JsonElement item in page) item.WriteTo(json);
        json.WriteEndArray();
        json.WriteString("first_id"u8, page.Count > 0 ? page[0].GetProperty("id").GetString() : "");
        json.WriteString("last_id"u8, page.Count > 0 ? page[^1].GetProperty("id").GetString() : "");
        json.WriteBoolean("has_more"u8, from + page.Count < items.Count);
        json.WriteEndObject();
    }

    private static string IdOf(HttpContext http) => (string?)http.Request.RouteValues["id"] ?? "";

    private static Utf8JsonWriter Begin(HttpContext http)
    {
        http.Response.ContentType = "application/json";
        return new Utf8JsonWriter(http.Response.BodyWriter, JsonStyle.Writer);
    }
}
