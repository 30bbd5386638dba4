using System.ComponentModel.DataAnnotations;

namespace GemmaServer.Engine;

/// <summary>Bounds of the engine. What the runner can do bounds them once more.</summary>
public sealed class EngineOptions
{
    /// <summary>Most prompt and answer tokens of one request together. The KV pool must hold one such sequence.</summary>
    [Range(2, int.MaxValue)] public required int MaxModelLength { get; init; }

    /// <summary>Sequences computed together. Default 256, as vLLM's max_num_seqs.</summary>
    [Range(1, 4096)] public int MaxSequences { get; init; } = 256;

    /// <summary>Rows in one step: the size of prefill chunks. Default 2048, as vLLM's max_num_batched_tokens on small devices.</summary>
    [Range(1, 1 << 20)] public int MaxBatchTokens { get; init; } = 2048;

    /// <summary>Requests that may wait for a place; one more is refused at once. Default 1024: four full batches.</summary>
    [Range(1, 1 << 20)] public int MaxQueue { get; init; } = 1024;

    /// <summary>Requests of one client that may wait for a place; 0 sets no limit of its own. Default 0.</summary>
    [Range(0, 1 << 20)] public int MaxQueuePerClient { get; init; }

    /// <summary>Whether pages of earlier requests serve later ones that begin with the same tokens.</summary>
    public bool PrefixCaching { get; init; } = true;

    /// <summary>
    /// Share of the pool that may hold sliding windows of past prompts and turns, so that conversations can go on there.
    /// Default a half: such a window takes several times the pages of the global layers over the same tokens.
    /// </summary>
    [Range(0.0, 1.0)] public double CachedWindowShare { get; init; } = 0.5;

    /// <summary>Most tokens a step that are guessed from the sequence's own tokens, where the runner guesses none. Default 0: off.</summary>
    [Range(0, 64)] public int PromptLookupDrafts { get; init; }

    /// <summary>What a row more costs in a decode step as a share of a token, for tests; null measures it.</summary>
    internal double? DraftCost { get; init; }

    /// <summary>Told of every failure that the engine survived, on the engine thread. What it throws is ignored.</summary>
    public Action<Exception>? OnError { get; init; }

    /// <summary>The clock of timestamps and queue timeouts.</summary>
    public TimeProvider Time { get; init; } = TimeProvider.System;
}
