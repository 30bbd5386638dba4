// LangChain's OpenAI classes against a server with the demo model: node langchain-demo.mjs BASE_URL
import { AIMessage, HumanMessage, ToolMessage } from '@langchain/core/messages';
import { tool } from '@langchain/core/tools';
import { ChatOpenAI } from '@langchain/openai';
import { z } from 'zod';
import { baseUrl, check, errorOf, expect, finish, model } from './checks.mjs';

const chat = new ChatOpenAI({ model, temperature: 0, apiKey: 'unused', maxRetries: 0, configuration: { baseURL: `${baseUrl}/v1` } });
const weather = tool(async () => '{"temperature": 7, "condition": "rain"}', {
  name: 'get_weather',
  description: 'Get the current weather in a city.',
  schema: z.object({ city: z.string().describe('Name of the city') }),
});

await check('invoke', async () => {
  const answer = await chat.invoke([new HumanMessage('What is the capital of France?')]);
  expect(answer instanceof AIMessage && answer.content.includes('Paris'), `Paris in ${JSON.stringify(answer.content)}`);
  expect(answer.usage_metadata.total_tokens > 0, 'usage');
});

await check('stream', async () => {
  let text = '', chunks = 0;
  for await (const chunk of await chat.stream('What is the capital of Italy?')) { text += chunk.content; chunks++; }
  expect(text.includes('Rome') && chunks > 2, `Rome in several chunks, got ${chunks}: ${text}`);
});

await check('tools', async () => {
  const bound = chat.bindTools([weather]);
  const question = new HumanMessage('What is the weather in Oslo?');
  const first = await bound.invoke([question]);
  expect(first.tool_calls?.length === 1 && first.tool_calls[0].args.city === 'Oslo', `get_weather(Oslo), got ${JSON.stringify(first.tool_calls)}`);
  const result = await weather.invoke(first.tool_calls[0]);
  expect(result instanceof ToolMessage, 'a tool message');
  const second = await bound.invoke([question, first, result]);
  expect(second.content.includes('7'), `7 in ${second.content}`);
});

await check('errors', async () => {
  const error = await errorOf(() => new ChatOpenAI({ model: 'nobody', apiKey: 'unused', maxRetries: 0, configuration: { baseURL: `${baseUrl}/v1` } }).invoke('Hi'));
  expect(error.status === 404, `404, got ${error}`);
});

const Place = z.object({ name: z.string().max(12), kind: z.enum(['city', 'river']), size: z.number().int() });

await check('structured output', async () => {
  for (const method of ['jsonSchema', 'functionCalling']) {
    const structured = chat.withStructuredOutput(Place, { name: 'place', method });
    const place = await structured.invoke('What is the capital of France?');
    expect(Place.parse(place), `a place by ${method}, got ${JSON.stringify(place)}`);
  }
  const raw = await chat.withStructuredOutput(Place, { name: 'place', method: 'jsonMode', includeRaw: true }).invoke('What is the capital of France? Answer in JSON.');
  expect(typeof JSON.parse(raw.raw.content) === 'object', `JSON, got ${JSON.stringify(raw)}`);
});

await check('a forced tool', async () => {
  const first = await chat.bindTools([weather], { tool_choice: 'any', strict: true }).invoke('What is 7 plus 5?');
  expect(first.tool_calls?.length > 0 && typeof first.tool_calls[0].args.city === 'string', `a call, got ${JSON.stringify(first.tool_calls)}`);
});

finish();
