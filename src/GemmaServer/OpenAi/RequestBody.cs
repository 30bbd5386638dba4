using System.Buffers;
using System.IO.Pipelines;
using System.Net.Http.Headers;
using System.Text.Json;
using System.Text.Unicode;

namespace GemmaServer;

/// <summary>
/// A request's JSON, read whole within the limit and made safe for everything behind it: valid UTF-8, no lone surrogates
/// (they become U+FFFD), no duplicate member names, bounded depth, an object at the root.
/// </summary>
internal sealed class RequestBody : IDisposable
{
    /// <summary>Levels of nesting: schemas and arguments may have 64 of their own, and lie some levels deep.</summary>
    public const int MaxDepth = 128;

    private readonly JsonDocument _document;

    private RequestBody(JsonDocument document, int bytes)
    {
        _document = document;
        Bytes = bytes;
    }

    /// <summary>The object; valid until disposal.</summary>
    public JsonElement Root => _document.RootElement;

    /// <summary>Size on the wire.</summary>
    public int Bytes { get; }

    /// <summary>Reads and parses; gives either a body or what is wrong with it.</summary>
    public static async ValueTask<(RequestBody? Body, ApiError? Error)> ReadAsync(HttpRequest request, long limit)
    {
        // Ollama never looked at the type, so its users seldom name one.
        if (!IsJson(request.ContentType) && !OllamaEndpoint.IsAt(request.Path)) return (null, ApiError.ContentType(request.ContentType));
        if (request.ContentLength > limit) return (null, ApiError.BodyTooLarge(limit));

        byte[]? bytes;
        try
        {
            bytes = await ReadAllAsync(request.BodyReader, limit, request.ContentLength, request.HttpContext.RequestAborted);
        }
        catch (BadHttpRequestException e)
        {
            return (null, e.StatusCode == 413 ? ApiError.BodyTooLarge(limit) : ApiError.BadRequest("The request body could not be read."));
        }
        if (bytes is null) return (null, ApiError.BodyTooLarge(limit));
        return Parse(bytes);
    }

    /// <summary>Parses; changes <paramref name="bytes"/> where it holds escapes of lone surrogates.</summary>
    public static (RequestBody? Body, ApiError? Error) Parse(byte[] bytes)
    {
        ReadOnlyMemory<byte> text = bytes;
        if (text.Span.StartsWith("\uFEFF"u8)) text = text[3..];
        if (text.Span.IndexOfAnyExcept(" \t\r\n"u8) < 0) return (null, ApiError.NotJson("The body is empty."));
        if (!Utf8.IsValid(text.Span)) return (null, ApiError.NotJson("It is not valid UTF-8."));
        ReplaceLoneSurrogates(bytes);

        JsonDocument document;
        try
        {
            document = JsonDocument.Parse(text, new JsonDocumentOptions { MaxDepth = MaxDepth, AllowDuplicateProperties = false });
        }
        catch (JsonException e)
        {
            return (null, Explain(text, e));
        }
        if (document.RootElement.ValueKind == JsonValueKind.Object) return (new RequestBody(document, bytes.Length), null);

        string kind = ApiError.Describe(document.RootElement);
        document.Dispose();
        return (null, ApiError.NotJson($"Expected an object, but got {kind} instead."));
    }

    public void Dispose() => _document.Dispose();

    private static bool IsJson(string? contentType) =>
        MediaTypeHeaderValue.TryParse(contentType, out MediaTypeHeaderValue? type)
        && type.MediaType is { } media
        && (media.Equals("application/json", StringComparison.OrdinalIgnoreCase) || media.EndsWith("+json", StringComparison.OrdinalIgnoreCase))
        && (type.CharSet is null || type.CharSet.Trim('"').Equals("utf-8", StringComparison.OrdinalIgnoreCase));

    private static async ValueTask<byte[]?> ReadAllAsync(PipeReader reader, long limit, long? announced, CancellationToken aborted)
    {
        // A client's word about the length is no reason to allocate more than it has sent: start small.
        ArrayBufferWriter<byte> all = new((int)Math.Clamp(announced ?? 4096, 256, 1 << 16));
        while (true)
        {
            ReadResult read = await reader.ReadAsync(aborted);
            if (all.WrittenCount + read.Buffer.Length > limit) return null;
            foreach (ReadOnlyMemory<byte> part in read.Buffer) all.Write(part.Span);
            reader.AdvanceTo(read.Buffer.End);
            if (read.IsCompleted) return all.WrittenSpan.ToArray();
        }
    }

    /// <summary>Turns each <c>\uD800 … \uDFFF</c> that has no partner into <c>\uFFFD</c>, which is as long.</summary>
    internal static void ReplaceLoneSurrogates(Span<byte> json)
    {
        int i = 0;
        while (true)
        {
            int next = json[i..].IndexOf((byte)'\\');
            if (next < 0) return;
            i += next;
            if (!TryReadEscape(json, i, out int unit))
            {
                i += Math.Min(2, json.Length - i);
                continue;
            }
            if (unit is < 0xD800 or > 0xDFFF)
            {
                i += 6;
            }
            else if (unit < 0xDC00 && TryReadEscape(json, i + 6, out int low) && low is >= 0xDC00 and <= 0xDFFF)
            {
                i += 12;
            }
            else
            {
                "FFFD"u8.CopyTo(json[(i + 2)..]);
                i += 6;
            }
        }
    }

    private static bool TryReadEscape(ReadOnlySpan<byte> json, int at, out int unit)
    {
        unit = 0;
        if (at + 6 > json.Length || json[at] != '\\' || json[at + 1] != 'u') return false;
        for (int k = at + 2; k < at + 6; k++)
        {
            if (!char.IsAsciiHexDigit((char)json[k])) return false;
            unit = unit * 16 + (json[k] <= '9' ? json[k] - '0' : (json[k] | 0x20) - 'a' + 10);
        }
        return true;
    }

    /// <summary>Says which of the three kinds of trouble it is; runs only when a body was refused.</summary>
    private static ApiError Explain(ReadOnlyMemory<byte> text, JsonException e)
    {
        try
        {
            using JsonDocument lenient = JsonDocument.Parse(text, new JsonDocumentOptions { MaxDepth = 4096 });
            if (Depth(text.Span) > MaxDepth) return ApiError.TooDeep(MaxDepth);
            return ApiError.DuplicateKey(FindDuplicate(lenient.RootElement, "") ?? "?");
        }
        catch (JsonException)
        {
            return Depth(text.Span) > MaxDepth
                ? ApiError.TooDeep(MaxDepth)
                : ApiError.NotJson($"It is malformed at line {e.LineNumber + 1}, byte {e.BytePositionInLine}.");
        }
    }

    private static int Depth(ReadOnlySpan<byte> text)
    {
        int depth = 0, deepest = 0;
        bool inString = false;
        for (int i = 0; i < text.Length; i++)
        {
            byte b = text[i];
            if (inString)
            {
                if (b == '\\') i++;
                else if (b == '"') inString = false;
            }
            else if (b == '"') inString = true;
            else if (b is (byte)'{' or (byte)'[') deepest = Math.Max(deepest, ++depth);
            else if (b is (byte)'}' or (byte)']') depth--;
        }
        return deepest;
    }

    private static string? FindDuplicate(JsonElement value, string path)
    {
        if (value.ValueKind == JsonValueKind.Object)
        {
            HashSet<string> seen = [];
            foreach (JsonProperty member in value.EnumerateObject())
            {
                string at = path.Length == 0 ? member.Name : $"{path}.{member.Name}";
                if (!seen.Add(member.Name)) return at;
                if (FindDuplicate(member.Value, at) is { } inner) return inner;
            }
        }
        else if (value.ValueKind == JsonValueKind.Array)
        {
            int i = 0;
            foreach (JsonElement item in value.EnumerateArray())
            {
                if (FindDuplicate(item, $"{path}[{i++}]") is { } inner) return inner;
            }
        }
        return null;
    }
}
