using System.Runtime.InteropServices;

namespace GemmaServer.Compute;

/// <summary>What the host remembers of a row that gets logits.</summary>
/// <param name="Slice">The sequence's place in the batch.</param>
/// <param name="Slot">Its slot.</param>
/// <param name="Position">The row's own position.</param>
/// <param name="PromptNext">The prompt token whose logprob is wanted; −1 for none.</param>
/// <param name="PromptTop">Best tokens beside it.</param>
/// <param name="Logprobs">As <see cref="SamplingParams.Logprobs"/>; −1 where nothing is sampled.</param>
/// <param name="TopAt">Where the row's best tokens begin.</param>
internal readonly record struct OutputFacts(int Slice, int Slot, int Position, int PromptNext, int PromptTop, int Logprobs, int TopAt);

/// <summary>A step between its start and its collection: what was asked of it, and where its results arrive.</summary>
internal sealed class StepFacts(GpuContext gpu, int maxRows) : IDisposable
{
    public const int ResultInts = 8;

    private readonly List<OutputFacts> _outputs = new(Math.Min(maxRows, 256));
    private readonly List<bool> _wantsPrompt = [];
    private readonly PinnedBuffer _results = gpu.AllocatePinned((long)maxRows * ResultInts * sizeof(int));
    private PinnedBuffer? _tops;
    private (float Logit, int Token)[] _sorted = new (float, int)[32];
    private GpuEvent _arrived;

    public ReadOnlySpan<OutputFacts> Outputs => CollectionsMarshal.AsSpan(_outputs);

    public void Begin(StepBatch batch)
    {
        _outputs.Clear();
        _wantsPrompt.Clear();
        foreach (ref readonly SequenceSlice slice in batch.Slices) _wantsPrompt.Add(slice.PromptLogprobs >= 0);
    }

    public void Add(in OutputFacts output) => _outputs.Add(output);

    /// <summary>Queues the way back.</summary>
    public void Fetch(GpuBuffer results, GpuBuffer tops, int topCount)
    {
        long bytes = (long)topCount * 2 * sizeof(int);
        if (bytes > 0)
        {
            if (_tops is null || _tops.Bytes < bytes)
            {
                _tops?.Dispose();
                _tops = gpu.AllocatePinned(Math.Max(bytes, 2 * (_tops?.Bytes ?? 2048)));
            }
            gpu.Read(_tops, 0, tops, 0, bytes);
        }
        if (_outputs.Count > 0) gpu.Read(_results, 0, results, 0, (long)_outputs.Count * ResultInts * sizeof(int));
        _arrived = gpu.Record();
    }

    /// <summary>Waits for the results and puts them in order, sequence by sequence.</summary>
    public void Deliver(StepResult result)
    {
        gpu.Wait(_arrived);
        result.Begin();
        int at = 0;
        for (int s = 0; s < _wantsPrompt.Count; s++)
        {
            List<TokenLogprob[]>? prompt = _wantsPrompt[s] ? [] : null;
            for (; at < _outputs.Count && _outputs[at].Slice == s; at++)
            {
                OutputFacts output = _outputs[at];
                RowResult row = new(_results.Span<int>().Slice(at * ResultInts, ResultInts));
                if (output.PromptNext >= 0)
                    prompt!.Add(Best(output, row, output.PromptTop, new TokenLogprob(output.PromptNext, row.Logprob(row.PromptLogit))));
                if (row.Token < 0) continue;
                if (output.Logprobs < 0) result.AddToken(row.Token, float.NaN, null);
                else result.AddToken(row.Token, row.Logprob(row.Logit), Best(output, row, output.Logprobs, null));
            }
            result.EndSequence(prompt);
        }
    }

    public void Dispose()
    {
        _results.Dispose();
        _tops?.Dispose();
    }

    /// <summary>The n best, best first, equals by id; the device gave them in no order, and more where more were asked for.</summary>
    private TokenLogprob[] Best(in OutputFacts output, RowResult row, int n, TokenLogprob? first)
    {
        int found = row.Tops, at = 0;
        if (found > 0)
        {
            if (_sorted.Length < found) _sorted = new (float, int)[Math.Max(found, 2 * _sorted.Length)];
            ReadOnlySpan<int> pairs = _tops!.Span<int>().Slice(output.TopAt, 2 * found);
            for (int i = 0; i < found; i++) _sorted[i] = (BitConverter.Int32BitsToSingle(pairs[2 * i + 1]), pairs[2 * i]);
            _sorted.AsSpan(0, found).Sort(static (a, b) => a.Logit == b.Logit ? a.Token.CompareTo(b.Token) : b.Logit.CompareTo(a.Logit));
        }
        int kept = Math.Min(n, found);
        TokenLogprob[] best = new TokenLogprob[kept + (first is null ? 0 : 1)];
        if (first is { } token) best[at++] = token;
        for (int i = 0; i < kept; i++) best[at++] = new TokenLogprob(_sorted[i].Token, row.Logprob(_sorted[i].Logit));
        return best;
    }

    /// <summary>RESULT_… in sampling.h.</summary>
    private readonly ref struct RowResult(ReadOnlySpan<int> values)
    {
        private readonly ReadOnlySpan<int> _values = values;

        public int Token => _values[0];

        public float Logit => BitConverter.Int32BitsToSingle(_values[1]);

        public float PromptLogit => BitConverter.Int32BitsToSingle(_values[4]);

        public int Tops => _values[5];

        /// <summary>In two steps: the greatest logit is near, and the difference keeps its digits.</summary>
        public float Logprob(float logit) =>
            (float)((double)logit - BitConverter.Int32BitsToSingle(_values[2]) - BitConverter.Int32BitsToSingle(_values[3]));
    }
}
