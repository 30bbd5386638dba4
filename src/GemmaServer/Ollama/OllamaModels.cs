using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace GemmaServer;

/// <summary>Writes what Ollama's clients learn about models.</summary>
internal static class OllamaModels
{
    private const string Family = "gemma4";

    // As Ollama writes it for a model that is never unloaded.
    private static readonly DateTime s_never = new(2318, 1, 1, 0, 0, 0, DateTimeKind.Utc);

    /// <summary>The served models: all there are, and all of them loaded.</summary>
    public static void WriteList(Utf8JsonWriter json, ServedModel model, bool areRunning)
    {
        json.WriteStartObject();
        json.WriteStartArray("models"u8);
        foreach (string name in model.Names)
        {
            json.WriteStartObject();
            json.WriteString("name"u8, OllamaNames.Tagged(name));
            json.WriteString("model"u8, OllamaNames.Tagged(name));
            json.WriteNumber("size"u8, model.Card?.Bytes ?? 0);
            json.WriteString("digest"u8, Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(model.Fingerprint))));
            WriteDetails(json, model.Card);
            if (areRunning)
            {
                json.WriteString("expires_at"u8, s_never);
                json.WriteNumber("size_vram"u8, 0);
                json.WriteNumber("context_length"u8, model.MaxModelLength);
            }
            else json.WriteString("modified_at"u8, model.Created.UtcDateTime);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteEndObject();
    }

    /// <summary>One model with its parameters and what it can do.</summary>
    public static void WriteOne(Utf8JsonWriter json, ServedModel model, string name)
    {
        json.WriteStartObject();
        json.WriteString("modelfile"u8, $"FROM {name}\n");
        SamplingDefaults sampling = model.Defaults;
        json.WriteString("parameters"u8, string.Create(CultureInfo.InvariantCulture, $"temperature {sampling.Temperature}\ntop_k {sampling.TopK}\ntop_p {sampling.TopP}"));
        json.WriteString("template"u8, "{{ .Prompt }}"u8);      // the real one is built in and is no Go template
        WriteDetails(json, model.Card);
        WriteInfo(json, model);
        json.WriteStartArray("capabilities"u8);
        json.WriteStringValue("completion"u8);
        json.WriteStringValue("tools"u8);
        json.WriteStringValue("thinking"u8);
        json.WriteEndArray();
        json.WriteString("modified_at"u8, model.Created.UtcDateTime);
        json.WriteEndObject();
    }

    private static void WriteDetails(Utf8JsonWriter json, ModelCard? card)
    {
        json.WriteStartObject("details"u8);
        json.WriteString("parent_model"u8, ""u8);
        json.WriteString("format"u8, card?.Format ?? "");
        json.WriteString("family"u8, Family);
        json.WriteStartArray("families"u8);
        json.WriteStringValue(Family);
        json.WriteEndArray();
        json.WriteString("parameter_size"u8, card?.Size ?? "");
        json.WriteString("quantization_level"u8, card?.Quantization ?? "");
        json.WriteEndObject();
    }

    private static void WriteInfo(Utf8JsonWriter json, ServedModel model)
    {
        json.WriteStartObject("model_info"u8);
        json.WriteString("general.architecture"u8, Family);
        json.WriteNumber($"{Family}.context_length", model.MaxModelLength);
        json.WriteNumber($"{Family}.vocab_size", model.VocabularySize);
        if (model.Card is { } card)
        {
            json.WriteNumber("general.parameter_count"u8, card.Parameters);
            json.WriteNumber($"{Family}.block_count", card.Layers);
            json.WriteNumber($"{Family}.embedding_length", card.HiddenSize);
            json.WriteNumber($"{Family}.attention.head_count", card.Heads);
            json.WriteNumber($"{Family}.attention.sliding_window", card.SlidingWindow);
        }
        json.WriteEndObject();
    }
}
