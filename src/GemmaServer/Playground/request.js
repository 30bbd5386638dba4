// From a conversation and its settings to the body of POST /v1/chat/completions, and to a command that sends the same.

/** A tool to try things with; the demo model knows it. */
export const SAMPLE_TOOL = JSON.stringify([{
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'Get the current weather in a city.',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
}], null, 2);

/** Reads the tools field: an array of tools, or one tool, or bare functions. Throws an Error that can be shown. */
export function readTools(text) {
  if (!text.trim()) return [];
  let tools;
  try {
    tools = JSON.parse(text);
  } catch (e) {
    throw new Error(`This is not JSON: ${e.message}`);
  }
  return (Array.isArray(tools) ? tools : [tools]).map((tool, i) => {
    const whole = tool?.function ? tool : { type: 'function', function: tool };
    if (typeof whole.function?.name !== 'string') throw new Error(`Tool ${i + 1} has no function name.`);
    return whole;
  });
}

/** The body for an answer to these messages. */
export function requestOf(messages, model, settings) {
  const body = { model, messages: wire(messages, settings.system), stream: true, stream_options: { include_usage: true, continuous_usage_stats: true } };
  const number = (name, text) => {
    if (text !== '' && text !== undefined) body[name] = Number(text);
  };
  number('temperature', settings.temperature);
  number('top_p', settings.topP);
  number('top_k', settings.topK);
  number('max_completion_tokens', settings.maxTokens);
  number('seed', settings.seed);
  const stop = (settings.stop ?? '').split('\n').filter(line => line !== '');
  if (stop.length > 0) body.stop = stop;
  if (settings.thinking) body.chat_template_kwargs = { enable_thinking: true };
  const tools = readTools(settings.tools ?? '');
  if (tools.length > 0) body.tools = tools;
  return body;
}

/** Messages as the API has them; what only the page knows (times, errors) stays here. */
export function wire(messages, system) {
  const out = system?.trim() ? [{ role: 'system', content: system }] : [];
  for (const message of messages) {
    if (message.role !== 'assistant') {
      const { role, content, tool_call_id } = message;
      out.push(tool_call_id ? { role, tool_call_id, content } : { role, content });
      continue;
    }
    const calls = message.toolCalls ?? [];
    if (!message.content && calls.length === 0) continue;     // an answer that failed says nothing
    const sent = { role: 'assistant', content: message.content || null };
    if (message.reasoning) sent.reasoning_content = message.reasoning;
    if (calls.length > 0) sent.tool_calls = calls.map(({ id, name, args }) => ({ id, type: 'function', function: { name, arguments: args } }));
    out.push(sent);
  }
  return out;
}

/** A shell command that asks the same; the key stays a variable. */
export function curlOf(body, url, hasKey) {
  const quoted = JSON.stringify(body, null, 2).replaceAll("'", "'\\''");
  const key = hasKey ? ' \\\n  -H "Authorization: Bearer $API_KEY"' : '';
  return `curl -N '${url}' \\\n  -H 'Content-Type: application/json'${key} \\\n  -d '${quoted}'`;
}
