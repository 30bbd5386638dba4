using GemmaServer.Compute;
using GemmaServer.Model;
using GemmaServer.Text;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;

namespace GemmaServer;

/// <summary><c>gemmaserver [serve]</c>: listens at once, answers 503 while the model loads, then serves until told to stop.</summary>
internal static class ServeCommand
{
    public static async Task<int> RunAsync(ServerOptions options, IReadOnlyList<string> mistakes, CancellationToken cancellation)
    {
        if (mistakes.Count > 0) return CommandLine.Complain(mistakes);

        // Reading the file's header and putting the host together take about as long as each other.
        Task<Checkpoint> opening = Task.Run(() => ModelLoader.Open(options), CancellationToken.None);
        await using WebApplication app = GemmaServerApp.Build(options, configure: null);
        Server server = app.Services.GetRequiredService<Server>();
        try
        {
            await app.StartAsync(cancellation);
        }
        catch (IOException e)
        {
            return CommandLine.Complain([e.Message]);
        }
        string addresses = string.Join(", ", app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()?.Addresses ?? []);
        Logs.Started(server.Logger, ServerVersion.Text, addresses, OptionsReader.Describe(options));

        if (!await LoadAsync(app, opening, options, server)) return 1;
        await app.WaitForShutdownAsync(cancellation);
        return 0;
    }

    private static async Task<bool> LoadAsync(WebApplication app, Task<Checkpoint> opening, ServerOptions options, Server server)
    {
        try
        {
            Checkpoint checkpoint = await opening;
            ServedModel model = await Task.Run(() => ModelLoader.Load(checkpoint, options, RunnerMaker.Make, server.Logger));
            app.Serve(model);
            return true;
        }
        catch (Exception e) when (e is CheckpointException or TokenizerException or ArgumentException or MemoryPlanException or GpuException or OutOfMemoryException)
        {
            Logs.LoadFailed(server.Logger, e.Message);
            await app.StopAsync();
            return false;
        }
    }
}
