using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace GemmaServer.Compute;

/// <summary>Output += P · V, four queries and 64 elements at a time, the sums in registers.</summary>
/// <remarks>An element is one running sum over the keys in order: the same bits from every kernel here.</remarks>
internal static unsafe class ValueKernels
{
    /// <summary>Elements that a kernel takes at a time.</summary>
    public const int Columns = 64;

    /// <summary>Bytes that a run over so many keys asks for.</summary>
    public static int AheadBytes(int count) => count * 64;

    /// <summary>Adds some keys' values to 64 elements of some queries' outputs; both counts may be any.</summary>
    /// <param name="p">Weights, <c>[queries][stride]</c>.</param>
    /// <param name="stride">Distance of two queries' weights.</param>
    /// <param name="queries">How many.</param>
    /// <param name="values">A pointer per key.</param>
    /// <param name="count">Keys.</param>
    /// <param name="outputs">The elements of the first query's output.</param>
    /// <param name="column">Where they lie in a value.</param>
    /// <param name="outputStride">Distance of two queries' outputs.</param>
    /// <param name="ahead">As in <see cref="ScoreKernels.Run"/>.</param>
    public static void Run(float* p, int stride, int queries, float** values, int count, float* outputs, int column, nint outputStride, byte* ahead)
    {
        if (ahead == null) Run<AskNothing>(p, stride, queries, values, count, outputs, column, outputStride, ahead);
        else Run<AskAhead>(p, stride, queries, values, count, outputs, column, outputStride, ahead);
    }

    private static void Run<TAhead>(float* p, int stride, int queries, float** values, int count, float* outputs, int column, nint outputStride, byte* ahead)
        where TAhead : struct, IAhead
    {
        int i = 0;
        // Sixteen sums need 32 registers.
        if (Vector512.IsHardwareAccelerated && Avx512F.IsSupported)
        {
            for (; i + 4 <= queries; i += 4) Tile4<TAhead>(p + i * stride, stride, values, count, column, outputs + i * outputStride, outputStride, ahead);
            for (; i + 2 <= queries; i += 2) Tile2<TAhead>(p + i * stride, stride, values, count, column, outputs + i * outputStride, outputStride, ahead);
        }
        for (; i < queries; i++) Tile1(p + i * stride, values, count, column, outputs + i * outputStride);
    }

    private static void Tile4<TAhead>(float* p, nint stride, float** values, int count, nint column, float* o, nint outputStride, byte* ahead)
        where TAhead : struct, IAhead
    {
        float* o1 = o + outputStride, o2 = o1 + outputStride, o3 = o2 + outputStride, p1 = p + stride, p2 = p1 + stride, p3 = p2 + stride;
        Vector512<float> s00 = Vector512.Load(o), s01 = Vector512.Load(o + 16), s02 = Vector512.Load(o + 32), s03 = Vector512.Load(o + 48);
        Vector512<float> s10 = Vector512.Load(o1), s11 = Vector512.Load(o1 + 16), s12 = Vector512.Load(o1 + 32), s13 = Vector512.Load(o1 + 48);
        Vector512<float> s20 = Vector512.Load(o2), s21 = Vector512.Load(o2 + 16), s22 = Vector512.Load(o2 + 32), s23 = Vector512.Load(o2 + 48);
        Vector512<float> s30 = Vector512.Load(o3), s31 = Vector512.Load(o3 + 16), s32 = Vector512.Load(o3 + 32), s33 = Vector512.Load(o3 + 48);
        for (nint key = 0; key < count; key++)
        {
            if (TAhead.Ask) Sse.Prefetch1(ahead + key * 64);
            float* v = values[key] + column;
            Vector512<float> v0 = Vector512.Load(v), v1 = Vector512.Load(v + 16), v2 = Vector512.Load(v + 32), v3 = Vector512.Load(v + 48);
            Vector512<float> w = Vector512.Create(p[key]);
            s00 = Vector512.FusedMultiplyAdd(w, v0, s00);
            s01 = Vector512.FusedMultiplyAdd(w, v1, s01);
            s02 = Vector512.FusedMultiplyAdd(w, v2, s02);
            s03 = Vector512.FusedMultiplyAdd(w, v3, s03);
            w = Vector512.Create(p1[key]);
            s10 = Vector512.FusedMultiplyAdd(w, v0, s10);
            s11 = Vector512.FusedMultiplyAdd(w, v1, s11);
            s12 = Vector512.FusedMultiplyAdd(w, v2, s12);
            s13 = Vector512.FusedMultiplyAdd(w, v3, s13);
            w = Vector512.Create(p2[key]);
            s20 = Vector512.FusedMultiplyAdd(w, v0, s20);
            s21 = Vector512.FusedMultiplyAdd(w, v1, s21);
            s22 = Vector512.FusedMultiplyAdd(w, v2, s22);
            s23 = Vector512.FusedMultiplyAdd(w, v3, s23);
            w = Vector512.Create(p3[key]);
            s30 = Vector512.FusedMultiplyAdd(w, v0, s30);
            s31 = Vector512.FusedMultiplyAdd(w, v1, s31);
            s32 = Vector512.FusedMultiplyAdd(w, v2, s32);
            s33 = Vector512.FusedMultiplyAdd(w, v3, s33);
        }
        Store(o, s00, s01, s02, s03);
        Store(o1, s10, s11, s12, s13);
        Store(o2, s20, s21, s22, s23);
        Store(o3, s30, s31, s32, s33);
    }

    private static void Tile2<TAhead>(float* p, nint stride, float** values, int count, nint column, float* o, nint outputStride, byte* ahead)
        where TAhead : struct, IAhead
    {
        float* o1 = o + outputStride, p1 = p + stride;
        Vector512<float> s00 = Vector512.Load(o), s01 = Vector512.Load(o + 16), s02 = Vector512.Load(o + 32), s03 = Vector512.Load(o + 48);
        Vector512<float> s10 = Vector512.Load(o1), s11 = Vector512.Load(o1 + 16), s12 = Vector512.Load(o1 + 32), s13 = Vector512.Load(o1 + 48);
        for (nint key = 0; key < count; key++)
        {
            if (TAhead.Ask) Sse.Prefetch1(ahead + key * 64);
            float* v = values[key] + column;
            Vector512<float> v0 = Vector512.Load(v), v1 = Vector512.Load(v + 16), v2 = Vector512.Load(v + 32), v3 = Vector512.Load(v + 48);
            Vector512<float> w = Vector512.Create(p[key]);
            s00 = Vector512.FusedMultiplyAdd(w, v0, s00);
            s01 = Vector512.FusedMultiplyAdd(w, v1, s01);
            s02 = Vector512.FusedMultiplyAdd(w, v2, s02);
            s03 = Vector512.FusedMultiplyAdd(w, v3, s03);
            w = Vector512.Create(p1[key]);
            s10 = Vector512.FusedMultiplyAdd(w, v0, s10);
            s11 = Vector512.FusedMultiplyAdd(w, v1, s11);
            s12 = Vector512.FusedMultiplyAdd(w, v2, s12);
            s13 = Vector512.FusedMultiplyAdd(w, v3, s13);
        }
        Store(o, s00, s01, s02, s03);
        Store(o1, s10, s11, s12, s13);
    }

    private static void Tile1(float* p, float** values, int count, nint column, float* o)
    {
        Vector512<float> s0 = Vector512.Load(o), s1 = Vector512.Load(o + 16), s2 = Vector512.Load(o + 32), s3 = Vector512.Load(o + 48);
        for (nint key = 0; key < count; key++)
        {
            float* v = values[key] + column;
            Vector512<float> w = Vector512.Create(p[key]);
            s0 = Vector512.FusedMultiplyAdd(w, Vector512.Load(v), s0);
            s1 = Vector512.FusedMultiplyAdd(w, Vector512.Load(v + 16), s1);
            s2 = Vector512.FusedMultiplyAdd(w, Vector512.Load(v + 32), s2);
            s3 = Vector512.FusedMultiplyAdd(w, Vector512.Load(v + 48), s3);
        }
        Store(o, s0, s1, s2, s3);
    }

    private static void Store(float* o, Vector512<float> s0, Vector512<float> s1, Vector512<float> s2, Vector512<float> s3)
    {
        s0.Store(o);
        s1.Store(o + 16);
        s2.Store(o + 32);
        s3.Store(o + 48);
    }
}
