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

/** Arguments with line breaks, where they are JSON; numbers stay as the model wrote them. */
export function pretty(json) {
  try {
    JSON.parse(json);
  } catch {
    return json;
  }
  let out = '';
  let depth = 0;
  let inString = false;
  const line = () => `\n${'  '.repeat(depth)}`;
  for (let i = 0; i < json.length; i++) {
    const c = json[i];
    if (inString) {
      out += c === '\\' ? c + json[++i] : c;
      inString = c !== '"';
    } else if (c === '"') {
      out += c;
      inString = true;
    } else if (c === '{' || c === '[') {
      const closing = c === '{' ? '}' : ']';
      const rest = json.slice(i + 1, i + 1000).trimStart();
      if (rest[0] === closing) {
        out += c + closing;
        i = json.indexOf(closing, i + 1);
      } else {
        depth++;
        out += c + line();
      }
    } else if (c === '}' || c === ']') {
      depth--;
      out += line() + c;
    } else if (c === ',') out += c + line();
    else if (c === ':') out += ': ';
    else if (!/\s/.test(c)) out += c;
  }
  return out;
}
