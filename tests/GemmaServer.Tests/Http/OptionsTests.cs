using System.Collections;
using GemmaServer.Text;
using Microsoft.Extensions.Configuration;

namespace GemmaServer.Tests.Http;

public sealed class OptionsTests
{
    private static ServerOptions Read(Dictionary<string, string[]>? line, Dictionary<string, string>? environment, Dictionary<string, string?>? file, out List<string> mistakes)
    {
        mistakes = [];
        IConfiguration configuration = new ConfigurationBuilder().AddInMemoryCollection(file ?? []).Build();
        return OptionsReader.Read(line ?? [], new Hashtable(environment ?? []), configuration, mistakes);
    }

    [Fact]
    public void The_command_line_beats_the_environment_and_that_beats_the_file()
    {
        Dictionary<string, string?> file = new() { ["GemmaServer:max-model-len"] = "100", ["GemmaServer:MaxNumSeqs"] = "7", ["GemmaServer:port"] = "1", ["GemmaServer:api-key:0"] = "a", ["GemmaServer:api-key:1"] = "b" };
        Dictionary<string, string> environment = new() { ["GEMMASERVER_MAX_MODEL_LEN"] = "200", ["GEMMASERVER_PORT"] = "2", ["GEMMASERVER_SERVED_MODEL_NAME"] = "x, y" };
        ServerOptions options = Read(new() { ["port"] = ["3"] }, environment, file, out List<string> mistakes);
        Assert.Empty(mistakes);
        Assert.Equal((200, 7, 3), (options.MaxModelLen, options.MaxNumSeqs, options.Port));
        Assert.Equal(["a", "b"], options.ApiKey);
        Assert.Equal(["x", "y"], options.ServedModelName);
        Assert.Equal(256, Read(null, null, null, out _).MaxNumSeqs);
    }

    [Fact]
    public void Every_kind_of_value_is_read()
    {
        ServerOptions o = Read(new()
        {
            ["kv-cache-memory"] = ["2G"], ["body-limit"] = ["64k"], ["kv-cache-dtype"] = ["q8_0"], ["activations"] = ["int8"], ["device"] = ["cpu"],
            ["drain-timeout"] = ["2m"], ["queue-timeout"] = ["500ms"], ["request-timeout"] = ["90"], ["max-queue-per-key"] = ["7"], ["enable-swagger"] = ["false"], ["strict-fields"] = ["true"], ["chat-template"] = ["large"],
            ["reasoning-field"] = ["reasoning-content"], ["log-format"] = ["text"], ["log-level"] = ["warning"], ["otlp-endpoint"] = ["http://localhost:4317"], ["seed"] = ["5"], ["host"] = ["::1"],
            ["cpu-affinity"] = ["0-3,8-11"],
        }, null, null, out List<string> mistakes);
        Assert.Empty(mistakes);
        Assert.Equal("0-3,8-11", o.CpuAffinity);
        Assert.Equal((2L << 30, 65536L, KvCacheChoice.Q8_0, ActivationChoice.Int8, "cpu"), (o.KvCacheMemory, o.BodyLimit, o.KvCacheDtype, o.Activations, o.Device));
        Assert.Equal((TimeSpan.FromSeconds(90), 7), (o.RequestTimeout, o.MaxQueuePerKey));
        Assert.Equal((TimeSpan.FromMinutes(2), TimeSpan.FromMilliseconds(500), false, true), (o.DrainTimeout, o.QueueTimeout, o.EnableSwagger, o.StrictFields));
        Assert.Equal(((TemplateFlavour?)TemplateFlavour.Large, ReasoningField.ReasoningContent, LogFormat.Text, 5L), (o.ChatTemplate, o.ReasoningField, o.LogFormat, o.Seed));
    }

    [Theory]
    [InlineData("auto", AmxChoice.Auto)]
    [InlineData("off", AmxChoice.Off)]
    [InlineData("true", AmxChoice.Auto)]
    [InlineData("false", AmxChoice.Off)]
    [InlineData("0", AmxChoice.Off)]
    public void Tiles_are_automatic_or_off_and_a_switch_in_the_environment(string text, AmxChoice expected)
    {
        Assert.Equal(expected, Read(null, new() { ["GEMMASERVER_AMX"] = text }, null, out List<string> mistakes).Amx);
        Assert.Empty(mistakes);
        Assert.Equal(AmxChoice.Off, Read(new() { ["amx"] = ["off"] }, new() { ["GEMMASERVER_AMX"] = text }, null, out _).Amx);
        Read(null, new() { ["GEMMASERVER_AMX"] = "often" }, null, out mistakes);
        Assert.Contains("GEMMASERVER_AMX: 'often' is not one of auto, off.", mistakes);
    }

    [Fact]
    public void All_mistakes_are_told_at_once_and_name_where_they_stand()
    {
        Read(
            new() { ["port"] = ["99999"], ["max-num-seqs"] = ["many"], ["kv-cache-dtype"] = ["q4"], ["host"] = ["nowhere"], ["model"] = ["/does/not/exist"], ["seed"] = ["1", "2"], ["cpu-affinity"] = ["3-1"] },
            new() { ["GEMMASERVER_KV_CACHE_MEMORY"] = "1T", ["GEMMASERVER_DRAIN_TIMEOUT"] = "soon", ["GEMMASERVER_BODY_LIMIT"] = "1" },
            new() { ["GemmaServer:no-such"] = "1", ["GemmaServer:otlp-endpoint"] = "ftp://x" },
            out List<string> mistakes);
        string[] places = ["--cpu-affinity", "--port", "--max-num-seqs", "--kv-cache-dtype", "--host", "--model", "--seed", "GEMMASERVER_KV_CACHE_MEMORY", "GEMMASERVER_DRAIN_TIMEOUT", "GEMMASERVER_BODY_LIMIT", "nosuch", "otlp-endpoint"];
        Assert.Equal(places.Length, mistakes.Count);
        Assert.All(places, place => Assert.Contains(mistakes, m => m.Contains(place, StringComparison.Ordinal)));
    }

    [Fact]
    public void The_printed_settings_hold_no_secret()
    {
        string text = OptionsReader.Describe(new ServerOptions { ApiKey = ["top-secret-1", "top-secret-2"], AdminKey = "top-secret-3", Port = 1234, OtlpEndpoint = new Uri("http://me:top-secret-4@collector:4317") });
        Assert.DoesNotContain("top-secret", text);
        Assert.Contains("http://collector:4317", text);
        Assert.Contains("(2 set)", text);
        Assert.Contains("1234", text);
        Assert.Equal(OptionsReader.Settings.Count, text.Count(static c => c == '\n'));
    }

    [Theory]
    [InlineData("--port", "x")]
    [InlineData("--no-such-flag")]
    [InlineData("serve", "--max-num-seqs", "0", "--device", "abacus")]
    [InlineData("inspect", "one", "two")]
    public async Task A_wrong_command_line_ends_with_2(params string[] args) => Assert.Equal(2, await CommandLine.RunAsync(args));

    [Fact]
    public async Task Inspecting_what_is_no_checkpoint_ends_with_1() =>
        Assert.Equal(1, await CommandLine.RunAsync(["inspect", GoldenData.At("tok512", "tokenizer_config.json")]));
}
