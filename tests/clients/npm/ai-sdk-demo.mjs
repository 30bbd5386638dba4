// The AI SDK with its strict chunk schemas against a server with the demo model: node ai-sdk-demo.mjs BASE_URL
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateObject, generateText, jsonSchema, stepCountIs, streamObject, streamText, tool } from 'ai';
import { z } from 'zod';
import { baseUrl, check, errorOf, expect, finish, model } from './checks.mjs';

const provider = createOpenAICompatible({ name: 'gemmaserver', baseURL: `${baseUrl}/v1`, includeUsage: true, supportsStructuredOutputs: true });
const chat = provider(model);
const settings = { model: chat, temperature: 0, maxRetries: 0 };

let asked = [];
const tools = {
  get_weather: tool({
    description: 'Get the current weather in a city.',
    inputSchema: jsonSchema({ type: 'object', properties: { city: { type: 'string', description: 'Name of the city' } }, required: ['city'] }),
    execute: async ({ city }) => { asked.push(city); return { temperature: 7, condition: 'rain' }; },
  }),
};

await check('generateText', async () => {
  const answer = await generateText({ ...settings, prompt: 'What is the capital of France?' });
  expect(answer.text.includes('Paris') && answer.finishReason === 'stop', `Paris and stop, got ${answer.text} ${answer.finishReason}`);
  expect(answer.usage.totalTokens > 0, 'usage');
});

await check('streamText', async () => {
  const result = streamText({ ...settings, prompt: 'What is the capital of Italy?' });
  let text = '', parts = 0;
  for await (const part of result.textStream) { text += part; parts++; }
  expect(text.includes('Rome') && parts > 1, `Rome in several parts, got ${parts}: ${text}`);
  expect((await result.usage).outputTokens > 0 && await result.finishReason === 'stop', 'usage and stop at the end');
});

await check('tool loop, streamed', async () => {
  asked = [];
  const result = streamText({ ...settings, prompt: 'What is the weather in Oslo?', tools, stopWhen: stepCountIs(3) });
  let text = '';
  for await (const part of result.fullStream) {
    if (part.type === 'error') throw part.error;
    if (part.type === 'text-delta') text += part.text;
  }
  expect(asked.length === 1 && asked[0] === 'Oslo', `one call for Oslo, got ${asked}`);
  expect(text.includes('7'), `7 in ${text}`);
});

await check('tool loop, whole', async () => {
  asked = [];
  const answer = await generateText({ ...settings, prompt: 'What is the weather in Oslo?', tools, stopWhen: stepCountIs(3) });
  expect(asked.length === 1 && answer.text.includes('7'), `one call and 7, got ${asked} ${answer.text}`);
});

await check('reasoning apart from text', async () => {
  const result = streamText({ ...settings, prompt: 'What is the capital of Spain?', providerOptions: { gemmaserver: { reasoningEffort: 'low' } } });
  let text = '', reasoning = '';
  for await (const part of result.fullStream) {
    if (part.type === 'text-delta') text += part.text;
    if (part.type === 'reasoning-delta') reasoning += part.text;
  }
  expect(reasoning.length > 0 && text.includes('Madrid') && !text.includes('thought'), `a thought apart from Madrid, got '${reasoning}' and '${text}'`);
});

await check('errors', async () => {
  const error = await errorOf(() => generateText({ ...settings, model: provider('nobody'), prompt: 'Hi' }));
  expect(error.statusCode === 404 && error.message.includes('nobody'), `404 about nobody, got ${error}`);
});

const place = z.object({ name: z.string().max(12), kind: z.enum(['city', 'river']), size: z.number().int() });

await check('generateObject', async () => {
  const { object, finishReason } = await generateObject({ ...settings, schema: place, prompt: 'What is the capital of France?' });
  expect(place.parse(object) && finishReason === 'stop', `a place, got ${JSON.stringify(object)} ${finishReason}`);
});

await check('streamObject', async () => {
  const result = streamObject({ ...settings, schema: place, prompt: 'What is the capital of Italy?' });
  let parts = 0;
  for await (const part of result.partialObjectStream) parts++;
  expect(place.parse(await result.object) && parts > 1, `a place in several parts, got ${parts}`);
});

await check('a required tool', async () => {
  asked = [];
  const answer = await generateText({ ...settings, prompt: 'What is 7 plus 5?', tools, toolChoice: 'required' });
  expect(answer.finishReason === 'tool-calls' && answer.toolCalls.length > 0 && asked.length === answer.toolCalls.length, `calls, got ${answer.finishReason} ${asked}`);
  const named = await generateText({ ...settings, prompt: 'Hi', tools, toolChoice: { type: 'tool', toolName: 'get_weather' } });
  expect(named.toolCalls[0]?.toolName === 'get_weather' && typeof named.toolCalls[0].input.city === 'string', `get_weather, got ${JSON.stringify(named.toolCalls)}`);
});

finish();
