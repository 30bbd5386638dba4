using GemmaServer.Compute;
using GemmaServer.Engine;
using GemmaServer.Tests;

namespace GemmaServer.GoldenTests;

/// <summary>A server must not pause for the collector: steps on a GPU leave nothing on the heap.</summary>
[Trait("Category", "Device")]
public sealed class GpuAllocationTests
{
    /// <summary>A model with inputs of its layers and shared pages, and a mixture.</summary>
    public static IEnumerable<object[]> Models() => ServingHarness.Models().Where(static m => (string)m[0] is "tiny-e" or "tiny-moe");

    [OpenClTheory]
    [MemberData(nameof(Models))]
    public void Steps_of_prompts_and_of_single_tokens_allocate_nothing_on_the_engines_thread(string name, string type)
    {
        using ServingHarness serving = new(GoldenModel.Open(name, type).Path, maxLength: 128, maxBatchTokens: 32, maxSequences: 4, prefixCaching: false, device: "opencl", batchInvariant: false);
        SamplingParams sampling = new() { TopK = 64, TopP = 0.95f, Seed = 5 };
        Generation[] Start() => [.. Enumerable.Range(0, 3).Select(i => serving.Submit(serving.Prompt(60 + i, i), sampling, 24))];

        // Warm-up: every kernel, every size of grid, and block tables that grow once.
        Start();
        while (serving.Engine.Step())
        {
        }
        Generation[] generations = Start();
        serving.Engine.Step();
        // 183 rows in steps of 32, of which one was taken: five steps with prompts, then single tokens.
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 4; i++) serving.Engine.Step();
        long inPrompts = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.Contains(generations, static g => !g.TryRead(out _));
        for (int i = 0; i < 6; i++) serving.Engine.Step();
        before = GC.GetAllocatedBytesForCurrentThread();
        int read = 0;
        for (int i = 0; i < 10; i++)
        {
            serving.Engine.Step();
            foreach (Generation generation in generations)
                while (generation.TryRead(out _)) read++;
        }
        long inDecoding = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.True(read >= 25, $"{read} tokens");
        Assert.Equal((0, 0), (inPrompts, inDecoding));
        Assert.Empty(serving.Errors);
    }
}
