using System.Collections;
using System.ComponentModel.DataAnnotations;
using System.Globalization;
using System.Reflection;
using System.Text;
using GemmaServer.Compute;

namespace GemmaServer;

/// <summary>Makes <see cref="ServerOptions"/> from command line, environment and file, and says everything that is wrong in one go.</summary>
public static class OptionsReader
{
    private const string Section = "GemmaServer";

    /// <summary>The settings with their flags, in the order of the class.</summary>
    public static IReadOnlyList<(PropertyInfo Property, FlagAttribute Flag)> Settings { get; } =
        [.. from p in typeof(ServerOptions).GetProperties()
            let flag = p.GetCustomAttribute<FlagAttribute>()
            where flag is not null
            orderby p.MetadataToken
            select (p, flag)];

    /// <summary>Reads all settings.</summary>
    /// <param name="commandLine">Flag name (without dashes) → values, only what was given.</param>
    /// <param name="environment">Variables as <see cref="Environment.GetEnvironmentVariables()"/> gives them.</param>
    /// <param name="file">Configuration with a section <c>GemmaServer</c>; names with or without dashes.</param>
    /// <param name="mistakes">Receives one sentence for each mistake.</param>
    public static ServerOptions Read(
        IReadOnlyDictionary<string, string[]> commandLine, IDictionary environment, IConfiguration file, List<string> mistakes)
    {
        Dictionary<string, IConfigurationSection> keys = new(StringComparer.Ordinal);
        foreach (IConfigurationSection key in file.GetSection(Section).GetChildren()) keys[Plain(key.Key)] = key;

        ServerOptions options = new();
        foreach ((PropertyInfo property, FlagAttribute flag) in Settings)
        {
            keys.Remove(Plain(flag.Name), out IConfigurationSection? key);
            bool isList = property.PropertyType == typeof(IReadOnlyList<string>);

            string from;
            string[] values;
            if (commandLine.TryGetValue(flag.Name, out string[]? given))
            {
                (from, values) = ($"--{flag.Name}", given);
            }
            else if (environment[flag.Variable] is string { Length: > 0 } variable)
            {
                (from, values) = (flag.Variable, isList ? variable.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries) : [variable]);
            }
            else if (key is not null)
            {
                (from, values) = ($"{Section}:{key.Key}", key.Value is { } one ? [one] : [.. key.GetChildren().Select(c => c.Value ?? "")]);
            }
            else continue;

            if (isList) property.SetValue(options, values);
            else if (values.Length != 1) mistakes.Add($"{from}: give one value, not {values.Length}.");
            else if (Convert(property, flag, values[0], out object? value) is { } mistake) mistakes.Add($"{from}: {mistake}");
            else property.SetValue(options, value);
        }

        foreach (string unknown in keys.Keys) mistakes.Add($"{Section}:{unknown}: there is no such setting.");
        CheckTogether(options, mistakes);
        return options;
    }

    /// <summary>All settings as flags, one a line; secrets only as "set".</summary>
    public static string Describe(ServerOptions options)
    {
        StringBuilder text = new();
        foreach ((PropertyInfo property, FlagAttribute flag) in Settings)
        {
            object? value = property.GetValue(options);
            string shown = value switch
            {
                null => flag.Secret ? "(none)" : "(auto)",
                Uri uri => uri.GetComponents(UriComponents.HttpRequestUrl, UriFormat.UriEscaped),   // without user and password
                IReadOnlyList<string> { Count: 0 } => "(none)",
                _ when flag.Secret => value is IReadOnlyList<string> keys ? $"({keys.Count} set)" : "(set)",
                IReadOnlyList<string> list => string.Join(", ", list),
                Enum e => e.ToString().ToLowerInvariant(),
                TimeSpan span => $"{span.TotalSeconds.ToString(CultureInfo.InvariantCulture)}s",
                bool b => b ? "true" : "false",
                IFormattable f => f.ToString(null, CultureInfo.InvariantCulture),
                _ => value.ToString() ?? "",
            };
            text.Append("  --").Append(flag.Name.PadRight(24)).Append(shown).Append('\n');
        }
        return text.ToString();
    }

    /// <summary>The words an enumeration setting takes, as typed: <c>q8_0</c>, <c>reasoning-content</c>.</summary>
    public static IEnumerable<string> Words(Type enumType) => Enum.GetNames(enumType).Select(Word);

    private static void CheckTogether(ServerOptions options, List<string> mistakes)
    {
        if (options.ServedModelName.Any(string.IsNullOrWhiteSpace)) mistakes.Add("--served-model-name: a name must not be empty.");
        if (options.ApiKey.Any(string.IsNullOrWhiteSpace)) mistakes.Add("--api-key: a key must not be empty.");
        if (options.AdminKey is not null && options.ApiKey.Contains(options.AdminKey)) mistakes.Add("--admin-key: must differ from every --api-key.");
        if (options.Host != "localhost" && options.Host != "*" && !System.Net.IPAddress.TryParse(options.Host, out _))
            mistakes.Add($"--host: '{options.Host}' is neither an IP address nor 'localhost' or '*'.");
        if (WorkerPlacement.Mistake(options.CpuAffinity) is { } affinity) mistakes.Add($"--cpu-affinity: {affinity}");
        if (DeviceName.Mistake(options.Device) is { } device) mistakes.Add($"--device: {device}");
        if (options.Model is { } model && !File.Exists(model) && !Directory.Exists(model))
            mistakes.Add($"--model: there is no file or folder '{model}'.");
    }

    private static string? Convert(PropertyInfo property, FlagAttribute flag, string text, out object? value)
    {
        Type type = Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType;
        value = null;
        if (type == typeof(string))
        {
            value = text;
        }
        else if (type == typeof(bool))
        {
            if (!TryBool(text, out bool on)) return $"'{text}' is not true or false.";
            value = on;
        }
        else if (type.IsEnum)
        {
            foreach (string name in Enum.GetNames(type))
            {
                if (Plain(name) == Plain(text)) value = Enum.Parse(type, name);
            }
            // What can be automatic or off is a switch too.
            if (value is null && type == typeof(AmxChoice) && TryBool(text, out bool on)) value = on ? AmxChoice.Auto : AmxChoice.Off;
            if (value is null) return $"'{text}' is not one of {string.Join(", ", Words(type))}.";
        }
        else if (type == typeof(Uri))
        {
            if (!Uri.TryCreate(text, UriKind.Absolute, out Uri? uri) || uri.Scheme is not ("http" or "https")) return $"'{text}' is not an http address.";
            value = uri;
        }
        else if (type == typeof(double))
        {
            if (!double.TryParse(text, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double share)) return $"'{text}' is not a number.";
            if (property.GetCustomAttribute<RangeAttribute>() is { } range && (share < (double)range.Minimum || share > (double)range.Maximum))
                return string.Create(CultureInfo.InvariantCulture, $"{text} is not between {range.Minimum} and {range.Maximum}.");
            value = share;
        }
        else if (type == typeof(TimeSpan))
        {
            if (!TrySpan(text, out TimeSpan span)) return $"'{text}' is not a time; write seconds, or 500ms, 30s, 2m.";
            value = span;
        }
        else
        {
            if (!TryInteger(text, flag.Bytes, out Int128 number)) return $"'{text}' is not {(flag.Bytes ? "a number of bytes" : "an integer")}.";
            if (OutOfRange(property, number) is { } mistake) return mistake;
            value = type == typeof(int) ? (object)(int)number : (long)number;
        }
        return value is TimeSpan t ? OutOfRange(property, (Int128)t.TotalSeconds) : null;
    }

    private static string? OutOfRange(PropertyInfo property, Int128 number)
    {
        if (property.GetCustomAttribute<RangeAttribute>() is not { } range) return null;
        Int128 min = Int128.CreateChecked(System.Convert.ToInt64(range.Minimum, CultureInfo.InvariantCulture));
        Int128 max = range.Maximum is double d && d >= long.MaxValue ? long.MaxValue : System.Convert.ToInt64(range.Maximum, CultureInfo.InvariantCulture);
        return number < min || number > max ? $"{number} is not between {min} and {max}." : null;
    }

    private static bool TryBool(string text, out bool value)
    {
        value = text is "1" or "yes" or "on";
        return value || text is "0" or "no" or "off" || bool.TryParse(text, out value);
    }

    private static bool TrySpan(string text, out TimeSpan value)
    {
        (string digits, double unit) = text switch
        {
            _ when text.EndsWith("ms", StringComparison.Ordinal) => (text[..^2], 0.001),
            _ when text.EndsWith('s') => (text[..^1], 1),
            _ when text.EndsWith('m') => (text[..^1], 60),
            _ => (text, 1),
        };
        bool ok = double.TryParse(digits, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double number) && number * unit < 1e9;
        value = ok ? TimeSpan.FromSeconds(number * unit) : default;
        return ok;
    }

    private static bool TryInteger(string text, bool bytes, out Int128 value)
    {
        int shift = !bytes || text.Length == 0 ? 0 : char.ToUpperInvariant(text[^1]) switch { 'K' => 10, 'M' => 20, 'G' => 30, _ => 0 };
        bool ok = Int128.TryParse(shift == 0 ? text : text[..^1], NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out value);
        if (ok && Int128.Abs(value) > long.MaxValue >> shift) ok = false;
        value <<= shift;
        return ok;
    }

    private static string Plain(string name) => name.Replace("-", "").Replace("_", "").ToLowerInvariant();

    // Q8_0 → q8_0, ReasoningContent → reasoning-content, BF16 → bf16
    private static string Word(string name)
    {
        StringBuilder word = new();
        for (int i = 0; i < name.Length; i++)
        {
            if (i > 0 && char.IsUpper(name[i]) && char.IsLower(name[i - 1])) word.Append('-');
            word.Append(char.ToLowerInvariant(name[i]));
        }
        return word.ToString();
    }
}
