using GemmaServer.Compute;
using GemmaServer.Model;

namespace GemmaServer.GoldenTests;

/// <summary>What is told of a load.</summary>
public class LoadingTests
{
    [Fact]
    public void Progress_rises_layer_by_layer_to_the_whole()
    {
        using Checkpoint checkpoint = Checkpoint.Open(GoldenModel.Open("tiny-e", "Q4_0").Path);
        using CpuDevice device = new(1, ActivationType.F32);
        List<double> shares = [];
        using Gemma4Weights weights = new(device, checkpoint, shares.Add);
        int layers = checkpoint.Config.LayerCount;
        Assert.Equal(Enumerable.Range(1, layers).Select(i => i / (double)layers), shares);
    }
}
