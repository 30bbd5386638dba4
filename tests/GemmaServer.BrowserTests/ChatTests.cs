using System.Text.RegularExpressions;
using GemmaServer.Tests.Http;
using Microsoft.Extensions.Logging;
using Microsoft.Playwright;
using static Microsoft.Playwright.Assertions;

namespace GemmaServer.BrowserTests;

[CollectionDefinition(Name)]
public sealed class BrowserCollection : ICollectionFixture<PlaygroundBrowser>
{
    public const string Name = "browser";
}

/// <summary>Turns: sending, streaming, thinking, stopping, tools, errors.</summary>
[Collection(BrowserCollection.Name)]
public sealed class ChatTests(PlaygroundBrowser browser)
{
    [ChromiumFact]
    public async Task An_answer_comes_with_its_figures_and_the_talk_goes_on()
    {
        await using PlaygroundPage page = await browser.OpenAsync();
        await Expect(page.Find("#model")).ToHaveValueAsync("scripted");
        await page.AskAsync("hello");
        await Expect(page.LastAnswer.Locator(".content")).ToHaveTextAsync("Hello! I am a test.");
        await Expect(page.LastAnswer.Locator(".stats")).ToContainTextAsync(new Regex(@"\d+ tokens.*first after.*prompt \d+"));

        await page.AskAsync("unheard of");
        await Expect(page.LastAnswer.Locator(".content")).ToHaveTextAsync("You said: unheard of");
        Assert.Contains("Hello! I am a test.", browser.Host.Runner.LastPrompt, StringComparison.Ordinal);
    }

    [ChromiumFact]
    public async Task Text_appears_before_the_answer_is_complete_and_the_stop_button_frees_the_work()
    {
        await using PlaygroundPage page = await browser.OpenAsync();
        await page.SayAsync(ScriptedRunner.Marathon);
        await Expect(page.LastAnswer.Locator(".content")).ToContainTextAsync("aaaa");
        Assert.Equal(1, browser.Host.Runner.OpenSlots);
        Assert.Equal(1, browser.Host.Server.InFlight);

        await page.Stop.ClickAsync();
        await TestHost.UntilAsync(() => browser.Host.Runner.OpenSlots == 0 && browser.Host.Server.InFlight == 0, "nothing runs");
        await Expect(page.LastAnswer.Locator(".stats")).ToContainTextAsync("Stopped");
        await Expect(page.LastAnswer.Locator(".content")).ToContainTextAsync("aaaa");
        await Expect(page.Find("#messages")).ToHaveAttributeAsync("aria-busy", "false");

        await page.SayAsync(ScriptedRunner.Marathon);
        await Expect(page.LastAnswer.Locator(".content")).ToContainTextAsync("aaaa");
        await page.Page.Keyboard.PressAsync("Escape");
        await TestHost.UntilAsync(() => browser.Host.Runner.OpenSlots == 0, "Escape has stopped it");
        await Expect(page.Find("#send")).ToBeVisibleAsync();
    }

    [ChromiumFact]
    public async Task A_thought_is_shown_apart_open_while_it_comes_and_closed_afterwards()
    {
        await using TestHost slow = await TestHost.StartAsync(script: static runner =>
        {
            PlaygroundBrowser.Script(runner);
            runner.StepTime = TimeSpan.FromMilliseconds(60);
        });
        await using PlaygroundPage page = await browser.OpenAsync(slow.Url);
        await page.Find("#think").ClickAsync();
        await Expect(page.Find("#think")).ToHaveAttributeAsync("aria-pressed", "true");
        await page.SayAsync("think");
        ILocator thought = page.LastAnswer.Locator(".thought");
        await Expect(thought.Locator(".thought-text")).ToContainTextAsync("Two");
        await Expect(thought).ToHaveJSPropertyAsync("open", true);
        await Expect(thought.Locator("summary")).ToContainTextAsync("Thinking");
        await Expect(page.Stop).ToBeVisibleAsync();
        Assert.Contains("<|think|>", slow.Runner.LastPrompt, StringComparison.Ordinal);

        await Expect(page.LastAnswer.Locator(".content")).ToHaveTextAsync("The answer is 4.");
        await Expect(page.Find("#send")).ToBeVisibleAsync();
        await Expect(page.LastAnswer.Locator(".content strong")).ToHaveTextAsync("4");
        await Expect(thought).ToHaveJSPropertyAsync("open", false);
        await Expect(thought.Locator("summary")).ToContainTextAsync(new Regex(@"Thought for .*s · \d+ tokens"));
        await Expect(page.LastAnswer.Locator(".stats")).ToContainTextAsync(new Regex(@"[1-9][\d.]* tokens/s"));
        await thought.Locator("summary").ClickAsync();
        await Expect(thought.Locator(".thought-text")).ToHaveTextAsync("Two and two make four.");
    }

    [ChromiumFact]
    public async Task A_tool_call_is_shown_and_its_result_is_sent_on()
    {
        await using PlaygroundPage page = await browser.OpenAsync();
        await page.Find("#sample-tool").ClickAsync();
        await Expect(page.Find("#tools-chip")).ToHaveTextAsync("Tools · 1");
        await page.AskAsync("weather");
        ILocator call = page.LastAnswer.Locator(".tool-call");
        await Expect(call.Locator("header strong")).ToHaveTextAsync("get_weather");
        Assert.Equal("{\n  \"city\": \"Paris\",\n  \"days\": 2\n}", await call.Locator(".tool-arguments code").TextContentAsync());
        Assert.Contains("declaration:get_weather", browser.Host.Runner.LastPrompt, StringComparison.Ordinal);

        await call.Locator("textarea").FillAsync("sunny, 21 degrees");
        await call.Locator("textarea").PressAsync("Enter");
        await Expect(page.LastAnswer.Locator(".content")).ToHaveTextAsync("It is sunny in Paris.");
        Assert.Contains("sunny, 21 degrees", browser.Host.Runner.LastPrompt, StringComparison.Ordinal);
        await Expect(page.Find(".tool-call .tool-result code")).ToHaveTextAsync("sunny, 21 degrees");
    }

    [ChromiumFact]
    public async Task Two_calls_wait_for_both_results()
    {
        await using PlaygroundPage page = await browser.OpenAsync();
        await page.AskAsync("two calls");
        ILocator calls = page.LastAnswer.Locator(".tool-call");
        await Expect(calls).ToHaveCountAsync(2);
        Assert.Contains("1.50", await calls.First.Locator(".tool-arguments code").TextContentAsync());
        await calls.First.Locator("textarea").FillAsync("one");
        await calls.First.GetByRole(AriaRole.Button, new() { Name = "Send result" }).ClickAsync();
        await Expect(calls.First.Locator("small")).ToContainTextAsync("other calls");
        await calls.Last.Locator("textarea").FillAsync("two");
        await calls.Last.GetByRole(AriaRole.Button, new() { Name = "Send result" }).ClickAsync();
        await Expect(page.LastAnswer.Locator(".content")).ToHaveTextAsync("It is sunny in Paris.");
    }

    [ChromiumFact]
    public async Task Settings_reach_the_sampler_and_what_is_wrong_comes_back_as_an_error_with_its_id()
    {
        await using PlaygroundPage page = await browser.OpenAsync();
        foreach ((string name, string value) in new[] { ("system", "Be short."), ("temperature", "0.5"), ("topP", "0.7"), ("topK", "9"), ("seed", "42"), ("maxTokens", "3") })
            await page.SetAsync(name, value);
        await page.AskAsync("hello");
        GemmaServer.Compute.SamplingParams sampling = browser.Host.Runner.LastSampling!;
        Assert.Equal((0.5f, 0.7f, 9, 42UL), (sampling.Temperature, sampling.TopP, sampling.TopK, sampling.Seed));
        Assert.Contains("Be short.", browser.Host.Runner.LastPrompt, StringComparison.Ordinal);
        await Expect(page.LastAnswer.Locator(".stats")).ToContainTextAsync("Cut off");
        await Expect(page.LastAnswer.Locator(".stats")).ToContainTextAsync("3 tokens");

        await page.SetAsync("maxTokens", "");
        await page.SetAsync("stop", "am");
        await page.AskAsync("hello");
        await Expect(page.LastAnswer.Locator(".content")).ToHaveTextAsync("Hello! I");

        await page.SetAsync("temperature", "3");
        await page.AskAsync("hello");
        ILocator error = page.LastAnswer.Locator(".error");
        await Expect(error).ToContainTextAsync("Error 400");
        await Expect(error).ToContainTextAsync("temperature");
        await Expect(error).ToContainTextAsync("decimal_above_max_value");
        await Expect(error).ToContainTextAsync("req_");

        await page.SetAsync("temperature", "1");
        await page.SetAsync("stop", "");
        await error.GetByRole(AriaRole.Button, new() { Name = "Try again" }).ClickAsync();
        await Expect(page.LastAnswer.Locator(".content")).ToHaveTextAsync("Hello! I am a test.");
    }

    [ChromiumFact]
    public async Task A_stream_that_breaks_off_keeps_its_text_and_shows_the_error()
    {
        await using TestHost host = await TestHost.StartAsync();
        await using PlaygroundPage page = await browser.OpenAsync(host.Url);
        await page.AskAsync(ScriptedRunner.BreakOff);
        await Expect(page.LastAnswer.Locator(".content")).ToContainTextAsync("You");
        await Expect(page.LastAnswer.Locator(".error")).ToContainTextAsync("server_error");
        await Expect(page.LastAnswer.Locator(".error")).ToContainTextAsync("req_");
    }

    [ChromiumFact]
    public async Task A_server_that_loads_is_waited_for()
    {
        await using TestHost host = await TestHost.StartAsync(serve: false);
        await using PlaygroundPage page = await browser.OpenAsync(host.Url);
        await Expect(page.Find("#notice")).ToContainTextAsync("loading its model");
        await page.AskAsync("hello");
        await Expect(page.LastAnswer.Locator(".error")).ToContainTextAsync("Error 503");
        host.App.Serve(host.Model);
        await Expect(page.Find("#model")).ToHaveValueAsync("scripted", new() { Timeout = 20_000 });
        await Expect(page.Find("#notice")).ToBeHiddenAsync();
    }

    [ChromiumFact]
    public async Task A_key_is_asked_for_and_kept_for_the_tab_only()
    {
        await using TestHost closed = await TestHost.StartAsync(new ServerOptions { Port = 0, LogLevel = LogLevel.None, ServedModelName = ["scripted"], ApiKey = ["secret"] });
        await using PlaygroundPage page = await browser.OpenAsync(closed.Url);
        await Expect(page.Find("#notice")).ToContainTextAsync("Error 401");
        await page.Find("#notice .key").FillAsync("secret");
        await page.Find("#notice .key").PressAsync("Enter");
        await Expect(page.Find("#model")).ToHaveValueAsync("scripted");
        await page.AskAsync("hello");
        await Expect(page.LastAnswer.Locator(".content")).ToHaveTextAsync("You said: hello");
        Assert.DoesNotContain("secret", await page.Page.EvaluateAsync<string>("JSON.stringify(localStorage)"));
        Assert.Contains("secret", await page.Page.EvaluateAsync<string>("JSON.stringify(sessionStorage)"));
        await page.Find("#export").ClickAsync();
        await Expect(page.Find("#curl")).ToContainTextAsync("Bearer $API_KEY");
        await Expect(page.Find("#curl")).Not.ToContainTextAsync("secret");
    }
}
