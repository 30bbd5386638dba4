// A tool call: its name, its arguments as they come, and a place for the result that the user gives in the tool's stead.

import { grow, h, icon } from './dom.js';
import { codeView } from './markdown.js';

/** @param result the tool message that answers it, or undefined. @param give takes a result; true while others are missing. */
export function toolCallView(call, result, give) {
  const name = h('strong', {});
  const args = h('div', { class: 'tool-arguments' });
  const slot = h('div', { class: 'tool-result' });
  const element = h('section', { class: 'tool-call', 'aria-label': 'Tool call' }, h('header', {}, icon('tool'), h('span', {}, 'Calls '), name), args, slot);
  let shown = null;

  return {
    element,
    update(isLive) {
      name.textContent = call.name;
      const text = isLive ? call.args : pretty(call.args);
      if (text !== shown) args.replaceChildren(codeView(text, 'arguments'));
      shown = text;
      if (slot.hasChildNodes() || isLive) return;
      slot.append(result ? codeView(result.content, 'result') : resultForm(call, give));
    },
  };
}

function resultForm(call, give) {
  const area = h('textarea', {
    rows: '2', class: 'mono', 'aria-label': `Result of ${call.name}`, placeholder: 'What the tool returns, as text or JSON', oninput: () => grow(area),
  });
  const note = h('small', { role: 'status' });
  const form = h('form', {
    onsubmit: e => {
      e.preventDefault();
      if (give(area.value)) note.textContent = 'Kept; the other calls need a result too.';
    },
  }, area, h('div', { class: 'buttons' }, note, h('button', { type: 'submit', class: 'button primary' }, 'Send result')));
  area.addEventListener('keydown', e => {
    if (e.key !== 'Enter' || e.shiftKey || e.isComposing) return;
    e.preventDefault();
    form.requestSubmit();
  });
  return form;
}

const SHORT_LIST = /\[(?:[^[\]{}"]|"(?:[^"\\]|\\.)*")*\]/y;

/** Arguments with line breaks, where they are JSON; numbers stay as the model wrote them. Short lists stay on their line. */
export function pretty(json) {
  try {
    JSON.parse(json);
  } catch {
    return json;
  }
  let out = '';
  let depth = 0;
  let listEnd = -1;      // where the short list that is open ends
  const line = () => `\n${'  '.repeat(depth)}`;
  for (const token of json.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    const text = token[0];
    const next = json.slice(token.index + 1, token.index + 100).trimStart()[0];
    if (text === '[') {
      SHORT_LIST.lastIndex = token.index;
      const list = SHORT_LIST.exec(json);
      if (list && list[0].length <= 60) listEnd = SHORT_LIST.lastIndex;
    }
    const isInline = token.index < listEnd;
    if (text === '{' || (text === '[' && !isInline)) {
      depth++;
      out += text + (next === '}' || next === ']' ? '' : line());
    } else if (text === '}' || (text === ']' && !isInline)) {
      depth--;
      out += (/[{[]$/.test(out) ? '' : line()) + text;
    } else if (text === ',') out += isInline ? ', ' : text + line();
    else out += text === ':' ? ': ' : text;
  }
  return out;
}
