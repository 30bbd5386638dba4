using System.Text.Json.Nodes;

namespace GemmaServer.GoldenTests.Demo;

/// <summary>Requests of every kind that OpenAI's API has, and a few that other servers added to it; each can be streamed as well.</summary>
internal static class OpenAiCorpus
{
    private const string Weather = """
        "name":"get_weather","description":"Get the current weather in a city.",
        "parameters":{"type":"object","properties":{"city":{"type":"string","description":"Name of the city"}},"required":["city"]}
        """;

    private const string StrictWeather = """
        "name":"get_weather","description":"Get the current weather in a city.","strict":true,
        "parameters":{"type":"object","properties":{"city":{"type":"string","maxLength":12},"unit":{"enum":["C","F"]}},"required":["city","unit"],"additionalProperties":false}
        """;

    private const string Schema = """
        {"type":"object","properties":{"city":{"type":"string","maxLength":12},"size":{"type":"integer","minimum":0,"maximum":99},"tags":{"type":"array","items":{"enum":["a","b"]},"maxItems":2}},
         "required":["city","size","tags"],"additionalProperties":false}
        """;

    private const string Format = $$$""" "response_format":{"type":"json_schema","json_schema":{"name":"place","strict":true,"schema":{{{Schema}}}}} """;
    private const string Tools = $$$""" "tools":[{"type":"function","function":{{{{Weather}}}}}] """;
    private const string StrictTools = $$$""" "tools":[{"type":"function","function":{{{{StrictWeather}}}}}] """;
    private const string FlatTools = $$$""" "tools":[{"type":"function",{{{Weather}}}}] """;
    private const string AskOslo = """ "messages":[{"role":"user","content":"What is the weather in Oslo?"}] """;
    private const string AskTwo = """ "messages":[{"role":"user","content":"What is the weather in Oslo and Paris?"}] """;
    private const string Named = """{"type":"function","function":{"name":"get_weather"}}""";

    /// <summary>What chat requests have beside a model, a question, a temperature of 0 and a limit of 60 tokens.</summary>
    public static readonly string[] Chats =
    [
        "",
        """ "n":2,"temperature":1,"seed":3 """,
        """ "logprobs":true,"top_logprobs":4 """,
        """ "n":2,"logprobs":true,"top_logprobs":2,"temperature":1.5,"seed":8,"stop":["."] """,
        """ "max_tokens":2,"logprobs":true """,
        """ "max_completion_tokens":3 """,
        """ "stop":["is"] """,
        """ "stop":"France" """,
        """ "seed":-4,"presence_penalty":1.5,"frequency_penalty":-0.5,"repetition_penalty":1.2,"logit_bias":{"538":-100,"600":5},"temperature":1.2,"top_p":0.8,"top_k":5,"min_p":0.01 """,
        """ "min_tokens":20,"ignore_eos":true,"max_tokens":25 """,
        """ "stop_token_ids":[559],"include_stop_str_in_output":true """,
        """ "return_token_ids":true,"return_tokens_as_token_ids":true,"logprobs":true,"top_logprobs":1 """,
        """ "metrics":true """,
        """ "timings":true """,
        """ "service_tier":"priority","priority":-2 """,
        """ "metadata":{"a":"b"},"service_tier":"auto","store":false,"user":"u","safety_identifier":"s","prompt_cache_key":"k","verbosity":"low","cache_salt":"salt" """,
        """ "prediction":{"type":"content","content":"The capital of France is Paris."} """,
        """ "prediction":{"type":"content","content":[{"type":"text","text":"The capital of "},{"type":"text","text":"Spain is Madrid."}]} """,
        """ "messages":[{"role":"developer","content":"Be brief."},{"role":"user","content":[{"type":"text","text":"Hello"}]}] """,
        """ "messages":[{"role":"user","content":"What is the capital of France?"},{"role":"assistant","content":"The capital of"}],"continue_final_message":true,"add_generation_prompt":false """,

        """ "reasoning_effort":"high","logprobs":true """,
        """ "reasoning_effort":"minimal","include_reasoning":false """,
        """ "enable_thinking":true,"thinking_token_budget":4 """,
        """ "thinking":{"type":"enabled","budget_tokens":8},"max_tokens":5 """,
        """ "reasoning":{"max_tokens":3} """,

        Format,
        Format + """ ,"reasoning_effort":"low","logprobs":true """,
        Format + """ ,"thinking":{"type":"enabled","budget_tokens":6} """,
        Format + """ ,"max_tokens":6 """,
        Format + """ ,"n":2,"temperature":1,"seed":1,"prediction":{"type":"content","content":"{\"city\":\"Paris\",\"size\":7,\"tags\":[]}"} """,
        Format + "," + Tools + "," + AskOslo,
        """ "response_format":{"type":"json_object"} """,
        """ "response_format":{"type":"json_object"},"enable_thinking":true,"thinking_token_budget":5 """,
        """ "response_format":{"type":"text"} """,
        """ "structured_outputs":{"regex":"[A-C]{2,4}-\\d"} """,
        """ "structured_outputs":{"choice":["red","green"]},"logprobs":true,"top_logprobs":2 """,
        """ "grammar":"root ::= \"yes\" | \"no\"" """,

        Tools + "," + AskOslo,
        Tools + "," + AskTwo,
        Tools + "," + AskOslo + """ ,"reasoning_effort":"low" """,
        Tools + """ ,"tool_choice":"none" """,
        Tools + """ ,"tool_choice":"required" """,
        Tools + "," + AskOslo + """ ,"tool_choice":"required","thinking_token_budget":5,"enable_thinking":true """,
        Tools + "," + AskOslo + """ ,"tool_choice":"required","max_tokens":8 """,
        Tools + $$""" ,"tool_choice":{{Named}},"logprobs":true """,
        Tools + $$$""" ,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{{{Named}}}]}} """,
        Tools + $$$""" ,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{{{Named}}}]}} """,
        Tools + "," + AskTwo + """ ,"parallel_tool_calls":false,"tool_choice":"required" """,
        Tools + "," + AskTwo + """ ,"tool_choice":"required","n":2,"temperature":1,"seed":5 """,
        StrictTools + "," + AskOslo,
        StrictTools + """ ,"tool_choice":"required" """,
        Tools + """
             ,"messages":[{"role":"user","content":"What is the weather in Oslo?"},
              {"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"get_weather","arguments":"{\"city\":\"Oslo\"}"}}]},
              {"role":"tool","tool_call_id":"call_1","content":"{\"temperature\": 7, \"condition\": \"rain\"}"}]
            """,
    ];

    /// <summary>Prompts of text completions, in every form.</summary>
    public static readonly string[] Prompts = ["\"The capital of France is\"", "[\"One\",\"Two\"]", "[10,20,30]", "[[10],[20,30]]"];

    /// <summary>What text completions have beside a model, a prompt and a limit of 8 tokens.</summary>
    public static readonly string[] Completions =
    [
        "",
        """ "logprobs":3,"echo":true """,
        """ "n":2,"logprobs":0 """,
        """ "stop":"e" """,
        """ "structured_outputs":{"regex":"[a-c]{3}"} """,
        """ "structured_outputs":{"choice":["red","green"]},"logprobs":2 """,
        $$""" "guided_json":{{Schema}},"max_tokens":40,"n":2,"temperature":1 """,
        """ "max_tokens":0,"echo":true,"logprobs":1 """,
        """ "seed":1,"presence_penalty":1,"logit_bias":{"10":-100},"min_tokens":2,"return_token_ids":true,"user":"u" """,
    ];

    /// <summary>What responses have beside a model, an input, a temperature of 0 and a limit of 60 tokens.</summary>
    public static readonly string[] Responses =
    [
        "",
        """ "reasoning":{"effort":"low","summary":"auto"},"include":["reasoning.encrypted_content"] """,
        """ "include":["message.output_text.logprobs"],"top_logprobs":3 """,
        """ "max_output_tokens":2 """,
        """ "reasoning":{"effort":"low"},"max_output_tokens":4 """,
        """ "input":[{"role":"user","content":[{"type":"input_text","text":"Hi"}]},{"type":"message","role":"developer","content":"Be brief."}],"store":false """,
        """ "service_tier":"priority","parallel_tool_calls":false,"max_tool_calls":2,"prompt_cache_key":"k","safety_identifier":"s","presence_penalty":1,"top_p":0.5 """,
        $$""" "text":{"format":{"type":"json_schema","name":"place","strict":true,"schema":{{Schema}}},"verbosity":"low"} """,
        $$$""" "text":{"format":{"type":"json_schema","name":"place","description":"A place.","schema":{{{Schema}}}}},"reasoning":{"effort":"minimal"},"include":["message.output_text.logprobs"] """,
        $$$""" "text":{"format":{"type":"json_schema","name":"place","schema":{{{Schema}}}}},"max_output_tokens":6 """,
        """ "text":{"format":{"type":"json_object"}} """,
        """ "text":{"format":{"type":"text"}} """,
        FlatTools + """ ,"input":"What is the weather in Oslo?" """,
        FlatTools + """ ,"input":"What is the weather in Oslo and Paris?","parallel_tool_calls":true """,
        FlatTools + """ ,"input":"What is the weather in Oslo and Paris?","parallel_tool_calls":false,"tool_choice":"required" """,
        FlatTools + """ ,"input":"What is the weather in Oslo?","reasoning":{"effort":"medium","summary":"detailed"} """,
        FlatTools + """ ,"tool_choice":"required","max_output_tokens":8 """,
        FlatTools + """ ,"tool_choice":{"type":"function","name":"get_weather"} """,
        FlatTools + """ ,"tool_choice":{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"get_weather"}]} """,
        FlatTools + """ ,"tool_choice":"none","instructions":"Be brief.","metadata":{"a":"b"},"user":"u","truncation":"auto" """,
        $$$""" "tools":[{"type":"function",{{{StrictWeather}}}}],"tool_choice":"required","reasoning":{"effort":"low"} """,
        FlatTools + """
             ,"input":[{"role":"user","content":[{"type":"input_text","text":"What is the weather in Oslo?"}]},
              {"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"I look it up."}]},
              {"type":"function_call","call_id":"call_1","name":"get_weather","arguments":"{\"city\":\"Oslo\"}"},
              {"type":"function_call_output","call_id":"call_1","output":"{\"temperature\": 7, \"condition\": \"rain\"}"}]
            """,
    ];

    /// <summary>Requests that are refused: where they go and what they say.</summary>
    public static readonly (string Path, string Body)[] Refused =
    [
        .. Each("/v1/chat/completions", """ "messages":[{"role":"user","content":"Hi"}] """,
            """ "temperature":3 """, """ "stream":"yes" """, """ "model":"nobody" """, """ "messages":[] """, """ "messages":[{"role":"king","content":"Hi"}] """,
            """ "response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"thing"}}} """,
            """ "response_format":{"type":"json_schema","json_schema":{"schema":{}}} """, """ "response_format":{"type":"xml"} """,
            """ "structured_outputs":{"regex":"("} """, """ "structured_outputs":{"choice":[]} """, """ "grammar":"root ::= other" """,
            Format + """ ,"guided_json":{} """, """ "tool_choice":"required" """, Tools + """ ,"tool_choice":{"type":"function","function":{"name":"other"}} """,
            """ "tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{"properties":{"a":{"$ref":"#/nowhere"}}}}}] """,
            """ "top_logprobs":3 """, """ "continue_final_message":true """, """ "max_tokens":0 """, """ "modalities":["audio"] """, """ "logit_bias":{"x":1} """,
            """ "prediction":{"type":"content"} """, """ "n":1000 """),
        .. Each("/v1/completions", """ "prompt":"x" """, """ "suffix":"y" """, """ "logprobs":100 """, """ "prompt":[-1] """, """ "structured_outputs":{"regex":"[b-a]"} """),
        .. Each("/v1/responses", """ "input":"x" """, """ "input":null """, """ "previous_response_id":"resp_none" """, """ "tools":[{"type":"web_search"}] """,
            """ "text":{"format":{"type":"json_schema","name":"x","schema":{"type":"thing"}}} """, """ "text":{"format":{"type":"json_schema","schema":{}}} """,
            """ "include":["everything"] """, """ "background":true """, FlatTools + """ ,"tool_choice":{"type":"function","name":"other"} """),
    ];

    /// <summary>The members of <paramref name="body"/>, with those of <paramref name="extra"/> in their places.</summary>
    public static JsonObject Merge(string body, string extra)
    {
        JsonObject merged = Parse(body);
        foreach ((string name, JsonNode? value) in Parse(extra)) merged[name] = value?.DeepClone();
        return merged;

        static JsonObject Parse(string members) => JsonNode.Parse("{" + members + "}")!.AsObject();
    }

    private static IEnumerable<(string Path, string Body)> Each(string path, string body, params string[] extras) =>
        extras.Select(extra => (path, Merge(body, extra).ToJsonString()));
}
