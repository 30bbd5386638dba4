using System.CommandLine;
using GemmaServer.Model;
using GemmaServer.Text;

namespace GemmaServer;

/// <summary><c>gemmaserver inspect PATH [--verify]</c>: what a checkpoint holds; with --verify, whether it is a published Gemma 4.</summary>
internal static class InspectCommand
{
    public static Command Create()
    {
        Argument<string> path = new("path") { Description = "GGUF file or Hugging Face folder." };
        Option<bool> verify = new("--verify") { Description = "Compare tensor counts, shapes and token vectors with the published models." };
        Command command = new("inspect", "Print what a checkpoint holds.") { path, verify };
        command.SetAction(parsed => Run(parsed.GetValue(path)!, parsed.GetValue(verify)));
        return command;
    }

    private static int Run(string path, bool verify)
    {
        try
        {
            using Checkpoint checkpoint = Checkpoint.Open(path);
            Console.Write(CheckpointInspector.Describe(checkpoint));
            if (!verify) return 0;

            Tokenizer tokenizer = ModelLoader.ReadTokenizer(checkpoint);
            IReadOnlyList<VerificationLine> lines = CheckpointVerifier.Verify(checkpoint, text => tokenizer.Encode(text, parseSpecial: false));
            foreach (VerificationLine line in lines) Console.WriteLine(line);
            return lines.All(static l => l.Passed) ? 0 : 1;
        }
        catch (Exception e) when (e is CheckpointException or TokenizerException)
        {
            Console.Error.WriteLine($"error: {e.Message}");
            return 1;
        }
    }
}
