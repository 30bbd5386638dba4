// The official npm client against a server with the demo model: node openai-demo.mjs BASE_URL
import OpenAI from 'openai';
import { LengthFinishReasonError } from 'openai/error';
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { baseUrl, check, errorOf, expect, finish, model } from './checks.mjs';

const client = new OpenAI({ baseURL: `${baseUrl}/v1`, apiKey: 'unused', maxRetries: 0 });

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
  const ids = [];
  for await (const m of client.models.list()) ids.push(m.id);
  expect(ids.includes(model), `${model} among ${ids}`);
  expect((await client.models.retrieve(model)).object === 'model', 'a model object');
});

await check('whole chat', async () => {
  const answer = await client.chat.completions.create({
    model, temperature: 0, messages: [{ role: 'user', content: 'What is the capital of France?' }],
  });
  expect(answer.choices[0].message.content.includes('Paris'), `Paris in ${JSON.stringify(answer)}`);
  expect(answer.choices[0].finish_reason === 'stop', 'stop');
  expect(answer.usage.total_tokens === answer.usage.prompt_tokens + answer.usage.completion_tokens, 'usage that adds up');
});

await check('streamed chat', async () => {
  const stream = await client.chat.completions.create({
    model, temperature: 0, stream: true, stream_options: { include_usage: true },
    messages: [{ role: 'user', content: 'What is the capital of Italy?' }],
  });
  let text = '', chunks = 0, usage = null, finish = null;
  for await (const chunk of stream) {
    chunks++;
    text += chunk.choices[0]?.delta?.content ?? '';
    finish = chunk.choices[0]?.finish_reason ?? finish;
    usage = chunk.usage ?? usage;
  }
  expect(text.includes('Rome'), `Rome in ${text}`);
  expect(chunks > 2 && finish === 'stop', `several chunks and a stop, got ${chunks}, ${finish}`);
  expect(usage?.completion_tokens > 0, 'usage in the last chunk');
});

await check('tool call round trip, streamed helper', async () => {
  const messages = [{ role: 'user', content: 'What is the weather in Oslo?' }];
  const first = await client.chat.completions.stream({ model, temperature: 0, messages, tools: [weather] }).finalChatCompletion();
  const call = first.choices[0].message.tool_calls?.[0];
  expect(first.choices[0].finish_reason === 'tool_calls' && call, `a tool call in ${JSON.stringify(first.choices[0])}`);
  expect(call.function.name === 'get_weather' && JSON.parse(call.function.arguments).city === 'Oslo', `get_weather(Oslo), got ${JSON.stringify(call)}`);
  messages.push(first.choices[0].message, { role: 'tool', tool_call_id: call.id, content: '{"temperature": 7, "condition": "rain"}' });
  const second = await client.chat.completions.create({ model, temperature: 0, messages, tools: [weather] });
  expect(second.choices[0].finish_reason === 'stop' && second.choices[0].message.content.includes('7'), `7 in ${JSON.stringify(second.choices[0])}`);
});

await check('thinking stays out of content', async () => {
  const answer = await client.chat.completions.create({
    model, temperature: 0, reasoning_effort: 'low', messages: [{ role: 'user', content: 'What is the capital of Spain?' }],
  });
  const message = answer.choices[0].message;
  expect(message.reasoning_content?.length > 0 && message.reasoning === message.reasoning_content, 'reasoning under both names');
  expect(message.content.includes('Madrid') && !message.content.includes('thought'), `Madrid in ${message.content}`);
});

await check('error classes', async () => {
  const request = { model, messages: [{ role: 'user', content: 'Hi' }] };
  const errorFor = body => errorOf(() => client.chat.completions.create(body));
  const bad = await errorFor({ ...request, temperature: 3 });
  expect(bad instanceof OpenAI.BadRequestError && bad.param === 'temperature', `BadRequestError on temperature, got ${bad}`);
  const missing = await errorFor({ ...request, model: 'nobody' });
  expect(missing instanceof OpenAI.NotFoundError && missing.code === 'model_not_found', `NotFoundError, got ${missing}`);
  const badStream = await errorFor({ ...request, stream: true, top_p: 7 });
  expect(badStream instanceof OpenAI.BadRequestError, 'an HTTP error before a stream starts');
});

const Place = z.object({
  name: z.string().max(12), kind: z.enum(['city', 'river']), size: z.number().int(), tags: z.array(z.string().max(5)).max(2), note: z.string().max(6).nullable(),
});

await check('zod format, parsed', async () => {
  const body = { model, temperature: 0, messages: [{ role: 'user', content: 'What is the capital of France?' }], response_format: zodResponseFormat(Place, 'place') };
  const answer = await client.chat.completions.parse(body);
  const place = answer.choices[0].message.parsed;
  expect(Place.parse(place) && ['city', 'river'].includes(place.kind), `a place, got ${JSON.stringify(answer)}`);
  const events = [];
  const stream = client.chat.completions.stream({ ...body, reasoning_effort: 'low' }).on('content.done', done => events.push(done.parsed));
  const last = await stream.finalChatCompletion();
  expect(events.length === 1 && JSON.stringify(events[0]) === JSON.stringify(last.choices[0].message.parsed), `the same place when done, got ${JSON.stringify(events)}`);
  expect(Place.parse(events[0]) && last.choices[0].finish_reason === 'stop', 'a place behind a thought');
});

await check('a limit inside a format', async () => {
  const cut = await errorOf(() => client.chat.completions.parse({
    model, temperature: 0, max_tokens: 6, messages: [{ role: 'user', content: 'What is the capital of France?' }], response_format: zodResponseFormat(Place, 'place'),
  }));
  expect(cut instanceof LengthFinishReasonError, `LengthFinishReasonError, got ${cut}`);
});

const zodWeather = asked => zodFunction({
  name: 'get_weather', description: 'Get the current weather in a city.', parameters: z.object({ city: z.string().max(12) }),
  function: ({ city }) => { asked.push(city); return { temperature: 7, condition: 'rain' }; },
});

await check('a required call, parsed', async () => {
  const body = { model, temperature: 0, messages: [{ role: 'user', content: 'What is 7 plus 5?' }], tools: [zodWeather([])], tool_choice: 'required', parallel_tool_calls: false };
  const [choice] = (await client.chat.completions.parse(body)).choices;
  expect(choice.finish_reason === 'tool_calls' && choice.message.tool_calls.length === 1, `one call, got ${JSON.stringify(choice)}`);
  expect(typeof choice.message.tool_calls[0].function.parsed_arguments.city === 'string', 'parsed arguments');
  const streamed = (await client.chat.completions.stream(body).finalChatCompletion()).choices[0];
  expect(streamed.message.tool_calls[0].function.arguments === choice.message.tool_calls[0].function.arguments, `the same arguments, got ${JSON.stringify(streamed)}`);
});

await check('runTools, whole and streamed', async () => {
  for (const stream of [false, true]) {
    const asked = [];
    const runner = client.chat.completions.runTools({
      model, temperature: 0, stream, messages: [{ role: 'user', content: 'What is the weather in Oslo?' }], tools: [zodWeather(asked)],
    });
    const text = await runner.finalContent();
    expect(asked.length === 1 && asked[0] === 'Oslo' && text.includes('7'), `one call for Oslo and 7, got ${asked} ${text}`);
  }
});

finish();
