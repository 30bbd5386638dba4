return await GemmaServer.CommandLine.RunAsync(args);
