// Anthropic's npm client against a server with the demo model: node anthropic-demo.mjs BASE_URL
import Anthropic from '@anthropic-ai/sdk';
import { zodOutputFormat } from '@anthropic-ai/sdk/helpers/zod';
import { z } from 'zod';
import { baseUrl, check, errorOf, expect, finish, model } from './checks.mjs';

const client = new Anthropic({ baseURL: baseUrl, apiKey: 'unused', maxRetries: 0 });

const ask = (content, more = {}) => ({ model, max_tokens: 300, temperature: 0, messages: [{ role: 'user', content }], ...more });

const weather = {
  name: 'get_weather',
  description: 'Get the current weather in a city.',
  input_schema: {
    type: 'object',
    properties: { city: { type: 'string', description: 'Name of the city' } },
    required: ['city'],
  },
};

await check('whole message', async () => {
  const message = await client.messages.create(ask('What is the capital of France?'));
  expect(message.content[0].type === 'text' && message.content[0].text.includes('Paris'), `Paris in ${JSON.stringify(message)}`);
  expect(message.stop_reason === 'end_turn' && message.role === 'assistant', 'end_turn');
  expect(message.usage.input_tokens + message.usage.cache_read_input_tokens > 0 && message.usage.output_tokens > 0, 'usage');
  expect(message._request_id?.length > 0, 'a request id');
});

await check('streamed message', async () => {
  const stream = client.messages.stream(ask('What is the capital of Italy?'));
  let text = '', pieces = 0;
  stream.on('text', piece => { text += piece; pieces++; });
  const message = await stream.finalMessage();
  expect(text.includes('Rome') && pieces > 2, `Rome in several pieces, got ${pieces}: ${text}`);
  expect(message.content[0].text === text && message.stop_reason === 'end_turn', 'the same text in the final message');
  expect(message.usage.output_tokens > 0, 'usage');
});

await check('tool round trip, streamed', async () => {
  const request = ask('What is the weather in Oslo?', { tools: [weather] });
  const first = await client.messages.stream(request).finalMessage();
  const call = first.content.find(block => block.type === 'tool_use');
  expect(first.stop_reason === 'tool_use' && call, `a call in ${JSON.stringify(first)}`);
  expect(call.name === 'get_weather' && call.input.city === 'Oslo', `get_weather(Oslo), got ${JSON.stringify(call)}`);
  const result = { type: 'tool_result', tool_use_id: call.id, content: '{"temperature": 7, "condition": "rain"}' };
  const messages = [...request.messages, { role: 'assistant', content: first.content }, { role: 'user', content: [result] }];
  const second = await client.messages.create({ ...request, messages });
  expect(second.stop_reason === 'end_turn' && second.content[0].text.includes('7'), `7 in ${JSON.stringify(second)}`);
});

await check('thinking', async () => {
  const request = ask('What is the capital of Spain?', { thinking: { type: 'enabled', budget_tokens: 1024 } });
  const message = await client.messages.stream(request).finalMessage();
  const [thought, text] = message.content;
  expect(thought.type === 'thinking' && thought.thinking.length > 0 && thought.signature.length > 0, `a signed thought in ${JSON.stringify(message)}`);
  expect(text.type === 'text' && text.text.includes('Madrid'), 'Madrid in the text');
  const messages = [...request.messages, { role: 'assistant', content: message.content }, { role: 'user', content: 'What is the capital of France?' }];
  const again = await client.messages.create({ ...request, messages });
  expect(again.content.at(-1).text.length > 0, 'an answer after thoughts were sent back');
});

await check('stop sequence', async () => {
  const message = await client.messages.create(ask('What is the capital of France?', { stop_sequences: ['Paris'] }));
  expect(message.stop_reason === 'stop_sequence' && message.stop_sequence === 'Paris', `stop_sequence Paris, got ${JSON.stringify(message)}`);
});

await check('counted tokens', async () => {
  const request = { model, system: 'Be brief.', messages: [{ role: 'user', content: 'What is the capital of France?' }], tools: [weather] };
  const { input_tokens } = await client.messages.countTokens(request);
  const { usage } = await client.messages.create({ ...request, max_tokens: 1 });
  expect(input_tokens === usage.input_tokens + usage.cache_read_input_tokens, `${input_tokens} tokens, got ${JSON.stringify(usage)}`);
});

await check('error classes', async () => {
  const refused = body => errorOf(() => client.messages.create(body));
  const bad = await refused(ask('Hi', { temperature: 3 }));
  expect(bad instanceof Anthropic.BadRequestError && bad.message.includes('temperature'), `BadRequestError on temperature, got ${bad}`);
  expect(bad.error?.error?.type === 'invalid_request_error' && bad.requestID?.length > 0, 'its type and request id');
  const missing = await refused(ask('Hi', { model: 'nobody' }));
  expect(missing instanceof Anthropic.NotFoundError, `NotFoundError, got ${missing}`);
  const badStream = await refused(ask('Hi', { stream: true, top_p: 7 }));
  expect(badStream instanceof Anthropic.BadRequestError, 'an HTTP error before a stream starts');
});

await check('forced tools', async () => {
  const any = await client.messages.create(ask('What is 7 plus 5?', { tools: [weather], tool_choice: { type: 'any', disable_parallel_tool_use: true } }));
  expect(any.stop_reason === 'tool_use' && any.content.length === 1 && typeof any.content[0].input.city === 'string', `one call, got ${JSON.stringify(any)}`);
  const named = await client.messages.stream(ask('Hi', { tools: [weather], tool_choice: { type: 'tool', name: 'get_weather' } })).finalMessage();
  expect(named.content.every(block => block.type === 'tool_use' && block.name === 'get_weather'), `get_weather, got ${JSON.stringify(named)}`);
  const none = await client.messages.create(ask('What is the weather in Oslo?', { tools: [weather], tool_choice: { type: 'none' } }));
  expect(none.stop_reason === 'end_turn' && none.content[0].type === 'text', `text, got ${JSON.stringify(none)}`);
});

await check('a format, parsed, behind a short thought', async () => {
  const Place = z.object({ kind: z.enum(['city', 'river']), large: z.boolean(), letter: z.enum(['a', 'p']).nullable() });
  const request = ask('What is the capital of France?', { output_config: { format: zodOutputFormat(Place) }, thinking: { type: 'enabled', budget_tokens: 8 } });
  const message = await client.messages.parse(request);
  expect(Place.parse(message.parsed_output) && message.stop_reason === 'end_turn', `a place, got ${JSON.stringify(message)}`);
  const used = message.usage.output_tokens_details.thinking_tokens;
  expect(message.content[0].type === 'thinking' && used > 0 && used <= 10, `a short thought, got ${JSON.stringify(message)}`);
});

finish();
