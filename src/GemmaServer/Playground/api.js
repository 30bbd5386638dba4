// Talks to the server. Addresses are relative to the page, so that the playground works behind a path of a proxy.

import { session } from './storage.js';

const at = path => new URL(path, document.baseURI);

/** What went wrong, in the members of OpenAI's error object, and the id under which the server logged it. */
export class ApiFailure extends Error {
  constructor(message, details = {}) {
    super(message);
    Object.assign(this, { status: null, type: null, code: null, param: null, requestId: null, retryAfter: null }, details);
  }

  /** As it is kept beside a message. */
  toJSON() {
    const { message, status, type, code, param, requestId } = this;
    return { message, status, type, code, param, requestId };
  }
}

/** The API key lives as long as the tab and is never written to disk. */
export const apiKey = {
  get: () => session.getItem('gemmaserver.key') ?? '',
  set: key => key ? session.setItem('gemmaserver.key', key) : session.removeItem('gemmaserver.key'),
};

function headers(more = {}) {
  const key = apiKey.get();
  return key ? { ...more, Authorization: `Bearer ${key}` } : more;
}

/** The models that are served. */
export async function listModels() {
  const response = await request('v1/models', { headers: headers() });
  return (await response.json()).data;
}

/** Asks for a streamed answer. Gives the request id at once and the chunks as they come. */
export async function streamChat(body, signal) {
  const response = await request('v1/chat/completions', {
    method: 'POST',
    headers: headers({ 'Content-Type': 'application/json' }),
    body: JSON.stringify(body),
    signal,
  });
  const requestId = response.headers.get('x-request-id');
  return { requestId, chunks: chunks(response, requestId) };
}

async function request(path, init) {
  let response;
  try {
    response = await fetch(at(path), init);
  } catch (e) {
    if (e.name === 'AbortError') throw e;
    throw new ApiFailure('The server cannot be reached.', { type: 'connection_error' });
  }
  if (!response.ok) throw await failureOf(response);
  return response;
}

async function failureOf(response) {
  const details = {
    status: response.status,
    requestId: response.headers.get('x-request-id'),
    retryAfter: Number(response.headers.get('retry-after')) || null,
  };
  try {
    const { error } = await response.json();
    return new ApiFailure(error.message, { ...details, type: error.type, code: error.code, param: error.param });
  } catch {
    return new ApiFailure(`The server answered ${response.status}.`, details);
  }
}

async function* chunks(response, requestId) {
  for await (const data of events(response.body)) {
    if (data === '[DONE]') return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiFailure(chunk.error.message, { ...chunk.error, status: null, requestId });
    yield chunk;
  }
  throw new ApiFailure('The connection broke off before the answer was complete.', { type: 'connection_error', requestId });
}

/** The data of server-sent events; comments are skipped. */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    let part;
    try {
      part = await reader.read();
    } catch (e) {
      if (e.name === 'AbortError') throw e;
      return;
    }
    if (part.done) return;
    const blocks = (rest + part.value).replaceAll('\r\n', '\n').split('\n\n');
    rest = blocks.pop();
    for (const block of blocks) {
      const data = block.split('\n').filter(line => line.startsWith('data:')).map(line => line.slice(5).trimStart());
      if (data.length > 0) yield data.join('\n');
    }
  }
}
