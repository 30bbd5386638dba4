using System.Diagnostics;
using GemmaServer.Compute;
using GemmaServer.Engine;
using GemmaServer.Model;

namespace GemmaServer;

/// <summary>Measures prefill and decode as a client of the engine, so with scheduling, sampling and events in it.</summary>
/// <param name="engine">Started, and idle.</param>
/// <param name="vocabulary">Prompts are random tokens below it: no two share a prefix.</param>
/// <param name="maxBatchTokens">Rows in one step, so how many steps a prompt takes.</param>
internal sealed class EngineBench(InferenceEngine engine, int vocabulary, int maxBatchTokens)
{
    private readonly RandomBits _random = new(1);
    private int _requests;

    /// <summary>Tokens beyond depth and answer that a sequence needs while the others of its batch are prefilled.</summary>
    public static int Slack(int depth, int batch, int maxBatchTokens) =>
        batch == 1 ? 0 : batch + (batch - 1) * (1 + Math.Max(1, depth) / Math.Max(1, maxBatchTokens - batch));

    /// <summary>Prompt tokens a second, up to and with the first token of the answer.</summary>
    public async Task<double> PrefillAsync(int length, CancellationToken cancellation)
    {
        long start = Stopwatch.GetTimestamp();
        List<long> tokens = await ReadAsync(Submit(Request(length, 1)), cancellation);
        return length / Stopwatch.GetElapsedTime(start, tokens[0]).TotalSeconds;
    }

    /// <summary>
    /// Tokens a second of all sequences together, from the moment when the last one has its first token to the moment when the
    /// first one ends. Those that were prefilled earlier get more tokens, so that nobody ends before each had its full count.
    /// </summary>
    /// <exception cref="InvalidOperationException">The sequences never ran together, however often it was tried.</exception>
    public async Task<double> DecodeAsync(int depth, int batch, int generate, CancellationToken cancellation)
    {
        // A model whose steps take microseconds may need many on a busy machine; a real one needs one.
        for (int attempt = 0; attempt < 1000; attempt++)
        {
            if (await TryDecodeAsync(depth, batch, generate, cancellation) is { } rate) return rate;
        }
        throw new InvalidOperationException("The machine is too busy: the first sequence ended before the last one was submitted.");
    }

    /// <summary>Null when this thread was held up between two submissions, so that there was no moment at which all decoded.</summary>
    private async Task<double?> TryDecodeAsync(int depth, int batch, int generate, CancellationToken cancellation)
    {
        int tokens = 1 + generate + Slack(depth, batch, maxBatchTokens);
        GenerationRequest[] requests = [.. Enumerable.Range(0, batch).Select(_ => Request(Math.Max(1, depth), tokens))];
        List<Generation> running = [];
        try
        {
            foreach (GenerationRequest request in requests) running.Add(Submit(request));
            Task<List<long>>[] readers = [.. running.Select(g => Task.Run(() => ReadAsync(g, cancellation), CancellationToken.None))];
            List<long> first = await await Task.WhenAny(readers);
            foreach (Generation generation in running) generation.Cancel();
            List<long>[] times = await Task.WhenAll(readers);
            if (times.Any(static t => t.Count == 0)) return null;
            long from = times.Max(static t => t[0]), to = first[^1];
            if (from >= to) return null;
            return times.Sum(t => t.Count(at => at > from && at <= to)) / Stopwatch.GetElapsedTime(from, to).TotalSeconds;
        }
        finally
        {
            foreach (Generation generation in running) generation.Cancel();
        }
    }

    /// <summary>
    /// Bytes of weights that one decode step reads: every matrix but the look-up tables, the embedding as the head, and of the
    /// experts as many as <paramref name="batch"/> tokens choose on average when they choose independently.
    /// </summary>
    public static long WeightBytes(Checkpoint checkpoint, int batch)
    {
        ModelConfig c = checkpoint.Config;
        double chosen = c.ExpertCount == 0 ? 1 : 1 - Math.Pow(1 - (double)c.ExpertsUsed / c.ExpertCount, batch);
        bool hasHead = checkpoint.Tensors.ContainsKey("output.weight");
        double bytes = 0;
        foreach ((string name, TensorSource tensor) in checkpoint.Tensors)
        {
            if (name == "per_layer_token_embd.weight" || (hasHead && name == "token_embd.weight")) continue;
            bytes += name.EndsWith("_exps.weight", StringComparison.Ordinal) ? tensor.Bytes * chosen : tensor.Bytes;
        }
        return (long)bytes;
    }

    private GenerationRequest Request(int promptLength, int maxTokens)
    {
        int[] prompt = new int[promptLength];
        for (int i = 0; i < prompt.Length; i++) prompt[i] = _random.Below(vocabulary);
        return new GenerationRequest
        {
            Id = $"bench-{++_requests}", Prompt = prompt, MaxTokens = maxTokens, Sampling = new SamplingParams { Temperature = 0 },
        };
    }

    private Generation Submit(GenerationRequest request)
    {
        SubmitResult result = engine.TrySubmit(request, out Generation? generation);
        return generation ?? throw new InvalidOperationException($"The engine did not take the request: {result}.");
    }

    /// <summary>The moments at which tokens came.</summary>
    private static async Task<List<long>> ReadAsync(Generation generation, CancellationToken cancellation)
    {
        List<long> times = new(1024);
        try
        {
            while (await generation.WaitToReadAsync(cancellation))
            {
                while (generation.TryRead(out TokenEvent e))
                {
                    if (e.Token >= 0) times.Add(Stopwatch.GetTimestamp());
                    if (e.Finish == FinishReason.Error) throw new InvalidOperationException("The engine failed while measuring.");
                }
            }
        }
        finally
        {
            generation.Cancel();
        }
        return times;
    }
}
