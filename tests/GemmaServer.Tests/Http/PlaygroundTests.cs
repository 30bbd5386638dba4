using System.Net;
using System.Text.RegularExpressions;
using Microsoft.Extensions.Logging;

namespace GemmaServer.Tests.Http;

/// <summary>The playground's files as a browser asks for them; what they do is tested in a real one.</summary>
public sealed partial class PlaygroundTests(ScriptedHost fixture) : IClassFixture<ScriptedHost>
{
    private static readonly ServerOptions s_closed = new() { Port = 0, LogLevel = LogLevel.None, ServedModelName = ["scripted"], ApiKey = ["secret"] };
    private static readonly ServerOptions s_without = new() { Port = 0, LogLevel = LogLevel.None, ServedModelName = ["scripted"], EnablePlayground = false };

    [Fact]
    public async Task A_browser_gets_the_page_and_everything_else_a_line_of_text()
    {
        using HttpResponseMessage page = await GetAsync(fixture.Host, "/", accept: "text/html,application/xhtml+xml,*/*;q=0.8");
        Assert.Equal((HttpStatusCode.OK, "text/html; charset=utf-8"), (page.StatusCode, page.Content.Headers.ContentType!.ToString()));
        Assert.Contains("<title>", await page.Content.ReadAsStringAsync());
        Assert.Contains("Accept", page.Headers.Vary);
        foreach (string? accept in (string?[])[null, "*/*", "application/json"])
        {
            using HttpResponseMessage line = await GetAsync(fixture.Host, "/", accept);
            Assert.Equal((HttpStatusCode.OK, "text/plain; charset=utf-8"), (line.StatusCode, line.Content.Headers.ContentType!.ToString()));
            Assert.Equal("GemmaServer is running", await line.Content.ReadAsStringAsync());
        }
        using HttpResponseMessage head = await fixture.Host.Client.SendAsync(new HttpRequestMessage(HttpMethod.Head, "/"));
        Assert.Equal(HttpStatusCode.OK, head.StatusCode);
    }

    [Fact]
    public async Task Every_file_has_its_type_its_tag_and_the_headers_that_keep_it_safe()
    {
        string[] names = [.. PlaygroundEndpoint.Names];
        Assert.Contains("app.js", names);
        foreach (string name in names.Where(static n => n != "index.html").Select(static n => "/playground/" + n).Append("/"))
        {
            using HttpResponseMessage file = await GetAsync(fixture.Host, name, "text/html,*/*");
            Assert.Equal(HttpStatusCode.OK, file.StatusCode);
            string type = Path.GetExtension(name) switch { ".js" => "text/javascript", ".css" => "text/css", ".svg" => "image/svg+xml", _ => "text/html" };
            Assert.Equal(type, file.Content.Headers.ContentType!.MediaType);
            Assert.True(file.Headers.CacheControl!.NoCache);
            string policy = Assert.Single(file.Headers.GetValues("Content-Security-Policy"));
            Assert.StartsWith("default-src 'self';", policy);
            Assert.DoesNotContain("unsafe", policy);
            Assert.Equal("nosniff", Assert.Single(file.Headers.GetValues("X-Content-Type-Options")));
            Assert.Equal("no-referrer", Assert.Single(file.Headers.GetValues("Referrer-Policy")));

            string tag = file.Headers.ETag!.ToString();
            using HttpResponseMessage same = await GetAsync(fixture.Host, name, "text/html,*/*", tag);
            Assert.Equal((HttpStatusCode.NotModified, tag), (same.StatusCode, same.Headers.ETag!.ToString()));
            Assert.Empty(await same.Content.ReadAsByteArrayAsync());
            using HttpResponseMessage other = await GetAsync(fixture.Host, name, "text/html,*/*", "\"older\"");
            Assert.Equal(HttpStatusCode.OK, other.StatusCode);
        }
    }

    [Theory]
    [InlineData("/playground/")]
    [InlineData("/playground/index.html")]
    [InlineData("/playground/no-such.js")]
    [InlineData("/playground/..%2fopenapi.json")]
    public async Task Nothing_else_is_served(string path)
    {
        using HttpResponseMessage response = await GetAsync(fixture.Host, path, "text/html");
        Assert.Equal(HttpStatusCode.NotFound, response.StatusCode);
        Assert.Equal("unknown_url", TestHost.Json(await response.Content.ReadAsStringAsync()).GetProperty("error").GetProperty("code").GetString());
    }

    [Fact]
    public async Task The_files_need_no_key_and_the_api_does()
    {
        await using TestHost closed = await TestHost.StartAsync(s_closed);
        foreach (string path in (string[])["/", "/playground/app.js"])
        {
            using HttpResponseMessage open = await GetAsync(closed, path, "text/html");
            Assert.Equal(HttpStatusCode.OK, open.StatusCode);
        }
        foreach (string path in (string[])["/v1/models", "/playgrounds", "/playground/../v1/models", "/playground"])
        {
            using HttpResponseMessage refused = await GetAsync(closed, path, "text/html");
            Assert.Equal(HttpStatusCode.Unauthorized, refused.StatusCode);
        }
    }

    [Fact]
    public async Task It_can_be_left_out()
    {
        await using TestHost host = await TestHost.StartAsync(s_without);
        foreach (string path in (string[])["/", "/playground/app.js"])
        {
            using HttpResponseMessage page = await GetAsync(host, path, "text/html");
            Assert.Equal(HttpStatusCode.NotFound, page.StatusCode);
        }
        using HttpResponseMessage line = await GetAsync(host, "/", "*/*");
        Assert.Equal("GemmaServer is running", await line.Content.ReadAsStringAsync());
    }

    [Fact]
    public async Task No_file_names_an_address_elsewhere_or_holds_inline_code()
    {
        foreach (string name in PlaygroundEndpoint.Names)
        {
            using HttpResponseMessage response = await GetAsync(fixture.Host, name == "index.html" ? "/" : $"/playground/{name}", "text/html,*/*");
            string text = await response.Content.ReadAsStringAsync();
            Assert.All(Address().Matches(text), static m => Assert.Equal("http://www.w3.org/2000/svg", m.Value));
            Assert.DoesNotMatch(RootedReference(), text);       // they would miss the base path of a proxy
            Assert.DoesNotMatch(MarkupFromText(), text);
            if (name.EndsWith(".html", StringComparison.Ordinal)) Assert.DoesNotMatch(InlineCode(), text);
        }
    }

    private static Task<HttpResponseMessage> GetAsync(TestHost host, string path, string? accept, string? tag = null)
    {
        HttpRequestMessage request = new(HttpMethod.Get, path);
        if (accept is not null) request.Headers.TryAddWithoutValidation("Accept", accept);
        if (tag is not null) request.Headers.TryAddWithoutValidation("If-None-Match", tag);
        return host.Client.SendAsync(request);
    }

    [GeneratedRegex(@"(?:https?:)?//[a-z0-9][a-z0-9.-]*\.[a-z][^\s'""<>)]*", RegexOptions.IgnoreCase)]
    private static partial Regex Address();

    [GeneratedRegex(@"(?:src|href)=""/|from '/|['""`]/(?:v1|playground)")]
    private static partial Regex RootedReference();

    [GeneratedRegex(@"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser")]
    private static partial Regex MarkupFromText();

    [GeneratedRegex(@"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", RegexOptions.IgnoreCase)]
    private static partial Regex InlineCode();
}
