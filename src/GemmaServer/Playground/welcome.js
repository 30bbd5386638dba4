// What an empty conversation shows: a greeting and a few things to try, which the demo model knows too.

import { h } from './dom.js';
import { SAMPLE_TOOL } from './request.js';

const IDEAS = [
  ['Ask', 'What is the capital of France?', {}],
  ['Let it think', 'What is 17 plus 25?', { thinking: true }],
  ['Let it call a tool', 'What is the weather in Oslo?', { tools: SAMPLE_TOOL }],
  ['Meet it', 'Hi, who are you?', {}],
];

/** @param start takes a text and the settings that go with it. */
export function welcome(model, start) {
  return h('section', { class: 'welcome' },
    h('h1', {}, 'What shall we try?'),
    h('p', {}, model ? `You are talking to ${model}.` : 'Waiting for the server.'),
    h('div', { class: 'ideas' }, ...IDEAS.map(([title, text, settings]) => h('button', { type: 'button', class: 'idea', onclick: () => start(text, settings) },
      h('strong', {}, title), h('span', {}, text)))));
}
