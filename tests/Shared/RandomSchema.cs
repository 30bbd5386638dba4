using System.Globalization;
using System.Text.Json.Nodes;

namespace GemmaServer.Tests;

/// <summary>
/// Random JSON schemas that can be satisfied, from a seed: every keyword that the server follows, alone and together. Validators
/// agree on all of them; what is only approximate in one (formats with options, endless recursion) stays out.
/// </summary>
internal sealed class RandomSchema
{
    private static readonly string[] s_formats = ["date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];
    private static readonly string[] s_patterns = ["^[a-z]{1,8}$", "^[A-Z][a-z]*$", "^\\d{3}-\\d{4}$", "[0-9]", "^(red|green|blue)$", "^[^\"\\\\]{2,5}$", "x+y?$"];
    private static readonly string[] s_names = ["name", "id", "unit price", "größe", "a:b", "tags", "x-1", "kind", "\"q\"", "it's", "value", "{b}", "left", "right", "日本"];

    private readonly Random _random;
    private readonly JsonObject _definitions = [];

    private RandomSchema(int seed) => _random = new(seed);

    /// <summary>The schema of a seed; the same every time.</summary>
    /// <param name="seed">The seed.</param>
    /// <param name="isObject">Whether it must be an object's, as a tool's parameters are.</param>
    public static JsonObject Make(int seed, bool isObject = false)
    {
        RandomSchema maker = new(seed);
        JsonObject schema = isObject || maker.Chance(2) ? maker.Object(3) : maker.Any(3);
        if (maker._definitions.Count > 0) schema["$defs"] = maker._definitions;
        return schema;
    }

    private bool Chance(int oneIn) => _random.Next(oneIn) == 0;

    private T Pick<T>(IReadOnlyList<T> list) => list[_random.Next(list.Count)];

    private JsonObject Any(int depth)
    {
        JsonObject schema = _random.Next(depth > 0 ? 13 : 7) switch
        {
            0 => Text(),
            1 => Integer(),
            2 => Number(),
            3 => new() { ["type"] = "boolean" },
            4 => new() { ["type"] = "null" },
            5 => Listed(),
            6 => Chance(3) ? new() { ["type"] = new JsonArray("string", "integer", "null"), ["maxLength"] = 5, ["minimum"] = 3 } : Text(),
            7 or 8 => Object(depth - 1),
            9 => Array(depth - 1),
            10 => new() { ["anyOf"] = new JsonArray(Any(depth - 1), Any(depth - 1)) },
            11 => Combined(depth - 1),
            _ => Recursive(depth - 1),
        };
        if (Chance(8)) schema["description"] = "What this is.";
        return schema;
    }

    private JsonObject Text()
    {
        JsonObject schema = new() { ["type"] = "string" };
        switch (_random.Next(5))
        {
            case 0: schema["format"] = Pick(s_formats); break;
            case 1: schema["pattern"] = Pick(s_patterns); break;
            case 2:
                int min = _random.Next(4);
                schema["minLength"] = min;
                schema["maxLength"] = min + _random.Next(6);
                break;
            case 3: schema["not"] = new JsonObject { ["enum"] = new JsonArray("", "a") }; break;
        }
        return schema;
    }

    private JsonObject Integer()
    {
        JsonObject schema = new() { ["type"] = "integer" };
        int low = _random.Next(-200, 1000), width = Pick([0, 5, 80, 4000, 100_000]);
        if (Chance(2)) schema[Chance(2) ? "minimum" : "exclusiveMinimum"] = low - 1;
        if (Chance(2)) schema[Chance(2) ? "maximum" : "exclusiveMaximum"] = low + width + 1;
        if (Chance(4) && width > 50) schema["multipleOf"] = Pick([2, 3, 5, 7, 10, 12]);
        return schema;
    }

    private JsonObject Number()
    {
        JsonObject schema = new() { ["type"] = "number" };
        decimal low = _random.Next(-5000, 5000) / Pick([1m, 10m, 1000m]), width = Pick([0.5m, 3m, 12.25m, 1000m]);
        if (Chance(2)) schema[Chance(2) ? "minimum" : "exclusiveMinimum"] = low;
        if (Chance(2)) schema[Chance(2) ? "maximum" : "exclusiveMaximum"] = low + width;
        if (Chance(4)) schema["multipleOf"] = Pick([0.5m, 0.25m, 0.1m, 0.01m]);
        return schema;
    }

    private JsonObject Listed() => Chance(3)
        ? new() { ["const"] = Value(2) }
        : new() { ["enum"] = new JsonArray([.. Enumerable.Range(0, _random.Next(1, 6)).Select(i => (JsonNode?)Word(i)), Value(1)]) };

    private string Word(int i) => $"{Pick(["red", "a \"b\"", "c\\d", "zwölf\n", "<|", "{}", "😀"])}{i}";

    private JsonNode? Value(int depth) => _random.Next(depth > 0 ? 6 : 4) switch
    {
        0 => null,
        1 => _random.Next(100),
        2 => Chance(2),
        3 => Word(9),
        4 => new JsonArray(Value(depth - 1), Value(depth - 1)),
        _ => new JsonObject { [Pick(s_names)] = Value(depth - 1) },
    };

    private JsonObject Object(int depth)
    {
        JsonObject properties = [];
        JsonArray required = [];
        bool isStrict = Chance(2);
        for (int i = _random.Next(5); i > 0; i--)
        {
            string name = Pick(s_names);
            if (!properties.TryAdd(name, Any(depth))) continue;
            if (isStrict || Chance(2)) required.Add(name);
        }
        int count = properties.Count, least = required.Count;
        JsonObject schema = new() { ["type"] = "object" };
        if (count > 0 || Chance(2)) schema["properties"] = properties;
        if (least > 0) schema["required"] = required;
        if (isStrict) schema["additionalProperties"] = false;
        else if (Chance(3)) schema["additionalProperties"] = Any(depth - 1 < 0 ? 0 : depth - 1);
        if (!isStrict && Chance(5)) schema["patternProperties"] = new JsonObject { ["^x_"] = new JsonObject { ["type"] = "integer" } };
        if (!isStrict && least == 0 && Chance(6)) schema["propertyNames"] = new JsonObject { ["pattern"] = "^[a-z_ ]+$" };
        if (Chance(6)) schema["maxProperties"] = Math.Max(least, 1) + _random.Next(3);
        else if (!isStrict && count > 0 && least < 2 && !schema.ContainsKey("propertyNames") && Chance(6)) schema["minProperties"] = 1;
        return schema;
    }

    private JsonObject Array(int depth)
    {
        JsonObject schema = new() { ["type"] = "array" };
        int min = _random.Next(3);
        switch (_random.Next(4))
        {
            case 0:
                schema["prefixItems"] = new JsonArray(Any(depth), Any(depth));
                if (Chance(2)) schema["items"] = false;
                else if (Chance(2)) schema["items"] = Any(depth);
                min = Math.Min(min, 2);
                break;
            case 1:
                schema["items"] = new JsonObject { ["enum"] = new JsonArray("a", "b", 3, null) };
                schema["uniqueItems"] = true;
                break;
            default:
                schema["items"] = Any(depth);
                break;
        }
        if (min > 0) schema["minItems"] = min;
        if (Chance(2)) schema["maxItems"] = min + _random.Next(4);
        return schema;
    }

    /// <summary>Schemas that meet at one value.</summary>
    private JsonObject Combined(int depth)
    {
        switch (_random.Next(5))
        {
            case 0:
                return new() { ["allOf"] = new JsonArray(
                    new JsonObject { ["type"] = "object", ["properties"] = new JsonObject { ["name"] = Any(depth) }, ["required"] = new JsonArray("name") },
                    new JsonObject { ["properties"] = new JsonObject { ["value"] = Any(depth) } }) };
            case 1:
                return new() { ["oneOf"] = new JsonArray(Variant("a", depth), Variant("b", depth), Variant("c", depth)) };
            case 2:
                return new() { ["oneOf"] = new JsonArray(Text(), Number(), Array(depth), new JsonObject { ["type"] = "boolean" }) };
            case 3:
                return new()
                {
                    ["type"] = "object",
                    ["properties"] = new JsonObject { ["kind"] = new JsonObject { ["enum"] = new JsonArray("a", "b") }, ["id"] = new JsonObject { ["type"] = "integer" } },
                    ["required"] = new JsonArray("kind", "id"),
                    ["if"] = new JsonObject { ["properties"] = new JsonObject { ["kind"] = new JsonObject { ["const"] = "a" } } },
                    ["then"] = new JsonObject { ["properties"] = new JsonObject { ["id"] = new JsonObject { ["minimum"] = 10 } } },
                    ["else"] = new JsonObject { ["properties"] = new JsonObject { ["id"] = new JsonObject { ["maximum"] = -10 } } },
                };
            default:
                return new()
                {
                    ["type"] = "object",
                    ["properties"] = new JsonObject { ["left"] = Any(depth), ["right"] = Any(depth), ["id"] = Any(0) },
                    ["anyOf"] = new JsonArray(new JsonObject { ["required"] = new JsonArray("left") }, new JsonObject { ["required"] = new JsonArray("right") }),
                    ["additionalProperties"] = false,
                };
        }
    }

    private JsonObject Variant(string kind, int depth) => new()
    {
        ["type"] = "object",
        ["properties"] = new JsonObject { ["kind"] = new JsonObject { ["const"] = kind }, [Pick(s_names[..4])] = Any(depth) },
        ["required"] = new JsonArray("kind"),
        ["additionalProperties"] = false,
    };

    /// <summary>A list or tree that refers to itself.</summary>
    private JsonObject Recursive(int depth)
    {
        string name = "node" + _definitions.Count.ToString(CultureInfo.InvariantCulture);
        JsonObject self = new() { ["$ref"] = "#/$defs/" + name };
        _definitions[name] = new JsonObject();   // its place, so that the next one has another name
        _definitions[name] = new JsonObject
        {
            ["type"] = "object",
            ["properties"] = new JsonObject
            {
                ["value"] = Any(Math.Min(depth, 0)),
                ["next"] = Chance(2) ? new JsonObject { ["anyOf"] = new JsonArray(self.DeepClone(), new JsonObject { ["type"] = "null" }) }
                    : new JsonObject { ["type"] = "array", ["items"] = self.DeepClone() },
            },
            ["required"] = new JsonArray("value", "next"),
            ["additionalProperties"] = false,
        };
        return self;
    }
}
