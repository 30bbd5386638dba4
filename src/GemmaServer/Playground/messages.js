// Shows a conversation. The whole list is built anew when messages come and go; a stream only updates the message it fills.

import { announce, copyButton, grow, h, icon, iconButton } from './dom.js';
import { renderMarkdown } from './markdown.js';
import { rateOf } from './turn.js';
import { toolCallView } from './toolcalls.js';

/** The list of messages and what can be done with each of them. */
export class MessageList {
  /** @param actions regenerate(message), edit(message, text), giveResults(message, results), retryWithKey(key) */
  constructor(element, scroll, actions) {
    Object.assign(this, { element, scroll, actions, views: new Map(), frame: 0 });
  }

  /** Builds everything. @param live the message that is being streamed, or null. */
  show(chat, live) {
    this.live = live;
    this.views.clear();
    this.element.setAttribute('aria-busy', String(live !== null));
    this.element.replaceChildren(...chat.messages.filter(m => m.role !== 'tool').map(message => {
      const view = message.role === 'user' ? userView(message, this) : new AnswerView(message, this, chat);
      this.views.set(message, view);
      return view.element;
    }));
  }

  /** Shows what is new in a message, at most once a frame. */
  update(message) {
    this.dirty = message;
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      const stick = this.isAtEnd;
      this.views.get(this.dirty)?.update?.();
      if (stick) this.toEnd();
    });
  }

  /** Whether the reader follows the end; who scrolled up is left there. */
  get isAtEnd() {
    return this.scroll.scrollHeight - this.scroll.scrollTop - this.scroll.clientHeight < 80;
  }

  toEnd() {
    this.scroll.scrollTop = this.scroll.scrollHeight;
  }
}

function userView(message, list) {
  const bubble = h('div', { class: 'bubble' }, message.content);
  const edit = iconButton('edit', 'Edit', () => element.replaceChildren(editor(message, list, element)), { class: 'icon-button edit' });
  const bar = h('div', { class: 'actions' }, copyButton('Copy message', () => message.content), edit);
  const element = h('article', { class: 'message user', 'aria-label': 'You' }, bubble, bar);
  if (list.live) edit.hidden = true;
  return { element };
}

function editor(message, list, element) {
  const area = h('textarea', { 'aria-label': 'Edit message', value: message.content, rows: '1', oninput: () => grow(area) });
  const close = () => element.replaceWith(userView(message, list).element);
  const send = () => area.value.trim() && list.actions.edit(message, area.value);
  area.addEventListener('keydown', e => {
    if (e.key === 'Escape') {
      e.stopPropagation();
      close();
    } else if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) {
      e.preventDefault();
      send();
    }
  });
  requestAnimationFrame(() => {
    grow(area);
    area.focus();
  });
  return h('div', { class: 'editor' }, area, h('div', { class: 'buttons' },
    h('button', { type: 'button', class: 'button', onclick: close }, 'Cancel'),
    h('button', { type: 'button', class: 'button primary', onclick: send }, 'Send')));
}

class AnswerView {
  constructor(message, list, chat) {
    Object.assign(this, { message, list, chat, calls: [] });
    this.thoughtTitle = h('span');
    this.thoughtText = h('div', { class: 'thought-text markdown' });
    this.thought = h('details', { class: 'thought', hidden: true },
      h('summary', { onclick: () => { this.thoughtTouched = true; } }, icon('think'), this.thoughtTitle, icon('chevron')), this.thoughtText);
    this.content = h('div', { class: 'content markdown' });
    this.tools = h('div', { class: 'tool-calls' });
    this.waiting = h('div', { class: 'waiting', 'aria-label': 'Waiting for the first token' }, h('i'), h('i'), h('i'));
    this.error = h('div', { class: 'error-slot' });
    this.stats = h('span', { class: 'stats' });
    this.again = iconButton('again', 'Regenerate', () => list.actions.regenerate(message), { class: 'icon-button again' });
    this.bar = h('div', { class: 'actions' }, copyButton('Copy answer', () => message.content || message.toolCalls.map(c => `${c.name}(${c.args})`).join('\n') || message.reasoning), this.again, this.stats);
    this.element = h('article', { class: 'message answer', 'aria-label': 'Model' },
      this.thought, this.content, this.tools, this.waiting, this.error, this.bar);
    this.update();
  }

  get isLive() {
    return this.list.live === this.message;
  }

  update() {
    const { message } = this;
    this.updateThought();
    renderMarkdown(this.content, message.content);
    this.content.hidden = !message.content;
    message.toolCalls.forEach((call, i) => {
      const result = this.chat.messages.find(m => m.role === 'tool' && m.tool_call_id === call.id && this.isAfter(m));
      this.calls[i] ??= toolCallView(call, result, text => this.giveResult(call, text));
      if (!this.calls[i].element.isConnected) this.tools.append(this.calls[i].element);
      this.calls[i].update(this.isLive);
    });
    this.waiting.hidden = !this.isLive || message.timing.first !== undefined;
    this.element.classList.toggle('live', this.isLive);
    this.again.hidden = this.list.live !== null;
    this.stats.replaceChildren(...statsOf(message, this.isLive));
    if (message.error && !this.error.hasChildNodes()) this.error.append(errorCard(message.error, message.requestId, this.list.actions, message));
  }

  updateThought() {
    const { message } = this;
    const { thinkStart, thinkEnd } = message.timing;
    this.thought.hidden = !message.reasoning;
    if (!message.reasoning) return;
    const isThinking = this.isLive && thinkEnd === undefined;
    // Open while it comes, closed when the answer begins, and as the reader wants it once it was touched.
    if (!this.thoughtTouched) this.thought.open = isThinking || (!this.isLive && !message.content && message.toolCalls.length === 0);
    const seconds = (thinkEnd ?? (performance.now() - this.list.began) / 1000) - thinkStart;
    const tokens = message.usage?.completion_tokens_details?.reasoning_tokens;
    this.thoughtTitle.textContent = `${isThinking ? 'Thinking' : 'Thought for'} ${duration(seconds)}${tokens ? ` · ${tokens} tokens` : ''}`;
    this.thought.classList.toggle('thinking', isThinking);
    renderMarkdown(this.thoughtText, message.reasoning);
  }

  isAfter(other) {
    return this.chat.messages.indexOf(other) > this.chat.messages.indexOf(this.message);
  }

  /** Goes on when every call has its result. */
  giveResult(call, text) {
    this.results ??= new Map();
    this.results.set(call.id, text);
    const missing = this.message.toolCalls.filter(c => !this.results.has(c.id));
    if (missing.length > 0) announce(`${missing.length} more to give.`);
    else this.list.actions.giveResults(this.message, this.message.toolCalls.map(c => ({ role: 'tool', tool_call_id: c.id, content: this.results.get(c.id) })));
    return missing.length > 0;
  }
}

/** Tokens, speed and what the prompt cost. */
function statsOf(message, isLive) {
  const { usage, timing, finish } = message;
  const rate = rateOf(message);
  const parts = [];
  if (finish === 'stopped') parts.push(['Stopped', 'You ended this answer']);
  if (finish === 'length') parts.push(['Cut off', 'The limit of tokens was reached']);
  if (usage?.completion_tokens) parts.push([`${usage.completion_tokens} tokens`, 'Tokens of the answer']);
  if (rate) parts.push([`${rate.toFixed(rate < 100 ? 1 : 0)} tokens/s`, 'After the first token']);
  if (timing.first !== undefined) parts.push([`first after ${duration(timing.first)}`, 'Time to the first token']);
  if (usage && !isLive) {
    const cached = usage.prompt_tokens_details?.cached_tokens;
    parts.push([`prompt ${usage.prompt_tokens}${cached ? ` (${cached} cached)` : ''}`, 'Tokens of the prompt, and how many of them were computed before']);
  }
  return parts.map(([text, title]) => h('span', { title }, text));
}

const duration = seconds => seconds < 0.9995 ? `${Math.max(1, Math.round(seconds * 1000))} ms` : seconds < 60 ? `${seconds.toFixed(1)} s` : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;

/** An error in the members that the API gives it. */
export function errorCard(error, requestId, actions, message) {
  const facts = [['code', error.code], ['type', error.type], ['field', error.param], ['request id', error.requestId ?? requestId]].filter(([, value]) => value);
  const card = h('div', { class: 'error', role: 'alert' },
    h('strong', {}, icon('warn'), error.status ? `Error ${error.status}` : 'Error'),
    h('p', {}, error.message),
    h('dl', {}, ...facts.flatMap(([name, value]) => [h('dt', {}, name), h('dd', {}, String(value))])));
  if (error.status === 401) card.append(keyForm(key => actions.retryWithKey(key, message)));
  else if (message) card.append(h('div', { class: 'buttons' }, h('button', { type: 'button', class: 'button retry', onclick: () => actions.regenerate(message) }, 'Try again')));
  return card;
}

function keyForm(send) {
  const field = h('input', { type: 'password', 'aria-label': 'API key', placeholder: 'API key', autocomplete: 'off', class: 'key' });
  return h('form', {
    class: 'buttons',
    onsubmit: e => {
      e.preventDefault();
      if (field.value.trim()) send(field.value.trim());
    },
  }, field, h('button', { type: 'submit', class: 'button primary' }, 'Use this key'));
}
