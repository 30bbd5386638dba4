using ILGPU;
using ILGPU.Algorithms;

namespace GemmaServer.Compute.Ilgpu;

/// <summary>Shape of a launch over rows.</summary>
/// <param name="Rows">Rows.</param>
/// <param name="Columns">Elements of each.</param>
/// <param name="Lanes">Lanes that reduce one together.</param>
/// <param name="Epsilon">Added to the mean square.</param>
internal readonly record struct RowShape(int Rows, int Columns, int Lanes, float Epsilon);

/// <summary>Norms and gates over rows of activations.</summary>
internal static class RowKernels
{
    /// <summary>y = x / sqrt(mean(x²) + epsilon) · w, or y += that. x may be y.</summary>
    /// <param name="shape">Rows of y.</param>
    /// <param name="xStride">Floats from one row of x to the next.</param>
    /// <param name="yStride">Of y.</param>
    /// <param name="map">The row of x for each row of y, where <paramref name="flags"/> has bit 2.</param>
    /// <param name="flags">1: has weights; 2: adds; 4: goes by the map.</param>
    /// <param name="x">Input.</param>
    /// <param name="w">Weights, one per column.</param>
    /// <param name="y">Output.</param>
    public static void RmsNorm(
        RowShape shape, int xStride, int yStride, int flags, ArrayView<int> map, ArrayView<float> x, ArrayView<float> w, ArrayView<float> y)
    {
        ArrayView<float> scratch = SharedMemory.Allocate<float>(Lanes.MostRowLanes);
        int lanes = shape.Lanes, lane = Lanes.RowLane(lanes), step = Lanes.RowStep(lanes), n = shape.Columns;
        for (int row = Lanes.FirstRow(lanes); row < shape.Rows; row += step)
        {
            int from = ((flags & 4) != 0 ? map[row] : row) * xStride, to = row * yStride;
            float sum = 0;
            for (int i = lane; i < n; i += lanes) sum += x[from + i] * x[from + i];
            float inverse = 1f / XMath.Sqrt(Lanes.Sum(sum, lanes, scratch) / n + shape.Epsilon);
            for (int i = lane; i < n; i += lanes)
            {
                float normed = x[from + i] * inverse;
                if ((flags & 1) != 0) normed *= w[i];
                if ((flags & 2) != 0) normed += y[to + i];
                y[to + i] = normed;
            }
        }
    }

    /// <summary>x = (x + RMS(delta; post)) · scale; normed = RMS(x; next) where <paramref name="hasNext"/>. All with one stride.</summary>
    public static void AddNorm(
        RowShape shape, int stride, float scale, int hasNext,
        ArrayView<float> x, ArrayView<float> delta, ArrayView<float> post, ArrayView<float> next, ArrayView<float> normed)
    {
        ArrayView<float> scratch = SharedMemory.Allocate<float>(Lanes.MostRowLanes);
        int lanes = shape.Lanes, lane = Lanes.RowLane(lanes), step = Lanes.RowStep(lanes), n = shape.Columns;
        for (int row = Lanes.FirstRow(lanes); row < shape.Rows; row += step)
        {
            int at = row * stride;
            float sum = 0;
            for (int i = lane; i < n; i += lanes) sum += delta[at + i] * delta[at + i];
            float inverse = 1f / XMath.Sqrt(Lanes.Sum(sum, lanes, scratch) / n + shape.Epsilon);
            float sumNext = 0;
            for (int i = lane; i < n; i += lanes)
            {
                float value = (x[at + i] + delta[at + i] * inverse * post[i]) * scale;
                x[at + i] = value;
                sumNext += value * value;
            }
            float inverseNext = 1f / XMath.Sqrt(Lanes.Sum(sumNext, lanes, scratch) / n + shape.Epsilon);
            // Each lane reads what it wrote itself.
            if (hasNext != 0)
                for (int i = lane; i < n; i += lanes) normed[at + i] = x[at + i] * inverseNext * next[i];
        }
    }

    /// <summary>
    /// Per-layer inputs: every layer's part of a row of <paramref name="ple"/> becomes
    /// (RMS(part · contextScale; norm) + token · tableScale) / √2.
    /// </summary>
    /// <param name="shape">Parts of all rows; columns of a part.</param>
    /// <param name="layers">Parts of a row.</param>
    /// <param name="stride">Floats from one row to the next, of both.</param>
    /// <param name="contextScale">On the projection.</param>
    /// <param name="tableScale">On the token's row.</param>
    /// <param name="ple">In and out.</param>
    /// <param name="token">The tokens' rows of the table.</param>
    /// <param name="norm">One per column of a part.</param>
    public static void PerLayerInputs(
        RowShape shape, int layers, int stride, float contextScale, float tableScale, ArrayView<float> ple, ArrayView<float> token, ArrayView<float> norm)
    {
        ArrayView<float> scratch = SharedMemory.Allocate<float>(Lanes.MostRowLanes);
        int lanes = shape.Lanes, lane = Lanes.RowLane(lanes), step = Lanes.RowStep(lanes), n = shape.Columns;
        for (int part = Lanes.FirstRow(lanes); part < shape.Rows; part += step)
        {
            int at = part / layers * stride + part % layers * n;
            float sum = 0;
            for (int i = lane; i < n; i += lanes)
            {
                float value = ple[at + i] * contextScale;
                sum += value * value;
            }
            float factor = contextScale / XMath.Sqrt(Lanes.Sum(sum, lanes, scratch) / n + shape.Epsilon);
            for (int i = lane; i < n; i += lanes)
                ple[at + i] = (ple[at + i] * factor * norm[i] + token[at + i] * tableScale) * 0.70710678118654752f;
        }
    }

    /// <summary>y = gelu_tanh(gate) ⊙ up, each in its own rows and columns.</summary>
    /// <param name="rows">Rows.</param>
    /// <param name="columns">Columns of y.</param>
    /// <param name="gateStride">Floats from one row of <paramref name="gate"/> to the next.</param>
    /// <param name="upStride">Of <paramref name="up"/>.</param>
    /// <param name="upOffset">Where a row of up begins.</param>
    /// <param name="yStride">Of y.</param>
    /// <param name="gate">May be y.</param>
    /// <param name="up">May be the memory of gate.</param>
    /// <param name="y">Output.</param>
    public static void Gate(
        int rows, int columns, int gateStride, int upStride, int upOffset, int yStride, ArrayView<float> gate, ArrayView<float> up, ArrayView<float> y)
    {
        for (int i = Lanes.Global; i < rows * columns; i += Lanes.Count)
        {
            int row = i / columns, column = i % columns;
            y[row * yStride + column] = Lanes.GeluTanh(gate[row * gateStride + column]) * up[row * upStride + upOffset + column];
        }
    }

    /// <summary>y[row, yOffset + column] = x[xOffset + row · stride + column] · scale.</summary>
    public static void Copy(int rows, int columns, int xStride, int xOffset, int yStride, int yOffset, float scale, ArrayView<float> x, ArrayView<float> y)
    {
        for (int i = Lanes.Global; i < rows * columns; i += Lanes.Count)
        {
            int row = i / columns, column = i % columns;
            y[row * yStride + yOffset + column] = x[xOffset + row * xStride + column] * scale;
        }
    }

    /// <summary>x = cap · tanh(x / cap).</summary>
    public static void SoftCap(int rows, int columns, int stride, float cap, ArrayView<float> x)
    {
        for (int i = Lanes.Global; i < rows * columns; i += Lanes.Count)
        {
            int at = i / columns * stride + i % columns;
            x[at] = Lanes.SoftCap(x[at], cap);
        }
    }
}
