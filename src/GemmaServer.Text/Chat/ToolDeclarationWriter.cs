namespace GemmaServer.Text;

/// <summary>
/// Writes a tool's declaration as the canonical template does, including what it drops and where it forgets a brace: the model
/// was trained on exactly these bytes (gemma4-chat.md, 3.1).
/// </summary>
internal static class ToolDeclarationWriter
{
    /// <summary>Schema keywords that are not shown as properties of an OBJECT without <c>properties</c>.</summary>
    private static readonly string[] s_keywords = ["description", "type", "properties", "required", "nullable"];

    public static void Declaration(PromptWriter writer, ChatValue tool)
    {
        if (tool["function"] is not { Kind: ChatValueKind.Map } function)
            throw new ChatTemplateException("A tool needs a 'function' object.");

        writer.Text("declaration:");
        writer.Text(Printed(function["name"]));
        writer.Text("{description:");
        writer.Quoted(Printed(function["description"]));
        if (function["parameters"] is { IsTruthy: true } parameters) Parameters(writer, parameters);
        if (function["response"] is { } response) Response(writer, response);
        writer.Text("}");
    }

    private static void Parameters(PromptWriter writer, ChatValue parameters)
    {
        writer.Text(",parameters:{");
        if (parameters["properties"] is { IsTruthy: true } properties)
        {
            writer.Text("properties:{");
            Properties(writer, properties, hideKeywords: false);
            writer.Text("},");
        }
        if (parameters["required"] is { IsTruthy: true } required)
        {
            Required(writer, required);
            writer.Text(",");
        }
        if (parameters["type"] is { IsTruthy: true } type)
        {
            Type(writer, type);
            writer.Text("}");   // without a type the template leaves the brace out
        }
    }

    private static void Response(PromptWriter writer, ChatValue response)
    {
        writer.Text(",response:{");
        if (response["description"] is { IsTruthy: true } description)
        {
            writer.Text("description:");
            writer.Quoted(description.ToString());
            writer.Text(",");
        }
        if (UpperType(response) == "OBJECT")
        {
            Type(writer, response["type"]);
            writer.Text("}");
        }
    }

    private static void Properties(PromptWriter writer, ChatValue properties, bool hideKeywords)
    {
        bool first = true;
        foreach ((string key, ChatValue schema) in ValueWriter.Sorted(properties))
        {
            if (hideKeywords && s_keywords.Contains(key)) continue;
            if (!first) writer.Text(",");
            first = false;
            writer.Text(key);
            writer.Text(":{");
            Property(writer, schema);
            writer.Text("}");
        }
    }

    /// <summary>One property's schema: description, enum or items, nullable, properties and required, type.</summary>
    private static void Property(PromptWriter writer, ChatValue schema)
    {
        string type = UpperType(schema);
        if (schema["description"] is { IsTruthy: true } description)
        {
            writer.Text("description:");
            writer.Quoted(description.ToString());
            writer.Text(",");
        }
        if (type == "STRING" && schema["enum"] is { IsTruthy: true } values)
        {
            writer.Text("enum:");
            ValueWriter.Value(writer, values, quoteKeys: true);
            writer.Text(",");
        }
        if (type == "ARRAY" && schema["items"] is { Kind: ChatValueKind.Map, IsTruthy: true } items)
        {
            writer.Text("items:{");
            Items(writer, items);
            writer.Text("},");
        }
        if (schema["nullable"] is { IsTruthy: true }) writer.Text("nullable:true,");
        if (type == "OBJECT") ObjectMembers(writer, schema);
        Type(writer, schema["type"]);
    }

    private static void ObjectMembers(PromptWriter writer, ChatValue schema)
    {
        writer.Text("properties:{");
        if (schema["properties"] is { Kind: ChatValueKind.Map } properties) Properties(writer, properties, hideKeywords: false);
        else Properties(writer, schema, hideKeywords: true);
        writer.Text("},");
        if (schema["required"] is { IsTruthy: true } required)
        {
            Required(writer, required);
            writer.Text(",");
        }
    }

    /// <summary>An array's element schema: every keyword, sorted; unlike a property, nothing is dropped but nulls.</summary>
    private static void Items(PromptWriter writer, ChatValue items)
    {
        bool first = true;
        foreach ((string key, ChatValue value) in ValueWriter.Sorted(items))
        {
            if (value.Kind == ChatValueKind.Null) continue;
            if (!first) writer.Text(",");
            first = false;
            switch (key)
            {
                case "properties":
                    writer.Text("properties:{");
                    if (value.Kind == ChatValueKind.Map) Properties(writer, value, hideKeywords: false);
                    writer.Text("}");
                    break;
                case "required":
                    Required(writer, value);
                    break;
                case "type" when value.Kind == ChatValueKind.String:
                    Type(writer, value);
                    break;
                case "type":
                    writer.Text("type:");
                    WriteList(writer, ValueWriter.Iterate(value).Select(PythonText.Upper));
                    break;
                default:
                    writer.Text(key);
                    writer.Text(":");
                    ValueWriter.Value(writer, value, quoteKeys: true);
                    break;
            }
        }
    }

    private static void Required(PromptWriter writer, ChatValue required)
    {
        writer.Text("required:");
        WriteList(writer, ValueWriter.Iterate(required));
    }

    private static void WriteList(PromptWriter writer, IEnumerable<string> items)
    {
        writer.Text("[");
        bool first = true;
        foreach (string item in items)
        {
            if (!first) writer.Text(",");
            first = false;
            writer.Quoted(item);
        }
        writer.Text("]");
    }

    private static void Type(PromptWriter writer, ChatValue? type)
    {
        writer.Text("type:");
        writer.Quoted(PythonText.Upper(Printed(type)));
    }

    /// <summary>A type list is upper-cased as Python prints it, <c>['STRING', 'NULL']</c>; no type is empty.</summary>
    private static string UpperType(ChatValue schema) => PythonText.Upper(Printed(schema["type"]));

    private static string Printed(ChatValue? value) => value?.ToString() ?? "";
}
