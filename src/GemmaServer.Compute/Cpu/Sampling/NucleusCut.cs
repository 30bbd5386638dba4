using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace GemmaServer.Compute;

/// <summary>
/// Where the nucleus of a flat row ends, without sorting the row: weights are summed by buckets of like logits, the bucket that
/// the end falls into is looked at closer, and only its last few tokens are put in order.
/// </summary>
internal sealed class NucleusCut
{
    private const int Buckets = 4096;

    /// <summary>Sorted rather than divided once more.</summary>
    private const int FewTokens = 2048;

    /// <summary>Weights below e^−100 of the best one's end no nucleus: p is at most 1 − 6e-8.</summary>
    private const double Depth = 100;

    private double[] _weightOf = [];   // by token
    private readonly double[] _weights = new double[Buckets];
    private ulong[] _order = new ulong[FewTokens];

    /// <summary>Σ exp(logit/T − best); <see cref="Find"/> goes on with these weights.</summary>
    public double Total(ReadOnlySpan<float> logits, double inverseTemperature, double best)
    {
        if (_weightOf.Length < logits.Length) _weightOf = new double[logits.Length];
        Vector512<double> a = default, b = default;
        int i = 0;
        for (; i + 16 <= logits.Length; i += 16)
        {
            (Vector512<double> low, Vector512<double> high) = Weights(logits.Slice(i, 16), inverseTemperature, best);
            low.CopyTo(_weightOf.AsSpan(i));
            high.CopyTo(_weightOf.AsSpan(i + 8));
            a += low;
            b += high;
        }
        double total = Vector512.Sum(a + b);
        for (; i < logits.Length; i++) total += _weightOf[i] = Math.Exp(logits[i] * inverseTemperature - best);
        return total;
    }

    /// <summary>The last token, best first and the lower id of two equals first, of those whose weights together reach <paramref name="wanted"/>.</summary>
    public (float Logit, int Token) Find(ReadOnlySpan<float> logits, float greatest, double inverseTemperature, double wanted)
    {
        double best = greatest * inverseTemperature, sum = 0;
        (float low, float high) = (Math.Max(float.MinValue, greatest - (float)(Depth / inverseTemperature)), greatest);
        (low, high, int count) = Extent(logits, low, high, 0, 0, 0);
        while (count > FewTokens && low < high)
        {
            float scale = Buckets / (high - low);
            if (!float.IsFinite(scale)) break;      // so near to each other that only sorting tells them apart
            Divide(logits, low, high, scale);
            int bucket = 0;
            while (bucket < Buckets - 1 && sum + _weights[bucket] < wanted) sum += _weights[bucket++];
            (low, high, count) = Extent(logits, low, high, high, scale, bucket);
            if (count == 0) return (float.NegativeInfinity, -1);   // rounding kept the sum below p: all of them
        }
        return low == high ? LastOfEquals(logits, low, inverseTemperature, best, sum, wanted) : LastOfFew(logits, low, high, inverseTemperature, best, sum, wanted);
    }

    private static (Vector512<double> Low, Vector512<double> High) Weights(ReadOnlySpan<float> logits, double inverseTemperature, double best)
    {
        (Vector512<double> low, Vector512<double> high) = Vector512.Widen(Vector512.Create(logits));
        Vector512<double> origin = Vector512.Create(best);
        return (Vector512.Exp(low * inverseTemperature - origin), Vector512.Exp(high * inverseTemperature - origin));
    }

    /// <summary>Falls as the logit rises, and never the other way round by rounding.</summary>
    private static int Bucket(float logit, float high, float scale) => Math.Min(Buckets - 1, (int)((high - logit) * scale));

    private void Divide(ReadOnlySpan<float> logits, float low, float high, float scale)
    {
        Array.Clear(_weights);
        Span<int> buckets = stackalloc int[16];
        Vector512<float> origin = Vector512.Create(high);
        int i = 0;
        for (; i + 16 <= logits.Length; i += 16)
        {
            ReadOnlySpan<float> part = logits.Slice(i, 16);
            Vector512<float> l = Vector512.Create(part);
            ulong isIn = (Vector512.LessThanOrEqual(l, origin) & Vector512.GreaterThanOrEqual(l, Vector512.Create(low))).ExtractMostSignificantBits();
            if (isIn == 0) continue;
            ReadOnlySpan<double> weights = _weightOf.AsSpan(i, 16);
            Vector512.Min(Vector512.Create(Buckets - 1), Vector512.ConvertToInt32((origin - l) * scale)).CopyTo(buckets);
            if (isIn == 0xFFFF)
                for (int lane = 0; lane < 16; lane++) _weights[buckets[lane]] += weights[lane];
            else
                for (; isIn != 0; isIn &= isIn - 1) _weights[buckets[BitOperations.TrailingZeroCount(isIn)]] += weights[BitOperations.TrailingZeroCount(isIn)];
        }
        for (; i < logits.Length; i++)
            if (logits[i] >= low && logits[i] <= high) _weights[Bucket(logits[i], high, scale)] += _weightOf[i];
    }

    /// <summary>Least, greatest and number of the logits in a range that fall into a bucket; a scale of 0 puts all of them into bucket 0.</summary>
    private static (float Low, float High, int Count) Extent(ReadOnlySpan<float> logits, float low, float high, float origin, float scale, int bucket)
    {
        Vector512<float> least = Vector512.Create(float.PositiveInfinity), greatest = Vector512.Create(float.NegativeInfinity);
        Vector512<float> next = Vector512.Create(bucket == Buckets - 1 ? float.PositiveInfinity : bucket + 1);
        int i = 0, count = 0;
        for (; i + 16 <= logits.Length; i += 16)
        {
            Vector512<float> l = Vector512.Create(logits.Slice(i, 16)), place = (Vector512.Create(origin) - l) * scale;
            Vector512<float> isIn = Vector512.GreaterThanOrEqual(l, Vector512.Create(low)) & Vector512.LessThanOrEqual(l, Vector512.Create(high))
                & Vector512.GreaterThanOrEqual(place, Vector512.Create((float)bucket)) & Vector512.LessThan(place, next);
            least = Vector512.MinNative(least, Vector512.ConditionalSelect(isIn, l, least));
            greatest = Vector512.MaxNative(greatest, Vector512.ConditionalSelect(isIn, l, greatest));
            count += BitOperations.PopCount(isIn.ExtractMostSignificantBits());
        }
        (float min, float max) = (float.PositiveInfinity, LogitBlocks.Max(MemoryMarshal.CreateReadOnlySpan(ref Unsafe.As<Vector512<float>, float>(ref greatest), 16)));
        for (int lane = 0; lane < 16; lane++) min = Math.Min(min, least[lane]);
        for (; i < logits.Length; i++)
        {
            if (!(logits[i] >= low && logits[i] <= high) || Bucket(logits[i], origin, scale) != bucket) continue;
            (min, max) = (Math.Min(min, logits[i]), Math.Max(max, logits[i]));
            count++;
        }
        return (min, max, count);
    }

    private static (float Logit, int Token) LastOfEquals(ReadOnlySpan<float> logits, float value, double inverseTemperature, double best, double sum, double wanted)
    {
        double weight = Math.Exp(value * inverseTemperature - best);
        int last = -1;
        for (int token = 0; token < logits.Length; token++)
        {
            if (logits[token] != value) continue;
            last = token;
            sum += weight;
            if (sum >= wanted) break;
        }
        return (value, last);
    }

    private (float Logit, int Token) LastOfFew(ReadOnlySpan<float> logits, float low, float high, double inverseTemperature, double best, double sum, double wanted)
    {
        int count = 0;
        Vector512<float> least = Vector512.Create(low), greatest = Vector512.Create(high);
        for (int token = 0; token < logits.Length; token++)
        {
            while (token + 16 <= logits.Length && Vector512.Create(logits.Slice(token, 16)) is var l
                && Vector512.EqualsAll(Vector512.GreaterThanOrEqual(l, least) & Vector512.LessThanOrEqual(l, greatest), Vector512<float>.Zero)) token += 16;
            if (token == logits.Length) break;
            if (!(logits[token] >= low && logits[token] <= high)) continue;
            if (count == _order.Length) Array.Resize(ref _order, 2 * count);
            _order[count++] = (ulong)~Ordered(logits[token]) << 32 | (uint)token;
        }
        _order.AsSpan(0, count).Sort();
        int last = -1;
        for (int i = 0; i < count; i++)
        {
            last = (int)(uint)_order[i];
            sum += Math.Exp(logits[last] * inverseTemperature - best);
            if (sum >= wanted) break;
        }
        return (logits[last], last);
    }

    /// <summary>Bits that rise with the number; both zeros are one.</summary>
    private static uint Ordered(float x)
    {
        int bits = BitConverter.SingleToInt32Bits(x + 0f);
        return (uint)bits ^ (uint)(bits >> 31 | int.MinValue);
    }
}
