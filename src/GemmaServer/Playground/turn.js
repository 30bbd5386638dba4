// One answer of the model: applies the chunks of a stream to a message and takes the times.

import { streamChat } from './api.js';

/** An answer before its first token. */
export const emptyAnswer = model => ({ role: 'assistant', model, content: '', reasoning: '', toolCalls: [], finish: null, usage: null, error: null, requestId: null, timing: {} });

/** Fills the message; onChange is called after each chunk. Ends with its error set rather than by throwing. */
export async function runTurn(body, message, signal, onChange) {
  const began = performance.now();
  const seconds = () => (performance.now() - began) / 1000;
  const { timing } = message;
  try {
    const stream = await streamChat(body, signal);
    message.requestId = stream.requestId;
    for await (const chunk of stream.chunks) {
      if (chunk.usage) message.usage = chunk.usage;
      const choice = chunk.choices?.[0];
      if (choice) apply(message, choice, timing, seconds());
      onChange();
    }
  } catch (e) {
    if (e.name === 'AbortError') message.finish = 'stopped';
    else message.error = typeof e.toJSON === 'function' ? e.toJSON() : { message: `The page could not read the answer: ${e.message}`, type: 'client_error' };
  }
  timing.total = seconds();
  if (timing.thinkStart !== undefined) timing.thinkEnd ??= timing.total;
  onChange();
}

function apply(message, choice, timing, now) {
  const delta = choice.delta ?? {};
  const thought = delta.reasoning_content ?? delta.reasoning;
  if (thought) {
    timing.thinkStart ??= now;
    message.reasoning += thought;
  }
  if (delta.content) message.content += delta.content;
  for (const part of delta.tool_calls ?? []) {
    const call = message.toolCalls[part.index] ??= { id: '', name: '', args: '' };
    call.id = part.id ?? call.id;
    call.name += part.function?.name ?? '';
    call.args += part.function?.arguments ?? '';
  }
  if (thought || delta.content || delta.tool_calls) {
    timing.first ??= now;
    timing.last = now;
    if (!thought && timing.thinkStart !== undefined) timing.thinkEnd ??= now;
  }
  if (choice.finish_reason) message.finish = choice.finish_reason;
}

/** Tokens per second after the first one; null where they came in one piece, since then there is nothing to divide by. */
export function rateOf({ usage, timing }) {
  const span = timing.last - timing.first;
  return usage && usage.completion_tokens > 1 && span > 0.02 ? (usage.completion_tokens - 1) / span : null;
}
