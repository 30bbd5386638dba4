using System.Globalization;
using GemmaServer.Compute;
using GemmaServer.Model;

namespace GemmaServer;

/// <summary>What is told about a checkpoint to clients that show or choose models.</summary>
/// <param name="Format">gguf or safetensors.</param>
/// <param name="Parameters">Numbers in all weights.</param>
/// <param name="Quantization">The type that most of the weights' bytes have.</param>
/// <param name="Bytes">Size of the weights.</param>
/// <param name="Layers">Decoder layers.</param>
/// <param name="HiddenSize">Width of the residual stream.</param>
/// <param name="Heads">Query heads.</param>
/// <param name="SlidingWindow">Keys a sliding layer sees.</param>
public sealed record ModelCard(string Format, long Parameters, string Quantization, long Bytes, int Layers, int HiddenSize, int Heads, int SlidingWindow)
{
    /// <summary>The parameters as people say them: 4.5B, 270.0M, 12K.</summary>
    public string Size => Parameters switch
    {
        >= 1_000_000_000 => (Parameters / 1e9).ToString("0.0B", CultureInfo.InvariantCulture),
        >= 1_000_000 => (Parameters / 1e6).ToString("0.0M", CultureInfo.InvariantCulture),
        _ => (Parameters / 1e3).ToString("0K", CultureInfo.InvariantCulture),
    };

    /// <summary>Reads it off a checkpoint.</summary>
    internal static ModelCard Of(Checkpoint checkpoint)
    {
        Dictionary<TensorType, long> bytes = [];
        long parameters = 0;
        foreach (TensorSource tensor in checkpoint.StoredTensors)
        {
            parameters += tensor.Rows * tensor.Columns;
            bytes[tensor.Type] = bytes.GetValueOrDefault(tensor.Type) + tensor.Bytes;
        }
        ModelConfig config = checkpoint.Config;
        return new(checkpoint.Format.StartsWith("GGUF", StringComparison.Ordinal) ? "gguf" : "safetensors", parameters, bytes.Count == 0 ? "unknown" : bytes.MaxBy(static t => t.Value).Key.ToString(), bytes.Values.Sum(),
            config.LayerCount, config.HiddenSize, config.HeadCount, config.SlidingWindow);
    }
}
