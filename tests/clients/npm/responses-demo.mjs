// The Responses API through the official npm client, and the cases that the Open Responses compliance suite asks of a server.
import OpenAI from 'openai';
import { zodResponsesFunction, zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { baseUrl, check, errorOf, expect, finish, model } from './checks.mjs';

const client = new OpenAI({ baseURL: `${baseUrl}/v1`, apiKey: 'unused', maxRetries: 0 });
const weather = {
  type: 'function', name: 'get_weather', description: 'Get the current weather in a city.', strict: false,
  parameters: { type: 'object', properties: { city: { type: 'string', description: 'Name of the city' } }, required: ['city'] },
};
const result = '{"temperature": 7, "condition": "rain"}';

await check('whole response, and one that goes on from it', async () => {
  const first = await client.responses.create({ model, temperature: 0, input: 'What is the capital of France?' });
  expect(first.output_text.includes('Paris'), `Paris in ${first.output_text}`);
  expect(first.usage.total_tokens === first.usage.input_tokens + first.usage.output_tokens, 'usage that adds up');
  const second = await client.responses.create({ model, temperature: 0, input: 'What is the capital of Italy?', previous_response_id: first.id });
  expect(second.usage.input_tokens > first.usage.input_tokens && second.previous_response_id === first.id, 'a longer conversation');
  expect((await client.responses.retrieve(first.id)).output_text === first.output_text, 'the same response again');
  const items = [];
  for await (const item of client.responses.inputItems.list(second.id)) items.push(item);
  expect(items.length === 1 && items[0].content[0].text === 'What is the capital of Italy?', `its input, got ${JSON.stringify(items)}`);
  await client.responses.delete(first.id);
  const gone = await errorOf(() => client.responses.retrieve(first.id));
  expect(gone instanceof OpenAI.NotFoundError, `NotFoundError, got ${gone}`);
});

await check('stream, put together by the client', async () => {
  const stream = client.responses.stream({ model, temperature: 0, reasoning: { effort: 'low' }, input: 'What is the capital of Spain?' });
  let text = '', thought = '', next = 0;
  for await (const event of stream) {
    expect(event.sequence_number === next++, `event ${next - 1} in its place`);
    if (event.type === 'response.output_text.delta') text += event.delta;
    if (event.type === 'response.reasoning_text.delta') thought += event.delta;
  }
  const final = await stream.finalResponse();
  expect(final.output.map(o => o.type).join() === 'reasoning,message', `a thought and a message, got ${JSON.stringify(final.output)}`);
  expect(final.output[0].content[0].text === thought && thought.length > 0, 'the thought that was streamed');
  expect(final.output_text === text && text.includes('Madrid'), `Madrid in ${text}`);
});

await check('tool round trip, conversation on the client', async () => {
  const input = [{ role: 'user', content: 'What is the weather in Oslo?' }];
  const first = await client.responses.stream({ model, temperature: 0, input, tools: [weather], store: false }).finalResponse();
  const call = first.output.find(o => o.type === 'function_call');
  expect(call?.name === 'get_weather' && JSON.parse(call.arguments).city === 'Oslo', `get_weather(Oslo), got ${JSON.stringify(first.output)}`);
  input.push(...first.output, { type: 'function_call_output', call_id: call.call_id, output: result });
  const second = await client.responses.create({ model, temperature: 0, input, tools: [weather], store: false });
  expect(second.output_text.includes('7'), `7 in ${second.output_text}`);
});

await check('tool round trip, conversation on the server', async () => {
  const first = await client.responses.create({ model, temperature: 0, input: 'What is the weather in Oslo?', tools: [weather] });
  const call = first.output.find(o => o.type === 'function_call');
  const second = await client.responses.create({
    model, temperature: 0, tools: [weather], previous_response_id: first.id, input: [{ type: 'function_call_output', call_id: call.call_id, output: result }],
  });
  expect(second.output_text.includes('7'), `7 in ${second.output_text}`);
});

await check('sealed thoughts, length, counts and error classes', async () => {
  const input = [{ role: 'user', content: 'What is the capital of Spain?' }];
  const ask = { model, temperature: 0, reasoning: { effort: 'low' }, store: false, include: ['reasoning.encrypted_content'] };
  const first = await client.responses.create({ ...ask, input });
  const { content, ...thought } = first.output[0];
  expect(thought.encrypted_content && !thought.encrypted_content.includes('Spain'), 'a sealed thought');
  await client.responses.create({ ...ask, input: [...input, thought, ...first.output.slice(1), { role: 'user', content: 'And again?' }] });
  const cut = await client.responses.create({ model, input, max_output_tokens: 2 });
  expect(cut.status === 'incomplete' && cut.incomplete_details.reason === 'max_output_tokens', `incomplete, got ${cut.status}`);
  const count = await client.responses.inputTokens.count({ model, input });
  expect(count.input_tokens === cut.usage.input_tokens, `${cut.usage.input_tokens} tokens, got ${count.input_tokens}`);
  const bad = await errorOf(() => client.responses.create({ model, input: [{ role: 'user', content: [{ type: 'input_text' }] }] }));
  expect(bad instanceof OpenAI.BadRequestError && bad.param === 'input[0].content[0].text', `BadRequestError on the text, got ${bad} ${bad.param}`);
  const early = await errorOf(() => client.responses.create({ model, input, stream: true, temperature: 3 }));
  expect(early instanceof OpenAI.BadRequestError, 'an HTTP error before a stream starts');
});

// ---- what Open Responses' compliance suite asks, over plain HTTP

const user = content => ({ type: 'message', role: 'user', content });
const required = ['id', 'object', 'created_at', 'completed_at', 'status', 'incomplete_details', 'model', 'previous_response_id', 'instructions', 'output', 'error', 'tools',
  'tool_choice', 'truncation', 'parallel_tool_calls', 'text', 'top_p', 'presence_penalty', 'frequency_penalty', 'top_logprobs', 'temperature', 'reasoning', 'usage',
  'max_output_tokens', 'max_tool_calls', 'store', 'background', 'service_tier', 'metadata', 'safety_identifier', 'prompt_cache_key'];

function checkResource(response) {
  const missing = required.filter(name => response[name] === undefined);
  expect(missing.length === 0, `the members ${missing}`);
  for (const tool of response.tools) expect('description' in tool && 'parameters' in tool && 'strict' in tool, 'tools with all members');
}

async function post(body) {
  const response = await fetch(`${baseUrl}/v1/responses`, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ model, temperature: 0, ...body }) });
  expect(response.ok, `200, got ${response.status}`);
  if (!body.stream) return response.json();
  return (await response.text()).split('\n').filter(l => l.startsWith('data: ')).map(l => JSON.parse(l.slice(6)));
}

for (const [name, input] of Object.entries({
  'basic text': [user('Say hello in exactly 3 words.')],
  'system prompt': [{ type: 'message', role: 'system', content: 'You are a pirate.' }, user('Say hello.')],
  'multi-turn': [user('My name is Alice.'), { type: 'message', role: 'assistant', content: 'Hello Alice!' }, user('What is my name?')],
})) {
  await check(`compliance: ${name}`, async () => {
    const response = await post({ input });
    checkResource(response);
    expect(response.status === 'completed' && response.output.length > 0, `a completed response with output, got ${JSON.stringify(response)}`);
  });
}

await check('compliance: streaming', async () => {
  const events = await post({ input: [user('Count from 1 to 5.')], stream: true });
  for (const event of events.filter(e => e.response)) checkResource(event.response);
  const last = events.at(-1);
  expect(last.type === 'response.completed' && last.response.status === 'completed', `a completed response, got ${last.type}`);
});

await check('compliance: tool calling, whole and streamed', async () => {
  const body = { input: [user('What is the weather in Oslo?')], tools: [weather] };
  const whole = await post(body);
  checkResource(whole);
  expect(whole.output.some(o => o.type === 'function_call'), 'a function call');
  const events = await post({ ...body, stream: true });
  for (const [type, item] of [['response.output_item.added', 'function_call'], ['response.function_call_arguments.delta'], ['response.function_call_arguments.done'], ['response.output_item.done', 'function_call']])
    expect(events.some(e => e.type === type && (!item || e.item.type === item)), type);
});

await check('zod format and strict tool, parsed', async () => {
  const Place = z.object({ name: z.string().max(12), kind: z.enum(['city', 'river']), size: z.number().int() });
  const body = { model, temperature: 0, input: 'What is the capital of France?', text: { format: zodTextFormat(Place, 'place') } };
  const answer = await client.responses.parse(body);
  expect(Place.parse(answer.output_parsed), `a place, got ${JSON.stringify(answer.output)}`);
  const streamed = await client.responses.stream(body).finalResponse();
  expect(streamed.output_text === answer.output_text && Place.parse(streamed.output_parsed), 'the same place, streamed');

  const tool = zodResponsesFunction({ name: 'get_weather', parameters: z.object({ city: z.string().max(12) }) });
  const called = await client.responses.parse({ model, temperature: 0, input: 'Hi', tools: [tool], tool_choice: 'required', parallel_tool_calls: false });
  expect(called.output.length === 1 && typeof called.output[0].parsed_arguments.city === 'string', `a call, got ${JSON.stringify(called.output)}`);
});

finish();
