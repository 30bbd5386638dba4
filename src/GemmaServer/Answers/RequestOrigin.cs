using System.Globalization;

namespace GemmaServer;

/// <summary>What an HTTP request says beside its body: who asks, and how long it may take.</summary>
/// <param name="Client">For fairness; null without API keys and without a name from a gateway.</param>
/// <param name="Timeout">Shortest of header and <c>--request-timeout</c>; null where neither bounds it.</param>
/// <param name="QueueTimeout">How long it may wait for a place; null for ever.</param>
internal readonly record struct RequestOrigin(string? Client, TimeSpan? Timeout, TimeSpan? QueueTimeout)
{
    /// <summary>By which a gateway names the tenant that it asks for.</summary>
    public const string FairnessHeader = "x-gateway-inference-fairness-id";

    /// <summary>Seconds that the client waits.</summary>
    public const string TimeoutHeader = "x-request-timeout";

    /// <summary>Longest time that can be asked for: about 30 years.</summary>
    public const double MaxSeconds = 1e9;

    private const int MaxFairnessId = 256;

    private static readonly object s_keyName = new();

    /// <summary>Remembers whose key was shown, by a name that is no secret.</summary>
    public static void SetKeyName(HttpContext http, string name) => http.Items[s_keyName] = name;

    /// <summary>Whose key was shown; null where none was asked for.</summary>
    public static string? KeyName(HttpContext http) => http.Items[s_keyName] as string;

    /// <summary>Reads the headers, or says what is wrong with them.</summary>
    public static ApiError? Read(HttpContext http, ServerOptions options, out RequestOrigin origin)
    {
        origin = default;
        TimeSpan? timeout = options.RequestTimeout > TimeSpan.Zero ? options.RequestTimeout : null;
        if (http.Request.Headers[TimeoutHeader].ToString() is { Length: > 0 } header)
        {
            if (!double.TryParse(header, NumberStyles.Float, CultureInfo.InvariantCulture, out double seconds) || !(seconds > 0 && seconds <= MaxSeconds))
                return ApiError.BadValue(TimeoutHeader, "the header must be a number of seconds above 0.");
            timeout = Shorter(timeout, TimeSpan.FromSeconds(seconds));
        }

        string? client = KeyName(http);
        // Prefixes, so that no header is taken for a key.
        if (http.Request.Headers[FairnessHeader].ToString() is { Length: > 0 and <= MaxFairnessId } id) client = "id:" + id;
        else if (client is not null) client = "key:" + client;
        origin = new RequestOrigin(client, timeout, options.QueueTimeout > TimeSpan.Zero ? options.QueueTimeout : null);
        return null;
    }

    /// <summary>Whose a stored response is: the key and the tenant together, so that neither stands for the other.</summary>
    public static string OwnerOf(HttpContext http) => $"{KeyName(http)}\n{http.Request.Headers[FairnessHeader]}";

    /// <summary>The shorter of two bounds, where null is none.</summary>
    public static TimeSpan? Shorter(TimeSpan? a, TimeSpan? b) => a is null || b < a ? b ?? a : a;
}
