using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using GemmaServer.Model;

namespace GemmaServer;

/// <summary><c>gemmaserver make-random PATH --shape e2b --type q4_0</c>: a checkpoint of random weights in a published model's dimensions.</summary>
internal static class MakeRandomCommand
{
    public static Command Create()
    {
        Argument<string> path = new("path") { Description = "The GGUF file to write." };
        Option<string> shape = new("--shape") { Description = "Whose dimensions.", Required = true };
        shape.AcceptOnlyFromAmong([.. RandomShape.Names]);
        Option<string> type = new("--type") { Description = "Storage type of the matrices; q4_k_m mixes as llama.cpp does.", DefaultValueFactory = static _ => "q4_0" };
        type.AcceptOnlyFromAmong([.. TensorMixture.Names]);
        Option<int?> layers = new("--layers") { Description = "Fewer layers: the pattern from the start, the last one global." };
        Option<int?> vocabulary = new("--vocab") { Description = "A smaller vocabulary." };
        Option<ulong> seed = new("--seed") { Description = "The same seed gives the same file.", DefaultValueFactory = static _ => 1 };
        Option<bool> force = new("--force") { Description = "Replace an existing file." };
        Command command = new("make-random", "Write a random checkpoint with a published model's dimensions, for speed work.") { path, shape, type, layers, vocabulary, seed, force };
        command.SetAction((parsed, cancellation) => Task.Run(() => Run(
            parsed.GetValue(path)!, RandomShape.Find(parsed.GetValue(shape)!), parsed.GetValue(type)!, parsed.GetValue(layers), parsed.GetValue(vocabulary),
            parsed.GetValue(seed), parsed.GetValue(force), cancellation)));
        return command;
    }

    private static int Run(
        string path, PublishedSize size, string type, int? layers, int? vocabulary, ulong seed, bool force, CancellationToken cancellation)
    {
        List<string> mistakes = [];
        if (layers is < 1 || layers > size.Layers) mistakes.Add($"--layers: {layers} is not between 1 and the {size.Layers} of {size.Name}.");
        if (vocabulary is < RandomShape.LeastVocabulary or > PublishedSize.Vocabulary)
            mistakes.Add($"--vocab: {vocabulary} is not between {RandomShape.LeastVocabulary} and {PublishedSize.Vocabulary}.");
        if (!force && File.Exists(path)) mistakes.Add($"path: there is a file '{path}'; --force replaces it.");
        if (mistakes.Count > 0) return CommandLine.Complain(mistakes);

        RandomCheckpointFile checkpoint = new(size, RandomShape.Config(size, layers ?? size.Layers, vocabulary ?? PublishedSize.Vocabulary), type);
        string part = path + ".part";       // an incomplete file must not look like a checkpoint
        using CancellationTokenSource stop = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        void Stop(PosixSignalContext signal)
        {
            signal.Cancel = true;       // so that the part is deleted
            stop.Cancel();
        }
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        try
        {
            long started = Stopwatch.GetTimestamp();
            using (ProgressLine progress = new())
                checkpoint.Write(part, seed, bytes => progress.Show((double)bytes / checkpoint.DataBytes, Gigabytes(bytes)), stop.Token);
            File.Move(part, path, overwrite: true);
            double seconds = Stopwatch.GetElapsedTime(started).TotalSeconds;
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{path}: {size.Name}, {checkpoint.Config.LayerCount} layers, vocabulary {checkpoint.Config.VocabularySize}, {type}, {checkpoint.Tensors.Count} tensors, {Gigabytes(new FileInfo(path).Length)} in {seconds:0.0} s"));
            return 0;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or OperationCanceledException)
        {
            Console.Error.WriteLine($"error: {e.Message}");
            if (File.Exists(part)) File.Delete(part);
            return 1;
        }
    }

    private static string Gigabytes(long bytes) => string.Create(CultureInfo.InvariantCulture, $"{bytes / 1e9:0.00} GB");
}
