using System.CommandLine;
using GemmaServer.Benchmarks;

RootCommand root = new("What GemmaServer costs beside another program, and beside the machine it runs on.");
root.Subcommands.Add(CompareCommand.Create());
root.Subcommands.Add(KernelsCommand.Create());
return await root.Parse(args).InvokeAsync();
