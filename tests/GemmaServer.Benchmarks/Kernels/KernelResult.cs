using System.Text.Json.Nodes;
using static GemmaServer.BenchOutput;

namespace GemmaServer.Benchmarks;

/// <summary>What the machine can do at most, measured in the same run.</summary>
/// <param name="Read">Bytes a second of a plain read.</param>
/// <param name="Float">f32 operations a second.</param>
/// <param name="Integer">Byte operations a second.</param>
internal readonly record struct Peaks(double Read, double Float, double Integer);

/// <summary>One kernel in one shape.</summary>
/// <param name="Kernel">Which.</param>
/// <param name="Shape">Of what.</param>
/// <param name="Rows">Rows of the step.</param>
/// <param name="Seconds">Of one run.</param>
/// <param name="Bytes">That it must read; 0 where that says nothing.</param>
/// <param name="Operations">Multiplications and additions; 0 where they are not the point.</param>
/// <param name="IsInteger">Whether the operations are held against the integer peak.</param>
internal readonly record struct KernelResult(string Kernel, string Shape, int Rows, double Seconds, double Bytes, double Operations, bool IsInteger)
{
    /// <summary>Whether it is one of the matrix products, which have a table of their own.</summary>
    public bool IsProduct => Kernel.StartsWith(ProductPrefix, StringComparison.Ordinal);

    public const string ProductPrefix = "product, ";

    public static TextTable Table(IEnumerable<KernelResult> results, Peaks peaks)
    {
        TextTable table = new("kernel", "shape", "rows", "µs", "GB/s", "of read", "GOP/s", "of peak");
        foreach (KernelResult r in results)
        {
            table.Add(r.Kernel, r.Shape, $"{r.Rows}", Short(r.Seconds * 1e6),
                r.Bytes > 0 ? Short(r.Bytes / r.Seconds / 1e9) : "-", r.Bytes > 0 ? Percent(r.ReadShare(peaks)) : "-",
                r.Operations > 0 ? Short(r.Operations / r.Seconds / 1e9) : "-", r.Operations > 0 ? Percent(r.PeakShare(peaks)) : "-");
        }
        return table;
    }

    /// <summary>Products of one matrix in a line: bytes a second for one row, operations a second for more.</summary>
    public static TextTable ProductTable(IReadOnlyList<KernelResult> results, Peaks peaks)
    {
        int[] many = [.. results.Select(static r => r.Rows).Distinct().Where(static n => n > 1)];
        TextTable table = new(["kernel", "shape", "µs, 1 row", "GB/s", "of read", .. many.SelectMany(static n => (string[])[$"GOP/s, {n} rows", "of peak"])]);
        foreach (IGrouping<(string Kernel, string Shape), KernelResult> line in results.GroupBy(static r => (r.Kernel, r.Shape)))
        {
            KernelResult one = line.First(static r => r.Rows == 1);
            table.Add(
            [
                line.Key.Kernel, line.Key.Shape, Short(one.Seconds * 1e6), Short(one.Bytes / one.Seconds / 1e9), Percent(one.ReadShare(peaks)),
                .. many.Select(n => line.First(r => r.Rows == n)).SelectMany(r => (string[])[Short(r.Operations / r.Seconds / 1e9), Percent(r.PeakShare(peaks))]),
            ]);
        }
        return table;
    }

    public JsonObject ToJson(Peaks peaks) => new()
    {
        ["kernel"] = Kernel,
        ["shape"] = Shape,
        ["rows"] = Rows,
        ["microseconds"] = Number(Seconds * 1e6),
        ["gigabytes_per_second"] = Bytes > 0 ? Number(Bytes / Seconds / 1e9) : null,
        ["share_of_read"] = Bytes > 0 ? Number(ReadShare(peaks)) : null,
        ["gigaoperations_per_second"] = Operations > 0 ? Number(Operations / Seconds / 1e9) : null,
        ["share_of_peak"] = Operations > 0 ? Number(PeakShare(peaks)) : null,
    };

    private double ReadShare(Peaks peaks) => Bytes / Seconds / peaks.Read;

    private double PeakShare(Peaks peaks) => Operations / Seconds / (IsInteger ? peaks.Integer : peaks.Float);

    private static string Percent(double share) => double.IsFinite(share) ? $"{Short(100 * share)} %" : "-";
}
