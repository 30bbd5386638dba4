using System.Text.Json;

namespace GemmaServer;

/// <summary>A response that can be asked for again and gone on from.</summary>
/// <param name="Id"><c>resp_…</c>.</param>
/// <param name="Owner">Whose it is; nobody else sees it.</param>
/// <param name="PreviousId">The response that it went on from; null for the first of a conversation.</param>
/// <param name="Input">The request's own input items, a JSON array, each with its id.</param>
/// <param name="Body">The response object as the client got it.</param>
internal sealed record StoredResponse(string Id, string Owner, string? PreviousId, ReadOnlyMemory<byte> Input, ReadOnlyMemory<byte> Body)
{
    /// <summary>Objects and index entries beside the texts, roughly.</summary>
    private const int Overhead = 1024;

    /// <summary>Memory it holds.</summary>
    public long Bytes => Input.Length + Body.Length + Overhead;

    /// <summary>Ids of its input and output items.</summary>
    public IReadOnlyList<string> ItemIds { get; } = [.. Items(Input, Body).Select(static item => item.GetProperty("id").GetString()!)];

    /// <summary>The request's own input items, oldest first.</summary>
    public IEnumerable<JsonElement> InputItems() => Parse(Input).EnumerateArray();

    /// <summary>Its items, input before output.</summary>
    public IReadOnlyList<JsonElement> Items() => Items(Input, Body);

    private static List<JsonElement> Items(ReadOnlyMemory<byte> input, ReadOnlyMemory<byte> body) =>
        [.. Parse(input).EnumerateArray(), .. Parse(body).GetProperty("output").EnumerateArray()];

    private static JsonElement Parse(ReadOnlyMemory<byte> json)
    {
        // Left to the collector: its elements go on living in whoever asked.
        return JsonDocument.Parse(json, new JsonDocumentOptions { MaxDepth = 2 * RequestBody.MaxDepth }).RootElement;
    }
}
