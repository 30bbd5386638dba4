using System.CommandLine;
using System.CommandLine.Parsing;
using System.Reflection;

namespace GemmaServer;

/// <summary>The verbs and their flags. Every mistake of a command line, the environment and the file is reported in one go.</summary>
internal static class CommandLine
{
    /// <summary>What the shell sees when the command line or the configuration is wrong.</summary>
    public const int UsageError = 2;

    /// <summary>Runs a command line.</summary>
    /// <returns>The process's exit code.</returns>
    public static async Task<int> RunAsync(string[] args)
    {
        Dictionary<string, Option<string[]>> flags = [];
        foreach ((PropertyInfo property, FlagAttribute flag) in OptionsReader.Settings) flags[flag.Name] = Flag(property, flag);

        RootCommand root = new("GemmaServer: an inference server for Gemma 4 with an OpenAI-compatible API.");
        Command serve = new("serve", "Serve a model (the default verb).");
        foreach (Option<string[]> flag in flags.Values)
        {
            root.Options.Add(flag);
            serve.Options.Add(flag);
        }
        root.SetAction((parsed, cancellation) => ServeCommand.RunAsync(Read(parsed, flags, out List<string> mistakes), mistakes, cancellation));
        serve.SetAction((parsed, cancellation) => ServeCommand.RunAsync(Read(parsed, flags, out List<string> mistakes), mistakes, cancellation));
        root.Subcommands.Add(serve);
        root.Subcommands.Add(InspectCommand.Create());
        root.Subcommands.Add(MakeRandomCommand.Create());
        root.Subcommands.Add(BenchCommand.Create());
        root.Subcommands.Add(BenchServeCommand.Create());
        root.Subcommands.Add(BenchGrammarCommand.Create());

        ParseResult result = root.Parse(args);
        if (result.Errors.Count == 0 || result.Action is System.CommandLine.Help.HelpAction) return await result.InvokeAsync(new InvocationConfiguration { ProcessTerminationTimeout = null });

        List<string> wrong = [.. result.Errors.Select(static e => e.Message)];
        if (result.CommandResult.Command == root || result.CommandResult.Command == serve)
        {
            Read(result, flags, out List<string> mistakes);
            wrong.AddRange(mistakes);
        }
        return Complain(wrong);
    }

    /// <summary>Prints mistakes, one a line.</summary>
    public static int Complain(IEnumerable<string> mistakes)
    {
        foreach (string mistake in mistakes) Console.Error.WriteLine($"error: {mistake}");
        Console.Error.WriteLine("Run with --help for the settings.");
        return UsageError;
    }

    private static ServerOptions Read(ParseResult parsed, Dictionary<string, Option<string[]>> flags, out List<string> mistakes)
    {
        Dictionary<string, string[]> given = [];
        foreach ((string name, Option<string[]> flag) in flags)
        {
            if (parsed.GetResult(flag) is not { Implicit: false } result) continue;
            string[] values = [.. result.Tokens.Select(static t => t.Value)];
            given[name] = values.Length == 0 ? ["true"] : values;    // a switch without a value
        }
        mistakes = [];
        IConfiguration file = new ConfigurationBuilder()
            .AddJsonFile(Path.Combine(AppContext.BaseDirectory, "appsettings.json"), optional: true)
            .AddJsonFile(Path.Combine(Environment.CurrentDirectory, "appsettings.json"), optional: true)
            .Build();
        return OptionsReader.Read(given, Environment.GetEnvironmentVariables(), file, mistakes);
    }

    private static Option<string[]> Flag(PropertyInfo property, FlagAttribute flag)
    {
        Type type = Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType;
        bool isSwitch = type == typeof(bool);
        bool isList = type == typeof(IReadOnlyList<string>);
        return new Option<string[]>("--" + flag.Name)
        {
            Description = $"{flag.Help} [{flag.Variable}]",
            HelpName = type.IsEnum ? string.Join('|', OptionsReader.Words(type)) : isSwitch ? "true|false" : flag.Name,
            // More than one value for a single one is a mistake that OptionsReader words.
            Arity = isSwitch ? ArgumentArity.ZeroOrMore : ArgumentArity.OneOrMore,
            AllowMultipleArgumentsPerToken = isList,
        };
    }
}
