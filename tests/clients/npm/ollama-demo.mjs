// Ollama's npm client against a server with the demo model: node ollama-demo.mjs BASE_URL
import { Ollama } from 'ollama';
import { z } from 'zod';
import { baseUrl, check, errorOf, expect, finish, model } from './checks.mjs';

const client = new Ollama({ host: baseUrl });
const options = { temperature: 0 };

const ask = content => ({ model, options, messages: [{ role: 'user', content }] });

const weather = {
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'Get the current weather in a city.',
    parameters: {
      type: 'object',
      properties: { city: { type: 'string', description: 'Name of the city' } },
      required: ['city'],
    },
  },
};

await check('models', async () => {
  const { models } = await client.list();
  expect(models[0].name === `${model}:latest` && models[0].size > 0, `${model} in ${JSON.stringify(models)}`);
  const shown = await client.show({ model });
  expect(shown.capabilities.includes('tools') && shown.details.family === 'gemma4', `what it can do in ${JSON.stringify(shown)}`);
  expect(shown.model_info['gemma4.context_length'] > 0 && shown.model_info['general.parameter_count'] > 0, 'its sizes');
  expect(shown.details.quantization_level.length > 0 && shown.details.parameter_size.length > 0, 'its details');
  expect((await client.ps()).models.length === 1, 'one model running');
});

await check('whole chat', async () => {
  const answer = await client.chat(ask('What is the capital of France?'));
  expect(answer.message.content.includes('Paris') && answer.done && answer.done_reason === 'stop', `Paris in ${JSON.stringify(answer)}`);
  expect(answer.prompt_eval_count > 0 && answer.eval_count > 0 && answer.eval_duration > 0, 'figures');
});

await check('streamed chat', async () => {
  let text = '', lines = 0, last = null;
  for await (const part of await client.chat({ ...ask('What is the capital of Italy?'), stream: true })) {
    text += part.message.content;
    lines++;
    last = part;
  }
  expect(text.includes('Rome') && lines > 2, `Rome in several lines, got ${lines}: ${text}`);
  expect(last.done && last.eval_count > 0, 'a last line with figures');
});

await check('tool round trip', async () => {
  const request = { ...ask('What is the weather in Oslo?'), tools: [weather] };
  const first = await client.chat(request);
  const call = first.message.tool_calls?.[0];
  expect(call?.function.name === 'get_weather' && call.function.arguments.city === 'Oslo', `get_weather(Oslo), got ${JSON.stringify(first)}`);
  const result = { role: 'tool', tool_name: 'get_weather', content: '{"temperature": 7, "condition": "rain"}' };
  const second = await client.chat({ ...request, messages: [...request.messages, first.message, result] });
  expect(second.message.content.includes('7'), `7 in ${JSON.stringify(second)}`);
});

await check('thinking', async () => {
  const answer = await client.chat({ ...ask('What is the capital of Spain?'), think: true });
  expect(answer.message.thinking?.length > 0 && answer.message.content.includes('Madrid'), `a thought and Madrid in ${JSON.stringify(answer)}`);
});

await check('generate', async () => {
  let text = '';
  for await (const part of await client.generate({ model, options, prompt: 'What is the capital of France?', stream: true })) text += part.response;
  expect(text.includes('Paris'), `Paris in ${text}`);
  expect((await client.generate({ model, prompt: '' })).done_reason === 'load', 'load');
});

await check('errors', async () => {
  const refused = body => errorOf(() => client.chat(body));
  const missing = await refused({ ...ask('Hi'), model: 'nobody' });
  expect(missing.status_code === 404 && missing.message.includes('nobody'), `404 on nobody, got ${missing}`);
  const bad = await refused({ ...ask('Hi'), options: { temperature: 'hot' } });
  expect(bad.status_code === 400 && bad.message.includes('options.temperature'), `400 on options.temperature, got ${bad}`);
});

const Place = z.object({ name: z.string().max(12), kind: z.enum(['city', 'river']), size: z.number().int() });

await check('formats', async () => {
  const format = z.toJSONSchema(Place);
  const answer = await client.chat({ ...ask('What is the capital of France?'), format });
  expect(Place.parse(JSON.parse(answer.message.content)) && answer.done_reason === 'stop', `a place, got ${JSON.stringify(answer)}`);
  let text = '';
  for await (const part of await client.generate({ model, options, prompt: 'What is the capital of France?', format, stream: true })) text += part.response;
  expect(text === answer.message.content, `the same place from generate, got ${text}`);
  const thought = await client.chat({ ...ask('What is the capital of France?'), format, think: 'low' });
  expect(thought.message.thinking.length > 0 && Place.parse(JSON.parse(thought.message.content)), `a place behind a thought, got ${JSON.stringify(thought)}`);
  const any = await client.generate({ model, options, prompt: 'What is the capital of France?', format: 'json' });
  expect(typeof JSON.parse(any.response) === 'object', `JSON, got ${any.response}`);
});

finish();
