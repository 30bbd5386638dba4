using GemmaServer.Compute;

namespace GemmaServer.Model;

/// <summary>A model on a device, as the engine sees it: token ids and pages in, token ids out. Used from one thread.</summary>
public interface IModelRunner : IDisposable
{
    /// <summary>The KV pool: groups, page shapes, page count.</summary>
    KvCachePlan KvCache { get; }

    /// <summary>Token ids are 0 … VocabularySize − 1.</summary>
    int VocabularySize { get; }

    /// <summary>Slots, so sequences that may run at once.</summary>
    int MaxSequences { get; }

    /// <summary>Rows in one step.</summary>
    int MaxBatchTokens { get; }

    /// <summary>Most guesses a step that this runner gives where a slice wants them; 0: it gives none.</summary>
    int MaxDrafts => 0;

    /// <summary>
    /// True when <see cref="Launch"/> returns before the step is done: the engine then schedules the next step before it
    /// collects this one. False on the CPU, where the engine would only waste rows on finished sequences.
    /// </summary>
    bool IsAsynchronous { get; }

    /// <summary>Gives a sequence a place on the device; its penalties start from these tokens (outputs are there after a preemption).</summary>
    void OpenSlot(int slot, SamplingParams sampling, ReadOnlySpan<int> prompt, ReadOnlySpan<int> output);

    /// <summary>Forgets the slot. A step in flight that still holds it is finished first.</summary>
    void CloseSlot(int slot);

    /// <summary>Starts one forward pass with sampling. The batch may be changed as soon as this returns.</summary>
    StepTicket Launch(StepBatch batch);

    /// <summary>Waits for a step and gives what it sampled; valid until the next call.</summary>
    StepResult Collect(StepTicket ticket);
}
