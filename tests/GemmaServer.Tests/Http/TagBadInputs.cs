namespace GemmaServer.Tests.Http;

/// <summary>Structural tags that must be refused, in both forms; part of the one table.</summary>
internal static class TagBadInputs
{
    private const string Missing = "missing_required_parameter", Type = "invalid_type", Value = "invalid_value";

    /// <summary>A format that is wrong, how, and where in it.</summary>
    private static readonly (string Format, string Code, string Param)[] s_formats =
    [
        ("5", Type, ""), ("{}", Missing, ".type"), ("{\"type\":\"any\"}", Value, ".type"), ("{\"type\":\"token\",\"token\":5}", "unsupported_value", ".type"),
        ("{\"type\":\"const_string\"}", Missing, ".value"), ("{\"type\":\"const_string\",\"value\":5}", Type, ".value"),
        ("{\"type\":\"json_schema\"}", Missing, ".json_schema"), ("{\"type\":\"json_schema\",\"json_schema\":[]}", Type, ".json_schema"),
        ("{\"type\":\"json_schema\",\"json_schema\":{\"$ref\":\"#/x\"}}", Value, ".json_schema"), ("{\"type\":\"json_schema\",\"json_schema\":{},\"style\":\"qwen_xml\"}", "unsupported_value", ".style"),
        ("{\"type\":\"regex\",\"pattern\":\"(\"}", Value, ".pattern"), ("{\"type\":\"regex\",\"pattern\":\"\"}", "empty_string", ".pattern"),
        ("{\"type\":\"grammar\",\"grammar\":\"root ::= x\"}", Value, ".grammar"), ("{\"type\":\"any_text\",\"excludes\":[\"\"]}", "empty_string", ".excludes[0]"),
        ("{\"type\":\"any_text\",\"max_tokens\":5}", "unsupported_parameter", ".max_tokens"), ("{\"type\":\"sequence\"}", Missing, ".elements"),
        ("{\"type\":\"sequence\",\"elements\":[]}", "empty_array", ".elements"), ("{\"type\":\"or\",\"elements\":[{\"type\":\"any_text\"},5]}", Type, ".elements[1]"),
        ("{\"type\":\"or\",\"elements\":[{\"type\":\"any_text\"},{\"type\":\"or\",\"elements\":[{\"type\":\"regex\",\"pattern\":5}]}]}", Type, ".elements[1].elements[0].pattern"),
        ("{\"type\":\"repeat\",\"min\":2,\"max\":1,\"content\":{\"type\":\"any_text\"}}", Value, ".max"), ("{\"type\":\"repeat\",\"min\":2,\"content\":{\"type\":\"any_text\"}}", Missing, ".max"),
        ("{\"type\":\"tag\",\"content\":{\"type\":\"any_text\"},\"end\":\"\"}", Missing, ".begin"), ("{\"type\":\"tag\",\"begin\":\"a\",\"end\":\"\"}", Missing, ".content"),
        ("{\"type\":\"tag\",\"begin\":\"a\",\"content\":{\"type\":\"any_text\"}}", Missing, ".end"), ("{\"type\":\"tag\",\"begin\":\"a\",\"content\":{\"type\":\"any_text\"},\"end\":[\"b\",5]}", Type, ".end[1]"),
        ("{\"type\":\"triggered_tags\",\"triggers\":[\"<a\"]}", Missing, ".tags"), ("{\"type\":\"triggered_tags\",\"tags\":[{\"begin\":\"<a\",\"content\":{\"type\":\"any_text\"},\"end\":\">\"}]}", Missing, ".triggers"),
        ("{\"type\":\"triggered_tags\",\"triggers\":[\"<b\"],\"tags\":[{\"begin\":\"<a\",\"content\":{\"type\":\"any_text\"},\"end\":\">\"}]}", Value, ".tags[0].begin"),
        ("{\"type\":\"triggered_tags\",\"triggers\":[\"<\",\"<a\"],\"tags\":[{\"begin\":\"<a\",\"content\":{\"type\":\"any_text\"},\"end\":\">\"}]}", Value, ".tags[0].begin"),
        ("{\"type\":\"tags_with_separator\",\"tags\":[{\"type\":\"any_text\"}],\"separator\":\",\"}", Value, ".tags[0].type"),
        ("{\"type\":\"tags_with_separator\",\"tags\":[{\"begin\":\"<a\",\"content\":{\"type\":\"any_text\"},\"end\":\">\"}]}", Missing, ".separator"),
    ];

    public static IEnumerable<BadInput> All
    {
        get
        {
            foreach ((string format, string code, string param) in s_formats)
            {
                yield return BadInputs.Field($"\"response_format\":{{\"type\":\"structural_tag\",\"format\":{format}}}", code, "response_format.format" + param);
                yield return BadInputs.Field($"\"structured_outputs\":{{\"structural_tag\":{{\"type\":\"structural_tag\",\"format\":{format}}}}}", code, "structured_outputs.structural_tag.format" + param);
            }
            yield return BadInputs.Field("\"response_format\":{\"type\":\"structural_tag\"}", Missing, "response_format.format");
            yield return BadInputs.Field("\"response_format\":{\"type\":\"structural_tag\",\"structures\":[]}", "empty_array", "response_format.structures");
            yield return BadInputs.Field("\"response_format\":{\"type\":\"structural_tag\",\"triggers\":[\"<\"]}", Missing, "response_format.structures");
            yield return BadInputs.Field("\"response_format\":{\"type\":\"structural_tag\",\"structures\":[{\"begin\":\"<a>\",\"end\":\"</a>\"}]}", Missing, "response_format.triggers");
            yield return BadInputs.Field("\"response_format\":{\"type\":\"structural_tag\",\"structures\":[{\"begin\":\"<a>\",\"end\":\"</a>\"}],\"triggers\":[]}", "empty_array", "response_format.triggers");
            yield return BadInputs.Field("\"response_format\":{\"type\":\"structural_tag\",\"structures\":[{\"begin\":\"<a>\",\"schema\":5,\"end\":\"</a>\"}],\"triggers\":[\"<\"]}", Type, "response_format.structures[0].schema");
            yield return BadInputs.Field("\"response_format\":{\"type\":\"structural_tag\",\"structures\":[{\"begin\":\"<a>\",\"end\":\"</a>\"},{\"begin\":\"a\",\"end\":\"\"}],\"triggers\":[\"<\"]}", Value, "response_format.structures[1].begin");
            yield return BadInputs.Field("\"structured_outputs\":{\"structural_tag\":5}", Type, "structured_outputs.structural_tag");
            yield return BadInputs.Field("\"structured_outputs\":{\"structural_tag\":{\"type\":\"tag\"}}", Value, "structured_outputs.structural_tag.type");
            string deep = string.Concat(Enumerable.Repeat("{\"type\":\"star\",\"content\":", 32)) + "{\"type\":\"any_text\"}" + new string('}', 32);
            yield return BadInputs.Field($"\"response_format\":{{\"type\":\"structural_tag\",\"format\":{deep}}}", Value, "response_format.format" + string.Concat(Enumerable.Repeat(".content", 32)));
        }
    }
}
