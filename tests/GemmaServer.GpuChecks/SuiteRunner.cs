using System.Diagnostics;
using System.Reflection;
using System.Text.Json.Nodes;
using Xunit.Abstractions;
using Xunit.Sdk;

namespace GemmaServer.GpuChecks;

/// <summary>Runs the theories of this assembly that take a device's name, for one device: as much of a test runner as that needs.</summary>
/// <param name="device">As the tests name it.</param>
/// <param name="deadline">What has not begun by then is left out, and said to be.</param>
internal sealed class SuiteRunner(string device, DateTime deadline)
{
    /// <summary>Runs every suite under a namespace.</summary>
    public JsonObject Run(string ofNamespace)
    {
        (int passed, int failed, int leftOut) = (0, 0, 0);
        JsonArray cases = [];
        long start = Stopwatch.GetTimestamp();
        foreach (Type suite in typeof(SuiteRunner).Assembly.GetTypes().Where(t => t.Namespace == ofNamespace).OrderBy(static t => t.Name, StringComparer.Ordinal))
        {
            foreach (MethodInfo method in suite.GetMethods().Where(static m => m.GetCustomAttribute<TheoryAttribute>() is not null))
            {
                foreach (object[] row in method.GetCustomAttributes<DataAttribute>().SelectMany(d => d.GetData(method)).Where(r => r.Contains(device)))
                {
                    string name = $"{suite.Name}.{method.Name}({string.Join(", ", row)})";
                    if (DateTime.UtcNow > deadline || method.GetCustomAttribute<TheoryAttribute>()!.Skip is not null)
                    {
                        leftOut++;
                        cases.Add((JsonNode)new JsonObject { ["name"] = name, ["result"] = "left out" });
                        continue;
                    }
                    long began = Stopwatch.GetTimestamp();
                    string? error = RunCase(suite, method, row);
                    double seconds = Stopwatch.GetElapsedTime(began).TotalSeconds;
                    Console.Error.WriteLine($"{(error is null ? "passed" : "FAILED")} {seconds,7:0.00} s  {name}{(error is null ? "" : "\n    " + error)}");
                    if (error is null) passed++;
                    else failed++;
                    cases.Add((JsonNode)new JsonObject { ["name"] = name, ["result"] = error is null ? "passed" : "failed", ["error"] = error, ["seconds"] = Math.Round(seconds, 3) });
                }
            }
        }
        return new JsonObject
        {
            ["passed"] = passed, ["failed"] = failed, ["left_out"] = leftOut, ["seconds"] = Math.Round(Stopwatch.GetElapsedTime(start).TotalSeconds, 1), ["cases"] = cases,
        };
    }

    private static string? RunCase(Type suite, MethodInfo method, object[] row)
    {
        object? instance = null;
        try
        {
            bool takesOutput = suite.GetConstructors()[0].GetParameters().Length == 1;
            instance = takesOutput ? Activator.CreateInstance(suite, new Silent()) : Activator.CreateInstance(suite);
            if (method.Invoke(instance, Whole(method, row)) is Task task) task.GetAwaiter().GetResult();
            return null;
        }
        catch (Exception e)
        {
            Exception cause = e is TargetInvocationException { InnerException: { } inner } ? inner : e;
            return $"{cause.GetType().Name}: {cause.Message}";
        }
        finally
        {
            (instance as IDisposable)?.Dispose();
        }
    }

    /// <summary>With the default values of parameters that the row leaves out.</summary>
    private static object?[] Whole(MethodInfo method, object[] row) => [.. row, .. method.GetParameters().Skip(row.Length).Select(static p => p.DefaultValue)];

    private sealed class Silent : ITestOutputHelper
    {
        public void WriteLine(string message)
        {
        }

        public void WriteLine(string format, params object[] args)
        {
        }
    }
}
