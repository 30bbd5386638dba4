using GemmaServer.Compute;
using GemmaServer.Engine;
using GemmaServer.Model;
using GemmaServer.Tests;

namespace GemmaServer.GoldenTests;

/// <summary>What a device compiles, it compiles before the first request.</summary>
[Trait("Category", "Device")]
public sealed class WarmUpTests
{
    [OpenClFact]
    public async Task No_request_needs_a_kernel_that_was_not_there_before_it()
    {
        using Checkpoint checkpoint = Checkpoint.Open(GoldenModel.Open("tiny-moe", "Q4_K_M").Path);
        RunnerPlan plan = RunnerPlan.Make(
            checkpoint.Config, 0, new RunnerOptions(KvCacheType.F16, BlockSize: 16, 64 << 20, MaxModelLength: 512, MaxSequences: 6, MaxBatchTokens: 72), DeviceBudget.Cpu(4L << 30));
        GpuDevice device = (GpuDevice)TestDevices.Open("opencl");
        using ModelRunner runner = new(device, checkpoint, plan);
        int loaded = device.Context.KernelCount;
        runner.WarmUp();
        int warm = device.Context.KernelCount;
        Assert.True(warm > loaded, "nothing was compiled");

        using InferenceEngine engine = new(runner, new EngineOptions { MaxModelLength = 512, MaxSequences = 6, MaxBatchTokens = 72, PrefixCaching = false });
        engine.Start();
        foreach (int[] lengths in (int[][])[[1], [2, 3], [9], [17, 4], [40, 1, 70], [150, 150, 5, 5, 5, 5], [71], [33, 33, 33, 33, 33]])
        {
            Generation[] running = [.. lengths.Select((length, i) => Submit(engine, length, i, promptLogprobs: length == 33 ? 2 : -1))];
            foreach (Generation g in running) Assert.Equal(5, (await EngineHarness.TokensAsync(g)).Length);
        }
        Assert.Equal(warm, device.Context.KernelCount);
    }

    private static Generation Submit(InferenceEngine engine, int length, int number, int promptLogprobs)
    {
        SamplingParams sampling = (number % 3) switch
        {
            0 => new SamplingParams { Temperature = 0 },
            1 => new SamplingParams { Temperature = 0.7f, TopP = 0.9f, PresencePenalty = 1, Logprobs = 2 },
            _ => new SamplingParams { TopK = 20, MinP = 0.1f, LogitBias = [new(3, 2f)] },
        };
        GenerationRequest request = new()
        {
            Id = $"r{number}", Prompt = [.. Enumerable.Range(0, length).Select(i => 5 + (i * 7 + number) % 90)], Sampling = sampling, MaxTokens = 5, PromptLogprobs = promptLogprobs,
        };
        Assert.Equal(SubmitResult.Accepted, engine.TrySubmit(request, out Generation? generation));
        return generation!;
    }
}
