using System.Diagnostics;
using GemmaServer.Compute;

namespace GemmaServer.Model;

/// <summary>Gemma 4 on a device: takes steps from the engine and runs the recipe.</summary>
public sealed class ModelRunner : IModelRunner
{
    private readonly IComputeDevice _device;
    private readonly Gemma4Weights _weights;
    private readonly Gemma4Model _model;
    private readonly DrafterWeights? _drafterWeights;
    private readonly DrafterModel? _drafter;
    private readonly StepResult _result;
    private long _launched, _collected;

    /// <summary>Loads the weights onto the device. The runner owns the device; the checkpoints' mappings must outlive it.</summary>
    /// <param name="device">Where it runs.</param>
    /// <param name="checkpoint">Opened and checked.</param>
    /// <param name="plan">KV pool and step sizes.</param>
    /// <param name="drafter">A drafter for the model; null for none.</param>
    /// <param name="maxDrafts">Most guesses a step for one sequence; read only with a drafter.</param>
    /// <param name="progress">Told which share of the model's layers is loaded, while it loads.</param>
    /// <exception cref="CheckpointException">The drafter was made for another model.</exception>
    public ModelRunner(IComputeDevice device, Checkpoint checkpoint, RunnerPlan plan, Checkpoint? drafter = null, int maxDrafts = 0, Action<double>? progress = null)
    {
        if (drafter is not null) DrafterFit.Check(drafter, checkpoint);
        (_device, Plan, VocabularySize) = (device, plan, checkpoint.Config.VocabularySize);
        long start = Stopwatch.GetTimestamp();
        _weights = new Gemma4Weights(device, checkpoint, progress);
        _model = new Gemma4Model(device, checkpoint.Config, _weights, plan.KvCache, plan.MaxBatchTokens);
        if (drafter is not null)
        {
            MaxDrafts = maxDrafts;
            _drafterWeights = new DrafterWeights(device, drafter);
            _drafter = new DrafterModel(device, drafter, _drafterWeights, _model, plan.MaxSequences);
        }
        if (device.WeightBytes > 0)
        {
            checkpoint.ReleasePages();
            drafter?.ReleasePages();
        }
        (LoadTime, DeviceWeightBytes) = (Stopwatch.GetElapsedTime(start), device.WeightBytes);
        _result = new StepResult(plan.MaxSequences, MaxDrafts);
        device.Reserve(plan.MaxBatchTokens, plan.MaxSequences, checkpoint.Config.VocabularySize, _drafter is null ? [] : _drafter.Attention);
    }

    /// <summary>How long the weights took to load.</summary>
    public TimeSpan LoadTime { get; }

    /// <summary>Bytes of weights in the device's own form, beside what stays mapped; see <see cref="IComputeDevice.WeightBytes"/>.</summary>
    public long DeviceWeightBytes { get; }

    /// <summary>What was decided before anything was allocated.</summary>
    public RunnerPlan Plan { get; }

    /// <inheritdoc/>
    public KvCachePlan KvCache => Plan.KvCache;

    /// <inheritdoc/>
    public int VocabularySize { get; }

    /// <inheritdoc/>
    public int MaxSequences => Plan.MaxSequences;

    /// <inheritdoc/>
    public int MaxBatchTokens => Plan.MaxBatchTokens;

    /// <inheritdoc/>
    public int MaxDrafts { get; }

    /// <inheritdoc/>
    /// <remarks>A drafter starts from what was sampled, so that a step with one ends on the host.</remarks>
    public bool IsAsynchronous => _device.IsAsynchronous && _drafter is null;

    /// <summary>Sees every row of logits that is computed; for reference tests.</summary>
    internal LogitsTap? LogitsTap { get; set; }

    /// <summary>Runs steps of all sizes, so that no request waits for kernels to be compiled; before the first request.</summary>
    /// <returns>How long it took.</returns>
    public TimeSpan WarmUp()
    {
        long start = Stopwatch.GetTimestamp();
        Model.WarmUp.Run(this, _drafter is not null);
        return Stopwatch.GetElapsedTime(start);
    }

    /// <inheritdoc/>
    public void OpenSlot(int slot, SamplingParams sampling, ReadOnlySpan<int> prompt, ReadOnlySpan<int> output) =>
        _device.OpenSlot(slot, sampling, prompt, output);

    /// <inheritdoc/>
    public void CloseSlot(int slot) => _device.CloseSlot(slot);

    /// <inheritdoc/>
    public StepTicket Launch(StepBatch batch)
    {
        _model.Forward(batch, LogitsTap, _drafter?.Hidden);
        if (_drafter is not null)
        {
            _device.Collect(_result);
            _drafter.Draft(batch, _result);
        }
        return new StepTicket(++_launched);
    }

    /// <inheritdoc/>
    public StepResult Collect(StepTicket ticket)
    {
        if (ticket.Number != _collected + 1)
            throw new InvalidOperationException($"Step {ticket.Number} was collected out of order; the next one is {_collected + 1}.");
        _collected++;
        if (_drafter is null) _device.Collect(_result);
        return _result;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _drafter?.Dispose();
        _drafterWeights?.Dispose();
        _model.Dispose();
        _weights.Dispose();
        _device.Dispose();
    }
}
