using GemmaServer.Tests.Http;
using Microsoft.Playwright;

namespace GemmaServer.BrowserTests;

/// <summary>One browser and one server with a scripted model for all tests; each test has a page with empty storage.</summary>
public sealed class PlaygroundBrowser : IAsyncLifetime
{
    private IPlaywright? _playwright;
    private IBrowser? _browser;

    internal TestHost Host { get; private set; } = null!;

    /// <summary>Answers by user text; what is not here is answered with "You said: …".</summary>
    internal static IReadOnlyDictionary<string, string> Scripts { get; } = new Dictionary<string, string>
    {
        ["hello"] = "Hello! I am a test.",
        ["think"] = "<|channel>thought\nTwo and two make four.<channel|>The answer is **4**.",
        ["weather"] = "<|tool_call>call:get_weather{city:<|\"|>Paris<|\"|>,days:2}<tool_call|><|tool_response>",
        ["two calls"] = "<|tool_call>call:first{x:1.50}<tool_call|><|tool_call>call:second{}<tool_call|><|tool_response>",
        ["tool result"] = "It is sunny in Paris.",
        ["markdown"] = Markdown,
        ["hostile"] = Hostile,
        ["long"] = string.Concat(Enumerable.Repeat("word ", 40)),
    };

    internal const string Markdown = """
        # A title

        Some *slanted*, **bold** and `code` text, and [a link](https://example.org/a?b=c).

        1. first
        2. second
           - nested

        | city | days |
        |---|---:|
        | Oslo | 2 |

        ```csharp
        if (a < b) return "<b>";
        ```

        > quoted
        """;

    internal const string Hostile = """
        <img src=x onerror="window.harmed=1"> <script>window.harmed=2</script>

        [one](javascript:window.harmed=3) [two](JaVaScRiPt:window.harmed=4) [three](data:text/html,x) [four](vbscript:x) [five](//evil.example/x)

        ![image](https://evil.example/pixel.png) <https://good.example/> <javascript:window.harmed=5>

        | <svg onload=window.harmed=6> | b |
        |---|---|
        | <iframe src="javascript:window.harmed=7"> | `<b>` |

        ```"><img src=x onerror=window.harmed=8>
        </code></pre><script>window.harmed=9</script>
        ```
        """;

    public async Task InitializeAsync()
    {
        if (ChromiumFactAttribute.Path is null) return;
        Host = await TestHost.StartAsync(script: Script);
        _playwright = await Playwright.CreateAsync();
        _browser = await _playwright.Chromium.LaunchAsync(new BrowserTypeLaunchOptions { ExecutablePath = ChromiumFactAttribute.Path, Args = ["--no-sandbox"] });
    }

    public async Task DisposeAsync()
    {
        if (_browser is not null) await _browser.DisposeAsync();
        _playwright?.Dispose();
        if (Host is not null) await Host.DisposeAsync();
    }

    internal static void Script(ScriptedRunner runner)
    {
        foreach ((string user, string answer) in Scripts) runner.Answers[user] = answer;
    }

    /// <summary>Opens the playground in a browser context of its own.</summary>
    internal async Task<PlaygroundPage> OpenAsync(Uri? url = null, BrowserNewContextOptions? options = null)
    {
        options ??= new BrowserNewContextOptions();
        options.Permissions = ["clipboard-read", "clipboard-write"];
        IBrowserContext context = await _browser!.NewContextAsync(options);
        context.SetDefaultTimeout(30_000);
        PlaygroundPage page = new(context, await context.NewPageAsync());
        await page.Page.GotoAsync((url ?? Host.Url).ToString());
        return page;
    }
}

/// <summary>The page with the words of its user.</summary>
internal sealed class PlaygroundPage : IAsyncDisposable
{
    private readonly IBrowserContext _context;

    public PlaygroundPage(IBrowserContext context, IPage page)
    {
        (_context, Page) = (context, page);
        page.PageError += (_, error) => Problems.Add(error);
        page.Console += (_, message) =>
        {
            // Chromium reports answers like 400 in its console; the tests look at the page for them.
            if (message.Type == "error" && !message.Text.StartsWith("Failed to load resource", StringComparison.Ordinal)) Problems.Add(message.Text);
        };
    }

    public IPage Page { get; }

    /// <summary>Uncaught exceptions and broken content policies.</summary>
    public List<string> Problems { get; } = [];

    public ILocator Prompt => Page.Locator("#prompt");

    public ILocator Stop => Page.Locator("#stop");

    public ILocator LastAnswer => Page.Locator(".message.answer").Last;

    public ILocator Find(string selector) => Page.Locator(selector);

    public async Task SayAsync(string text)
    {
        await Prompt.FillAsync(text);
        await Prompt.PressAsync("Enter");
    }

    /// <summary>Says something and waits until the answer is complete.</summary>
    public async Task AskAsync(string text)
    {
        int answers = await Find(".message.answer").CountAsync();
        await SayAsync(text);
        await Assertions.Expect(Find(".message.answer")).ToHaveCountAsync(answers + 1);
        await Assertions.Expect(Find("#send")).ToBeVisibleAsync();
    }

    /// <summary>Changes a setting; the panel is open on a wide page.</summary>
    public Task SetAsync(string name, string value) => Find($"#settings-form [name={name}]").FillAsync(value);

    public async ValueTask DisposeAsync()
    {
        await _context.DisposeAsync();
        Assert.Empty(Problems);
    }
}
