using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace GemmaServer;

/// <summary>Who may ask: user keys for everything, the admin key for admin routes too. Compared in constant time.</summary>
internal sealed class ApiKeys(Server server)
{
    /// <summary>Probes, scrapers, the documentation and the playground's own files ask without a key.</summary>
    private static readonly HashSet<string> Open = new(StringComparer.OrdinalIgnoreCase)
    {
        "/health", "/healthz", "/livez", "/readyz", "/ping", "/metrics", "/version", "/load", "/openapi.json", "/",
    };

    private static readonly string[] OpenFolders = ["/swagger", PlaygroundEndpoint.Folder];

    private static readonly HashSet<string> Admin = new(StringComparer.OrdinalIgnoreCase) { "/drain", "/reset_prefix_cache", "/flush_cache" };

    /// <summary>By which requests of the admin key are known.</summary>
    public const string AdminName = "admin";

    // Digests have one length, so neither a key's length nor a common beginning shows in the time.
    private readonly byte[][] _users = [.. server.Options.ApiKey.Select(Digest)];
    private readonly byte[]? _admin = server.Options.AdminKey is { } key ? Digest(key) : null;

    public async Task InvokeAsync(HttpContext http, RequestDelegate next)
    {
        string path = http.Request.Path.Value ?? "/";
        ApiError? refused = Open.Contains(path) || OpenFolders.Any(folder => path.StartsWith(folder, StringComparison.OrdinalIgnoreCase))
            ? null
            : Check(http, KeyOf(http.Request), Admin.Contains(path.TrimEnd('/')));
        if (refused is null) await next(http);
        else await refused.WriteAsync(http);
    }

    private ApiError? Check(HttpContext http, string? key, bool isAdminRoute)
    {
        if (!isAdminRoute && _users.Length == 0) return null;
        if (key is null) return isAdminRoute && _admin is null ? ApiError.AdminOnly : ApiError.NoKey;
        byte[] digest = Digest(key);
        int user = -1;
        for (int i = 0; i < _users.Length; i++)
            if (CryptographicOperations.FixedTimeEquals(digest, _users[i])) user = i;
        bool isUser = user >= 0;
        bool isAdmin = _admin is not null && CryptographicOperations.FixedTimeEquals(digest, _admin);
        if (isAdmin || (isUser && !isAdminRoute))
        {
            RequestOrigin.SetKeyName(http, isUser ? user.ToString(CultureInfo.InvariantCulture) : AdminName);
            return null;
        }
        return isUser || (isAdminRoute && _admin is null) ? ApiError.AdminOnly : ApiError.WrongKey(key);
    }

    private static string? KeyOf(HttpRequest request)
    {
        string? authorization = request.Headers.Authorization;
        if (authorization?.StartsWith("Bearer ", StringComparison.OrdinalIgnoreCase) == true && authorization.AsSpan(7).Trim() is { Length: > 0 } bearer)
            return bearer.ToString();
        string? key = request.Headers["x-api-key"];
        if (string.IsNullOrEmpty(key)) key = request.Headers["api-key"];
        return string.IsNullOrEmpty(key) ? null : key;
    }

    private static byte[] Digest(string key) => SHA256.HashData(Encoding.UTF8.GetBytes(key));
}
