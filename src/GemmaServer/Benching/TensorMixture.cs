using GemmaServer.Compute;

namespace GemmaServer;

/// <summary>Which storage type each tensor of a random checkpoint gets.</summary>
/// <remarks>
/// One type for all matrices, or <c>q4_k_m</c>: Q4_K with Q6_K for the embedding and for about half of the value and down
/// projections. Source of the rule: llama.cpp, <c>src/llama-quant.cpp</c>; the per-layer tensors are as in published E2B files.
/// </remarks>
internal sealed class TensorMixture
{
    private const string Q4KM = "q4_k_m";

    private readonly TensorType _type;
    private readonly bool _isMixed;
    private readonly Dictionary<string, int> _seen = [];
    private readonly Dictionary<string, int> _total;

    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <param name="tensors">All tensors, because the mixture goes by a tensor's place among its kind.</param>
    public TensorMixture(string name, IEnumerable<string> tensors)
    {
        _isMixed = name.Equals(Q4KM, StringComparison.OrdinalIgnoreCase);
        _type = _isMixed ? TensorType.Q4_K : Enum.Parse<TensorType>(name, ignoreCase: true);
        _total = tensors.GroupBy(Kind).ToDictionary(static g => g.Key, static g => g.Count());
    }

    /// <summary>Words for the command line.</summary>
    public static IReadOnlyList<string> Names { get; } = [.. Enum.GetNames<TensorType>().Select(static n => n.ToLowerInvariant()), Q4KM];

    /// <summary>The type of the next tensor; ask once for each, in the order of layers.</summary>
    public TensorType Next(string tensor, long[] shape)
    {
        string kind = Kind(tensor);
        int place = _seen[kind] = _seen.GetValueOrDefault(kind, -1) + 1;
        // Vectors and the router are plain numbers in every file.
        if (shape.Length == 1 || kind == "ffn_gate_inp.weight") return TensorType.F32;
        return Fitting(_isMixed ? Mixed(kind, place, _total[kind]) : _type, shape[^1]);
    }

    private static TensorType Mixed(string kind, int place, int count) => kind switch
    {
        "token_embd.weight" => TensorType.Q6_K,
        "per_layer_model_proj.weight" => TensorType.BF16,
        "per_layer_token_embd.weight" or "inp_gate.weight" or "proj.weight" => TensorType.Q5_K,
        "attn_v.weight" or "ffn_down.weight" or "ffn_down_exps.weight" when NeedsMoreBits(place, count) => TensorType.Q6_K,
        _ => TensorType.Q4_K,
    };

    /// <summary>The first and last eighth, and each third layer between them.</summary>
    private static bool NeedsMoreBits(int i, int n) => i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;

    /// <summary>Rows that are no whole number of 256-blocks fall back to a type with blocks of 32.</summary>
    private static TensorType Fitting(TensorType type, long columns) => columns % TensorTypes.BlockLength(type) == 0 ? type : type switch
    {
        TensorType.Q2_K or TensorType.Q3_K => TensorType.Q4_0,
        TensorType.Q4_K => TensorType.Q5_0,
        TensorType.Q5_K => TensorType.Q5_1,
        TensorType.Q6_K => TensorType.Q8_0,
        TensorType.IQ4_XS => TensorType.IQ4_NL,
        _ => TensorType.F16,
    };

    /// <summary>The name without the layer.</summary>
    private static string Kind(string tensor) => tensor.StartsWith("blk.", StringComparison.Ordinal) ? tensor[(tensor.IndexOf('.', 4) + 1)..] : tensor;
}
