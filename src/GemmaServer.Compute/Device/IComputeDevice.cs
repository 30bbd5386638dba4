namespace GemmaServer.Compute;

/// <summary>
/// The device contract: memory, the operations of one decoder layer, and sampling. The model is one recipe over these
/// (see <c>Gemma4Model</c>), cut where every device wants to fuse. Operations act on the rows of the batch given to
/// <see cref="BeginStep"/> and run in order; used from one thread.
/// </summary>
/// <remarks>
/// Row invariance: the result of a row depends on that row and its own keys and values alone, bit for bit, never on the
/// batch around it, on chunking or on the number of threads.
/// </remarks>
public interface IComputeDevice : IDisposable
{
    /// <summary>For logs and the memory plan, e.g. "cpu (AVX-512, 2 threads)".</summary>
    string Name { get; }

    /// <summary>See <c>IModelRunner.IsAsynchronous</c>.</summary>
    bool IsAsynchronous { get; }

    /// <summary>Bytes of weights that the device holds in a form of its own, beside what stays mapped.</summary>
    long WeightBytes { get; }

    /// <summary>Activations for up to <paramref name="rows"/> rows.</summary>
    DeviceTensor CreateTensor(int rows, int columns);

    /// <summary>A matrix from parts stacked by rows (q, k, v; gate, up), each with its own storage type.</summary>
    DeviceMatrix LoadMatrix(params ReadOnlySpan<TensorSource> parts);

    /// <summary>A matrix whose rows are looked up and never multiplied: it may stay where it is mapped.</summary>
    DeviceMatrix LoadTable(TensorSource source);

    /// <summary>A vector from an f32, f16 or bf16 tensor, multiplied by <paramref name="scale"/>.</summary>
    DeviceVector LoadVector(TensorSource source, float scale = 1f);

    /// <summary>Centroids of a drafter's head, spec §4.4.</summary>
    /// <param name="vectors"><c>[clusters, hidden]</c>.</param>
    /// <param name="tokenOrdering">Token ids cluster by cluster: a permutation of the vocabulary.</param>
    /// <param name="used">Clusters whose tokens get logits.</param>
    DeviceCentroids LoadCentroids(TensorSource vectors, ReadOnlySpan<int> tokenOrdering, int used);

    /// <summary>The KV pool; one shape per layer of each group, in the plan's order.</summary>
    DeviceKvCache CreateKvCache(KvCachePlan plan, Func<int, AttentionPlan> layerShape);

    /// <summary>
    /// Registers a rotation: <paramref name="inverseFrequencies"/><c>[headDim/2]</c>, zero where a pair is not rotated; pairs
    /// are (i, i + headDim/2). Returns its index for <see cref="AttentionPlan.Rope"/>.
    /// </summary>
    int AddRope(ReadOnlySpan<float> inverseFrequencies);

    /// <summary>Makes room for steps of so many rows and slots, so that none allocates.</summary>
    /// <param name="maxBatchTokens">Rows in a step.</param>
    /// <param name="maxSequences">Slots.</param>
    /// <param name="vocabularySize">Columns of the head's logits.</param>
    /// <param name="readers">Attention that reads the cache beside the layers it was made for: a drafter's.</param>
    void Reserve(int maxBatchTokens, int maxSequences, int vocabularySize, params ReadOnlySpan<AttentionPlan> readers);

    /// <summary>A sequence takes a slot; see <c>IModelRunner.OpenSlot</c>.</summary>
    void OpenSlot(int slot, SamplingParams sampling, ReadOnlySpan<int> prompt, ReadOnlySpan<int> output);

    /// <summary>A sequence leaves its slot.</summary>
    void CloseSlot(int slot);

    /// <summary>Takes a batch in: tokens (a slot's last sampled one where so marked), positions, rotations.</summary>
    void BeginStep(StepBatch batch);

    /// <summary>x = table[token] · scale.</summary>
    void Embed(DeviceMatrix table, float scale, DeviceTensor x);

    /// <summary>
    /// Per-layer inputs, spec §2.3: <paramref name="ple"/><c>[rows, layers·width]</c> holds W_model·x on entry and
    /// (RMS(ple·contextScale; norm) + table[token]·tableScale) · 2^(−1/2) on return, the norm taken over each layer's width.
    /// </summary>
    void PerLayerInputs(DeviceTensor ple, float contextScale, DeviceVector norm, DeviceMatrix table, float tableScale);

    /// <summary>y = [table[token] · scale | x]: a drafter's input, spec §4.2.</summary>
    void EmbedBeside(DeviceMatrix table, float scale, DeviceTensor x, DeviceTensor y);

    /// <summary>y = RMS(x; w); a null weight is all ones.</summary>
    void RmsNorm(DeviceTensor x, DeviceVector? w, DeviceTensor y);

    /// <summary>y += RMS(x; w).</summary>
    void RmsNormAdd(DeviceTensor x, DeviceVector w, DeviceTensor y);

    /// <summary>x = (x + RMS(delta; post)) · scale; normed = RMS(x; next) where there is a next norm.</summary>
    void AddNorm(DeviceTensor x, DeviceTensor delta, DeviceVector post, float scale, DeviceVector? next, DeviceTensor normed);

    /// <summary>y = W·x.</summary>
    void MatMul(DeviceTensor x, DeviceMatrix w, DeviceTensor y);

    /// <summary>y = gelu_tanh(Gate·x) ⊙ (Up·x); the matrix holds gate's rows, then up's.</summary>
    void GatedMatMul(DeviceTensor x, DeviceMatrix gateUp, DeviceTensor y);

    /// <summary>
    /// On <paramref name="qkv"/> rows (q | k | v): q = rope(RMS(q; qNorm)) in place; where the layer owns its cache
    /// k = rope(RMS(k; kNorm)) and v = RMS(v) (the raw k where values are keys) go into the pages. Where these are compact
    /// (<see cref="AttentionPlan.IsCompact"/>) q is left in the form that <see cref="Attend"/> compares with them.
    /// <paramref name="kNorm"/> is that of the layer whose cache is read.
    /// </summary>
    void NormRopeStore(AttentionPlan plan, DeviceVector qNorm, DeviceVector kNorm, DeviceTensor qkv, DeviceKvCache cache);

    /// <summary>heads = softmax(q·Kᵀ)·V over the keys each row sees; no score scale (spec §0.1).</summary>
    void Attend(AttentionPlan plan, DeviceTensor qkv, DeviceKvCache cache, DeviceTensor heads);

    /// <summary>y = gelu_tanh(W·x) ⊙ ple[:, layer].</summary>
    void PerLayerGate(DeviceTensor x, DeviceMatrix w, DeviceTensor ple, int layer, DeviceTensor y);

    /// <summary>
    /// Mixture of experts, spec §2.6: scores = proj·(RMS(x) ⊙ scale), softmax, the best <paramref name="used"/> renormalised
    /// and multiplied by <paramref name="expertScale"/>; kept on the device for <see cref="Experts"/>.
    /// </summary>
    void Route(DeviceTensor x, DeviceVector scale, DeviceMatrix proj, DeviceVector expertScale, int used);

    /// <summary>y = Σ over each row's experts e of weight · Down_e·(gelu_tanh(Gate_e·x) ⊙ (Up_e·x)); gate and up may be one matrix (<paramref name="up"/> null) with gate's rows first.</summary>
    void Experts(DeviceTensor x, DeviceMatrix gate, DeviceMatrix? up, DeviceMatrix down, int expertWidth, DeviceTensor y);

    /// <summary>
    /// For the rows whose next token is wanted: logits = softcap(head·RMS(x; norm)), then prompt logprobs and sampling, for
    /// <see cref="Collect"/>. <paramref name="softcap"/> 0 is none. Row k of <paramref name="hidden"/>, where given, becomes
    /// RMS(x; norm) of the row that the last token of the k-th slice with DraftsWanted &gt; 0 was sampled from.
    /// </summary>
    void Sample(DeviceTensor x, DeviceVector norm, DeviceMatrix head, float softcap, LogitsTap? tap, DeviceTensor? hidden = null);

    /// <summary>
    /// Waits for the oldest step whose <see cref="Sample"/> was called and that was not collected, and puts what it sampled into
    /// <paramref name="result"/>. An asynchronous device may have begun one more step by then.
    /// </summary>
    void Collect(StepResult result);

    /// <summary>
    /// Guesses one token for each row, spec §4.3: logits = head·x, with <paramref name="centroids"/> only for the tokens of the
    /// best clusters, then the choice that the slot's sampler would make at the guess's position, which changes nothing in the
    /// slot. The guess joins <paramref name="result"/> and becomes the row's token, so that <see cref="EmbedBeside"/> reads it
    /// next. A row that has its slice's DraftsWanted, or guessed (or began with) an end token, gets no more.
    /// </summary>
    /// <param name="x">Hidden rows after the drafter's last norm.</param>
    /// <param name="head">The drafter's table.</param>
    /// <param name="centroids">Null for a dense head.</param>
    /// <param name="depth">Guesses that each row has already: the guess is for <paramref name="depth"/> + 1 positions behind the row's own.</param>
    /// <param name="sequences">By row, the sequence's place in <paramref name="result"/>.</param>
    /// <param name="result">What the target's step sampled, collected; receives the guesses.</param>
    /// <param name="tap">Sees the logits, under the position of the token before the guess.</param>
    /// <returns>False when no row gets more.</returns>
    bool Draft(DeviceTensor x, DeviceMatrix head, DeviceCentroids? centroids, int depth, ReadOnlySpan<int> sequences, StepResult result, LogitsTap? tap);
}
