using System.Text.Json;
using GemmaServer.Tests.Http;
using Microsoft.Playwright;
using static Microsoft.Playwright.Assertions;

namespace GemmaServer.BrowserTests;

/// <summary>The page around the turns: what text may become, what is kept, keyboard, themes, small screens.</summary>
[Collection(BrowserCollection.Name)]
public sealed class PageTests(PlaygroundBrowser browser)
{
    [ChromiumFact]
    public async Task Markdown_becomes_elements()
    {
        await using PlaygroundPage page = await browser.OpenAsync();
        await page.AskAsync("markdown");
        ILocator content = page.LastAnswer.Locator(".content");
        await Expect(content.Locator(".level-1")).ToHaveTextAsync("A title");
        await Expect(content.Locator("em")).ToHaveTextAsync("slanted");
        await Expect(content.Locator("p strong")).ToHaveTextAsync("bold");
        await Expect(content.Locator("p code")).ToHaveTextAsync("code");
        await Expect(content.Locator("p a")).ToHaveAttributeAsync("href", "https://example.org/a?b=c");
        Assert.Contains("noopener", await content.Locator("p a").GetAttributeAsync("rel"));
        await Expect(content.Locator("ol > li")).ToHaveCountAsync(2);
        await Expect(content.Locator("ol ul li")).ToHaveTextAsync("nested");
        await Expect(content.Locator("td").First).ToHaveTextAsync("Oslo");
        await Expect(content.Locator("td").Last).ToHaveClassAsync("align-right");
        await Expect(content.Locator("blockquote")).ToHaveTextAsync("quoted");
        await Expect(content.Locator("figure figcaption span")).ToHaveTextAsync("csharp");
        Assert.Equal("if (a < b) return \"<b>\";", await content.Locator("figure code").TextContentAsync());
        await content.Locator("figure button").ClickAsync();
        Assert.Equal("if (a < b) return \"<b>\";", await page.Page.EvaluateAsync<string>("navigator.clipboard.readText()"));
    }

    [ChromiumFact]
    public async Task Hostile_text_stays_text()
    {
        await using PlaygroundPage page = await browser.OpenAsync();
        List<string> asked = [];
        page.Page.Request += (_, request) => asked.Add(request.Url);
        await page.AskAsync("hostile");
        ILocator content = page.LastAnswer.Locator(".content");
        await Expect(content).ToContainTextAsync("<img src=x onerror=\"window.harmed=1\"> <script>window.harmed=2</script>");
        await Expect(content).ToContainTextAsync("[one](javascript:window.harmed=3)");
        await Expect(content).ToContainTextAsync("<iframe src=\"javascript:window.harmed=7\">");
        await Expect(content.Locator("img, script, iframe, svg:not(.icon), object, embed, form, style")).ToHaveCountAsync(0);
        string[] links = await content.Locator("a").EvaluateAllAsync<string[]>("links => links.map(link => link.href)");
        Assert.Equal(["https://evil.example/pixel.png", "https://good.example/"], links);
        Assert.Equal(0, await page.Page.EvaluateAsync<int>("window.harmed ?? 0"));
        Assert.All(asked, url => Assert.StartsWith(browser.Host.Url.ToString(), url));
    }

    [ChromiumFact]
    public async Task Text_cannot_become_markup_even_by_a_mistake()
    {
        await using PlaygroundPage page = await browser.OpenAsync();
        Assert.True(await page.Page.EvaluateAsync<bool>("(() => { try { document.body.innerHTML = '<b>x</b>'; return false; } catch (e) { return e instanceof TypeError; } })()"));
        page.Problems.Clear();      // the refused assignment is logged
    }

    [ChromiumFact]
    public async Task Regenerate_edit_copy_and_export()
    {
        await using PlaygroundPage page = await browser.OpenAsync();
        await page.AskAsync("hello");
        int opened = browser.Host.Runner.Opened.Count;
        await page.LastAnswer.GetByRole(AriaRole.Button, new() { Name = "Regenerate" }).ClickAsync();
        await TestHost.UntilAsync(() => browser.Host.Runner.Opened.Count == opened + 1, "it was asked again");
        await Expect(page.LastAnswer.Locator(".content")).ToHaveTextAsync("Hello! I am a test.");
        await Expect(page.Find(".message")).ToHaveCountAsync(2);

        await page.Find(".message.user").HoverAsync();
        await page.Find(".message.user .edit").ClickAsync();
        await page.Find(".editor textarea").FillAsync("it's new");
        await page.Find(".editor textarea").PressAsync("Enter");
        await Expect(page.LastAnswer.Locator(".content")).ToHaveTextAsync("You said: it's new");
        await Expect(page.Find(".message")).ToHaveCountAsync(2);
        await Expect(page.Find("#send")).ToBeVisibleAsync();
        await page.LastAnswer.GetByRole(AriaRole.Button, new() { Name = "Copy answer" }).ClickAsync();
        Assert.Equal("You said: it's new", await page.Page.EvaluateAsync<string>("navigator.clipboard.readText()"));

        await page.Find("#export").ClickAsync();
        await Expect(page.Find("#curl code")).ToContainTextAsync($"curl -N '{new Uri(browser.Host.Url, "v1/chat/completions")}'");
        await Expect(page.Find("#curl code")).ToContainTextAsync("it'\\''s new");
        IDownload download = await page.Page.RunAndWaitForDownloadAsync(() => page.Find("#download").ClickAsync());
        JsonElement exported = TestHost.Json(await File.ReadAllTextAsync((await download.PathAsync())!));
        Assert.Equal(["user", "assistant"], exported.GetProperty("messages").EnumerateArray().Select(static m => m.GetProperty("role").GetString()));
        Assert.Equal("You said: it's new", exported.GetProperty("messages")[1].GetProperty("content").GetString());
    }

    [ChromiumFact]
    public async Task Conversations_are_kept_and_bounded()
    {
        await using PlaygroundPage page = await browser.OpenAsync();
        await page.AskAsync("hello");
        await page.Find("#prompt").PressAsync("Control+Shift+O");
        await Expect(page.Find(".welcome")).ToBeVisibleAsync();
        await page.AskAsync("second");
        await Expect(page.Find("#chat-list li")).ToHaveCountAsync(2);
        await page.Page.ReloadAsync();
        await page.Find("#chat-list").GetByText("hello").ClickAsync();
        await Expect(page.LastAnswer.Locator(".content")).ToHaveTextAsync("Hello! I am a test.");
        await page.Find("#chat-list li.current").HoverAsync();
        await page.Find("#chat-list li.current").GetByRole(AriaRole.Button, new() { Name = "Delete" }).ClickAsync();
        await Expect(page.Find("#chat-list li")).ToHaveCountAsync(1);
        await page.Find("#toast button").ClickAsync();
        await Expect(page.Find("#chat-list li")).ToHaveCountAsync(2);

        // Sixty more, and then one of half the room: the oldest go, the newest stay.
        int[] counts = await page.Page.EvaluateAsync<int[]>("""
            async () => {
              const store = await import(new URL('playground/store.js', document.baseURI));
              const add = (i, text) => store.saveChat({ ...store.newChat(), title: `t${i}`, updated: Date.now() + i, messages: [{ role: 'user', content: text }] });
              for (let i = 1; i <= 60; i++) add(i, 'x'.repeat(30000));
              const many = store.listChats().length;
              add(61, 'x'.repeat(1500000));
              const left = store.listChats();
              return [many, left.length, Number(left[0].title.slice(1)), left.reduce((sum, chat) => sum + JSON.stringify(chat).length, 0)];
            }
            """);
        Assert.Equal((50, 61), (counts[0], counts[2]));
        Assert.InRange(counts[1], 2, 49);
        Assert.InRange(counts[3], 1_500_000, 2_000_000);
    }

    [ChromiumFact]
    public async Task The_keyboard_is_enough()
    {
        await using PlaygroundPage page = await browser.OpenAsync();
        await Expect(page.Prompt).ToBeFocusedAsync();
        await page.Page.Keyboard.TypeAsync("one");
        await page.Page.Keyboard.PressAsync("Shift+Enter");
        await page.Page.Keyboard.TypeAsync("two");
        await Expect(page.Prompt).ToHaveValueAsync("one\ntwo");
        await Expect(page.Find(".message")).ToHaveCountAsync(0);
        await page.Page.Keyboard.PressAsync("Enter");
        await Expect(page.LastAnswer.Locator(".content")).ToContainTextAsync("You said: one");
        await Expect(page.Prompt).ToBeFocusedAsync();

        // Everything that can be clicked has a name, is reached by Tab, and shows that it is.
        string[] nameless = await page.Page.EvaluateAsync<string[]>("""
            () => [...document.querySelectorAll('button, input, select, textarea, a[href]')]
              .filter(e => !(e.getAttribute('aria-label') || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML)
            """);
        Assert.Empty(nameless);
        for (int i = 0; i < 12; i++)
        {
            await page.Page.Keyboard.PressAsync("Tab");
            string outline = await page.Page.EvaluateAsync<string>("document.activeElement === document.body ? 'body' : getComputedStyle(document.activeElement).outlineStyle");
            Assert.True(outline is "solid" or "body", $"stop {i}: {outline}");
        }
        await Expect(page.Find("#attach")).ToHaveAttributeAsync("aria-disabled", "true");
    }

    [ChromiumFact]
    public async Task Light_and_dark_follow_the_system_until_one_is_chosen()
    {
        await using PlaygroundPage page = await browser.OpenAsync(options: new() { ColorScheme = ColorScheme.Dark });
        Assert.True(await BrightnessAsync(page) < 60);
        await page.Find("#theme").ClickAsync();
        Assert.True(await BrightnessAsync(page) > 200);
        await page.Page.ReloadAsync();
        Assert.True(await BrightnessAsync(page) > 200);
        await page.Find("#theme").ClickAsync();
        Assert.True(await BrightnessAsync(page) < 60);
        await page.Page.EmulateMediaAsync(new() { ColorScheme = ColorScheme.Light });
        Assert.True(await BrightnessAsync(page) < 60);
        await page.Find("#theme").ClickAsync();
        Assert.True(await BrightnessAsync(page) > 200);
    }

    [ChromiumFact]
    public async Task It_fits_a_screen_of_360_pixels()
    {
        await using PlaygroundPage page = await browser.OpenAsync(options: new() { ViewportSize = new() { Width = 360, Height = 640 } });
        await page.AskAsync("markdown");
        Assert.Equal(360, await page.Page.EvaluateAsync<int>("document.documentElement.scrollWidth"));
        LocatorBoundingBoxResult send = (await page.Find("#send").BoundingBoxAsync())!;
        Assert.True(send.X + send.Width <= 360 && send.Y + send.Height <= 640);
        await Expect(page.Find("#settings")).ToBeHiddenAsync();
        await page.Find("#toggle-settings").ClickAsync();
        await Expect(page.Find("#settings")).ToBeVisibleAsync();
        Assert.True((await page.Find("[name=system]").BoundingBoxAsync())!.Height > 50);
        await page.Page.Keyboard.PressAsync("Escape");
        await Expect(page.Find("#settings")).ToBeHiddenAsync();
        await Expect(page.Find("#toggle-settings")).ToBeFocusedAsync();
    }

    [ChromiumFact]
    public async Task It_works_behind_a_path_of_a_proxy()
    {
        await using PlaygroundPage page = await browser.OpenAsync();
        const string path = "/some/where/";
        await page.Page.RouteAsync("**/*", async route =>
        {
            Uri asked = new(route.Request.Url);
            if (!asked.AbsolutePath.StartsWith(path, StringComparison.Ordinal)) await route.AbortAsync();
            else await route.FulfillAsync(new() { Response = await route.FetchAsync(new() { Url = new Uri(asked, asked.AbsolutePath[(path.Length - 1)..]).ToString() }) });
        });
        await page.Page.GotoAsync(new Uri(browser.Host.Url, path).ToString());
        await Expect(page.Find("#model")).ToHaveValueAsync("scripted");
        await page.AskAsync("hello");
        await Expect(page.LastAnswer.Locator(".content")).ToHaveTextAsync("Hello! I am a test.");
    }

    private static Task<double> BrightnessAsync(PlaygroundPage page) =>
        page.Page.EvaluateAsync<double>("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((sum, c) => sum + Number(c) / 3, 0)");
}
