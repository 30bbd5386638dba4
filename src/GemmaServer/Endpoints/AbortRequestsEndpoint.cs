using System.Text.Json;

namespace GemmaServer;

/// <summary>
/// <c>POST /abort_requests</c> with <c>request_ids</c>: ends running requests by the <c>x-request-id</c> that they came with or were
/// answered with. A key ends its own, the admin key everybody's.
/// </summary>
internal static class AbortRequestsEndpoint
{
    private const int MaxIds = 1024;

    private sealed record Ids(IReadOnlyList<string> All);

    public static void Map(IEndpointRouteBuilder routes, Server server) => routes.MapPost("/abort_requests", async http =>
    {
        (Ids? ids, _, ApiError? error) = await server.ReadAsync<Ids>(http, Read);
        if (error is not null)
        {
            await error.WriteAsync(http);
            return;
        }
        string? key = RequestOrigin.KeyName(http);
        int aborted = ids!.All.Sum(id => server.Running.Abort(id, key));
        http.Response.ContentType = "application/json";
        await http.Response.WriteAsync($"{{\"aborted\":{aborted}}}");
    });

    private static ApiError? Read(JsonElement root, ServedModel model, ServerOptions options, out Ids? ids)
    {
        ids = null;
        FieldReader fields = new(root);
        if (!fields.TryGetArray("request_ids", out JsonElement array)) return fields.Error ?? ApiError.Missing("request_ids");
        if (array.GetArrayLength() > MaxIds) return ApiError.ArrayTooLong("request_ids", MaxIds, array.GetArrayLength());
        List<string> all = [];
        foreach (JsonElement item in array.EnumerateArray())
        {
            if (item.ValueKind != JsonValueKind.String) return ApiError.WrongType($"request_ids[{all.Count}]", "a string", item);
            all.Add(item.GetString()!);
        }
        ids = new Ids([.. all.Distinct(StringComparer.Ordinal)]);
        return null;
    }
}
