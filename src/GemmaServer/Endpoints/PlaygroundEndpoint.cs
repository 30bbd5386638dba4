using System.Collections.Frozen;
using System.Security.Cryptography;
using Microsoft.Net.Http.Headers;

namespace GemmaServer;

/// <summary>
/// <c>GET /</c>: the playground, a chat page, for browsers; a line of text for everything else, since clients of other servers
/// ask there whether anybody is at home. Its files lie in the assembly and are served under <see cref="Folder"/>.
/// </summary>
internal static class PlaygroundEndpoint
{
    /// <summary>Where scripts, styles and the icon are.</summary>
    public const string Folder = "/playground/";

    private const string Page = "index.html";
    private const string Running = "GemmaServer is running";

    /// <summary>
    /// Nothing from elsewhere and nothing inline. Trusted types without a policy make every way from text to markup an error, so
    /// what a model writes cannot become a script even by a mistake of ours.
    /// </summary>
    private const string Policy =
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

    private static readonly Lazy<FrozenDictionary<string, PlaygroundFile>> s_files = new(PlaygroundFile.ReadAll);

    /// <summary>The names of all files.</summary>
    public static IEnumerable<string> Names => s_files.Value.Keys;

    public static void Map(IEndpointRouteBuilder routes, Server server)
    {
        bool isServed = server.Options.EnablePlayground;
        string[] methods = [HttpMethods.Get, HttpMethods.Head];
        routes.MapMethods("/", methods, http => RootAsync(http, isServed));
        if (!isServed) return;
        // The page's references are relative, so it is at home in / only.
        foreach (string name in Names.Where(static n => n != Page)) routes.MapMethods(Folder + name, methods, http => FileAsync(http, name)).ExcludeFromDescription();
    }

    private static Task RootAsync(HttpContext http, bool isServed)
    {
        http.Response.Headers.Vary = HeaderNames.Accept;
        bool isBrowser = http.Request.Headers.Accept.Any(static a => a?.Contains("text/html", StringComparison.OrdinalIgnoreCase) == true);
        if (isBrowser) return isServed ? FileAsync(http, Page) : ApiError.UnknownUrl(http.Request.Method, "/").WriteAsync(http);
        http.Response.ContentType = "text/plain; charset=utf-8";
        http.Response.ContentLength = Running.Length;
        return HttpMethods.IsHead(http.Request.Method) ? Task.CompletedTask : http.Response.WriteAsync(Running);
    }

    private static async Task FileAsync(HttpContext http, string name)
    {
        PlaygroundFile file = s_files.Value[name];
        HttpResponse response = http.Response;
        IHeaderDictionary headers = response.Headers;
        headers.ETag = file.Tag.ToString();
        headers.CacheControl = "no-cache";      // kept, but asked about each time: a new version shows at once
        headers.ContentSecurityPolicy = Policy;
        headers.XContentTypeOptions = "nosniff";
        headers["Referrer-Policy"] = "no-referrer";
        IList<EntityTagHeaderValue> known = http.Request.GetTypedHeaders().IfNoneMatch;
        if (known.Any(tag => tag.Equals(EntityTagHeaderValue.Any) || tag.Compare(file.Tag, useStrongComparison: false)))
        {
            response.StatusCode = StatusCodes.Status304NotModified;
            return;
        }
        response.ContentType = file.ContentType;
        response.ContentLength = file.Bytes.Length;
        if (!HttpMethods.IsHead(http.Request.Method)) await response.Body.WriteAsync(file.Bytes, http.RequestAborted);
    }

    private sealed record PlaygroundFile(byte[] Bytes, string ContentType, EntityTagHeaderValue Tag)
    {
        private const string Prefix = "playground/";

        public static FrozenDictionary<string, PlaygroundFile> ReadAll()
        {
            System.Reflection.Assembly assembly = typeof(PlaygroundFile).Assembly;
            return assembly.GetManifestResourceNames()
                .Where(static name => name.StartsWith(Prefix, StringComparison.Ordinal))
                .ToFrozenDictionary(static name => name[Prefix.Length..], name => Read(assembly.GetManifestResourceStream(name)!, name), StringComparer.Ordinal);
        }

        private static PlaygroundFile Read(Stream resource, string name)
        {
            using MemoryStream bytes = new();
            using (resource) resource.CopyTo(bytes);
            string tag = Convert.ToHexStringLower(SHA256.HashData(bytes.ToArray()).AsSpan(0, 12));
            return new PlaygroundFile(bytes.ToArray(), ContentTypeOf(name), new EntityTagHeaderValue($"\"{tag}\""));
        }

        private static string ContentTypeOf(string name) => Path.GetExtension(name) switch
        {
            ".html" => "text/html; charset=utf-8",
            ".css" => "text/css; charset=utf-8",
            ".js" => "text/javascript; charset=utf-8",
            ".svg" => "image/svg+xml",
            string other => throw new InvalidOperationException($"There is no content type for '{other}'."),
        };
    }
}
