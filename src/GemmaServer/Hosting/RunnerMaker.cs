using GemmaServer.Model;

namespace GemmaServer;

/// <summary>Opens the device and puts the checkpoint on it.</summary>
internal static class RunnerMaker
{
    /// <summary>A <see cref="RunnerFactory"/>: the place where device and runner are chosen by the options.</summary>
    public static (IModelRunner Runner, int MaxModelLength) Make(Checkpoint checkpoint, ServerOptions options, Action<string> log) =>
        throw new NotSupportedException("this build has no device that could compute the model");
}
