using System.Diagnostics.Metrics;
using System.Globalization;
using System.Text;

namespace GemmaServer;

/// <summary>
/// Listens to one meter and writes what it saw as Prometheus text (format 0.0.4). Instruments <c>gemmaserver.x</c> appear as
/// <c>gemmaserver_x</c>, and those vLLM has too as <c>vllm:x</c>, which gateways and autoscalers read.
/// </summary>
internal sealed class PrometheusExporter : IDisposable
{
    public const string ContentType = "text/plain; version=0.0.4; charset=utf-8";

    private const string Prefix = "gemmaserver.";

    private static readonly HashSet<string> AlsoVllm =
    [
        "num_requests_running", "num_requests_waiting", "kv_cache_usage_perc", "cache_config_info", "prompt_tokens", "generation_tokens",
        "num_preemptions", "spec_decode_num_drafts", "spec_decode_num_draft_tokens", "spec_decode_num_accepted_tokens",
        "prefix_cache_queries", "prefix_cache_hits", "admission_rejections", "request_success", "time_to_first_token",
        "inter_token_latency", "request_time_per_output_token", "e2e_request_latency", "request_queue_time", "request_inference_time",
        "request_prefill_time", "request_decode_time", "request_prompt_tokens", "request_generation_tokens", "request_params_n",
        "request_params_max_tokens",
    ];

    private readonly MeterListener _listener = new();
    private readonly Meter _meter;
    private readonly List<Family> _families = [];
    private readonly Lock _lock = new();
    private string _constantLabels = "";

    public PrometheusExporter(Meter meter)
    {
        _meter = meter;
        _listener.InstrumentPublished = Published;
        _listener.SetMeasurementEventCallback<long>(static (_, value, tags, state) => ((Family)state!).Take(value, tags));
        _listener.SetMeasurementEventCallback<double>(static (_, value, tags, state) => ((Family)state!).Take(value, tags));
        _listener.Start();
    }

    /// <summary>Labels that every sample carries.</summary>
    public void SetConstantLabels(IEnumerable<KeyValuePair<string, string>> labels) =>
        _constantLabels = string.Join(',', labels.Select(static l => Label(l.Key, l.Value)));

    /// <summary>Everything so far.</summary>
    public string Write()
    {
        _listener.RecordObservableInstruments();
        StringBuilder text = new();
        lock (_lock)
        {
            foreach (Family family in _families)
            {
                family.Write(text, "gemmaserver_" + family.Name, _constantLabels);
                if (AlsoVllm.Contains(family.ShortName)) family.Write(text, "vllm:" + family.Name, _constantLabels);
            }
        }
        return text.ToString();
    }

    public void Dispose() => _listener.Dispose();

    private void Published(Instrument instrument, MeterListener listener)
    {
        if (instrument.Meter != _meter || !instrument.Name.StartsWith(Prefix, StringComparison.Ordinal)) return;
        Family family = new(instrument, instrument.Name[Prefix.Length..]);
        lock (_lock) _families.Add(family);
        listener.EnableMeasurementEvents(instrument, family);
    }

    private static string Label(string name, string value) =>
        $"{name}=\"{value.Replace("\\", "\\\\").Replace("\"", "\\\"").Replace("\n", "\\n")}\"";

    /// <summary>One instrument and its series.</summary>
    private sealed class Family
    {
        private readonly string _type;
        private readonly string _help;
        private readonly bool _isObserved;
        private readonly double[] _bounds = [];
        private readonly List<Series> _series = [];
        private readonly Lock _lock = new();

        public Family(Instrument instrument, string shortName)
        {
            ShortName = shortName;
            _help = instrument.Description ?? shortName;
            _isObserved = instrument.IsObservable;
            _type = instrument switch
            {
                Counter<long> or ObservableCounter<long> or ObservableCounter<double> => "counter",
                Histogram<long> or Histogram<double> => "histogram",
                _ => "gauge",
            };
            if (instrument is Histogram<double> { Advice.HistogramBucketBoundaries: { } d }) _bounds = [.. d];
            if (instrument is Histogram<long> { Advice.HistogramBucketBoundaries: { } l }) _bounds = [.. l.Select(static b => (double)b)];
            Name = shortName + (instrument.Unit == "s" ? "_seconds" : "") + (_type == "counter" ? "_total" : "");
            // A family without labels of its own exists from the start, at zero.
            if (_type == "histogram") _series.Add(new Series([], _bounds.Length + 1));
        }

        public string ShortName { get; }

        public string Name { get; }

        public void Take(double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
        {
            lock (_lock)
            {
                Series series = Find(tags);
                if (_type == "histogram")
                {
                    int bucket = 0;
                    while (bucket < _bounds.Length && value > _bounds[bucket]) bucket++;
                    series.Buckets[bucket]++;
                    series.Count++;
                    series.Value += value;
                }
                else if (_isObserved) series.Value = value;
                else series.Value += value;
            }
        }

        public void Write(StringBuilder text, string name, string constant)
        {
            text.Append("# HELP ").Append(name).Append(' ').Append(_help).Append('\n');
            text.Append("# TYPE ").Append(name).Append(' ').Append(_type).Append('\n');
            lock (_lock)
            {
                foreach (Series series in _series)
                {
                    string labels = string.Join(',', new[] { constant, series.Labels }.Where(static l => l.Length > 0));
                    if (_type == "histogram") WriteHistogram(text, name, labels, series);
                    else Sample(text, name, labels, series.Value);
                }
            }
        }

        private void WriteHistogram(StringBuilder text, string name, string labels, Series series)
        {
            string comma = labels.Length > 0 ? "," : "";
            long below = 0;
            for (int i = 0; i < series.Buckets.Length; i++)
            {
                below += series.Buckets[i];
                string bound = i < _bounds.Length ? _bounds[i].ToString(CultureInfo.InvariantCulture) : "+Inf";
                Sample(text, name + "_bucket", $"{labels}{comma}le=\"{bound}\"", below);
            }
            Sample(text, name + "_sum", labels, series.Value);
            Sample(text, name + "_count", labels, series.Count);
        }

        private static void Sample(StringBuilder text, string name, string labels, double value)
        {
            text.Append(name);
            if (labels.Length > 0) text.Append('{').Append(labels).Append('}');
            text.Append(' ').Append(value.ToString(CultureInfo.InvariantCulture)).Append('\n');
        }

        private Series Find(ReadOnlySpan<KeyValuePair<string, object?>> tags)
        {
            foreach (Series series in _series)
            {
                if (series.Has(tags)) return series;
            }
            Series added = new(tags.ToArray(), _bounds.Length + 1);
            _series.Add(added);
            return added;
        }
    }

    private sealed class Series(KeyValuePair<string, object?>[] tags, int buckets)
    {
        public readonly long[] Buckets = new long[buckets];
        public long Count;
        public double Value;

        public string Labels { get; } = string.Join(',', tags.Select(static t => Label(t.Key, t.Value?.ToString() ?? "")));

        public bool Has(ReadOnlySpan<KeyValuePair<string, object?>> other)
        {
            if (other.Length != tags.Length) return false;
            for (int i = 0; i < tags.Length; i++)
            {
                if (tags[i].Key != other[i].Key || !Equals(tags[i].Value, other[i].Value)) return false;
            }
            return true;
        }
    }
}
