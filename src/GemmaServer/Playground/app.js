// Puts the page together: what the user does, and what follows from it.

import { apiKey, listModels } from './api.js';
import { announce, grow, h, icon, toast } from './dom.js';
import { ExportDialog } from './export.js';
import { MessageList, errorCard } from './messages.js';
import { SettingsForm, initPanels, showChats } from './panels.js';
import { requestOf } from './request.js';
import { deleteChat, listChats, newChat, saveChat, theme, titleOf } from './store.js';
import { emptyAnswer, runTurn } from './turn.js';
import { welcome } from './welcome.js';

const $ = id => document.getElementById(id);
for (const button of document.querySelectorAll('[data-icon]')) button.prepend(icon(button.dataset.icon));

let chat = newChat();
let running = null;      // { controller, message } while an answer comes

const panels = initPanels();
const list = new MessageList($('messages'), $('scroll'), { regenerate, edit, giveResults, retryWithKey });
const settingsForm = new SettingsForm(() => saveChat(chat));
const exporter = new ExportDialog(() => chat, () => $('model').value);

// ---- conversations

function show() {
  settingsForm.bind(chat.settings);
  render();
  list.toEnd();
}

function render() {
  list.show(chat, running?.message ?? null);
  if (chat.messages.length === 0) $('messages').append(welcome($('model').value, start));
  showChats(listChats(), chat.id, { open: openChat, remove });
  document.title = chat.messages.length > 0 ? `${chat.title} · GemmaServer` : 'GemmaServer playground';
}

function openChat(other) {
  stop();
  chat = other;
  panels.closeOverlays();
  show();
  $('prompt').focus();
}

function startChat() {
  openChat(newChat());
  announce('New chat.');
}

function remove(other) {
  if (other.id === chat.id) startChat();
  deleteChat(other.id);
  render();
  toast(`“${other.title}” was deleted.`, 'Undo', () => {
    saveChat(other);
    render();
  });
}

function save() {
  chat.updated = Date.now();
  if (!saveChat(chat)) toast('This conversation is too large to be kept in this browser.');
}

// ---- turns

function send() {
  const text = $('prompt').value;
  if (running || !text.trim()) return;
  $('prompt').value = '';
  grow($('prompt'));
  ask(text);
}

/** Begins with one of the ideas. */
function start(text, settings) {
  settingsForm.change(settings);
  ask(text);
}

function ask(text) {
  if (chat.messages.length === 0) chat.title = titleOf(text);
  chat.messages.push({ role: 'user', content: text });
  run();
}

/** Lets the model answer the messages as they are. */
async function run() {
  let body;
  const message = emptyAnswer($('model').value);
  try {
    body = requestOf(chat.messages, message.model, chat.settings);
  } catch (e) {
    message.error = { message: `The tools in the settings cannot be sent. ${e.message}`, type: 'client_error', param: 'tools' };
  }
  const turn = { controller: new AbortController(), message };
  const owner = chat;
  owner.messages.push(message);
  if (body) {
    running = turn;
    list.began = performance.now();
    setRunning(true);
    render();
    list.toEnd();
    save();
    const clock = setInterval(() => list.update(message), 200);
    await runTurn(body, message, turn.controller.signal, () => list.update(message));
    clearInterval(clock);
    if (running === turn) {
      running = null;
      setRunning(false);
    }
  }
  if (owner !== chat) {
    saveChat(owner);
    return;
  }
  const stick = list.isAtEnd;
  render();
  if (stick) list.toEnd();
  save();
  afterTurn(message);
}

function afterTurn(message) {
  announce(message.error ? 'The answer failed.' : message.finish === 'stopped' ? 'Stopped.' : message.toolCalls.length > 0 ? 'The model calls a tool and waits for its result.' : 'The answer is complete.');
  if (message.error?.status === 401) $('key-field').hidden = false;
  const isIdle = document.activeElement === $('prompt') && !$('prompt').value || document.activeElement === document.body;
  if (!isIdle || matchMedia('(pointer: coarse)').matches) return;
  if (message.toolCalls.length > 0) $('messages').querySelector('.tool-result textarea')?.focus();
  else $('prompt').focus();
}

function setRunning(on) {
  $('send').hidden = on;
  $('stop').hidden = !on;
  if (on) announce('The model answers.');
}

function stop() {
  running?.controller.abort();
}

function regenerate(message) {
  if (running) return;
  chat.messages.length = chat.messages.indexOf(message);
  run();
}

function edit(message, text) {
  if (running) return;
  chat.messages.length = chat.messages.indexOf(message);
  ask(text);
}

function giveResults(message, results) {
  if (running) return;
  chat.messages.length = chat.messages.indexOf(message) + 1;
  chat.messages.push(...results);
  run();
}

function setKey(key) {
  apiKey.set(key);
  $('key').value = key;
  $('key-field').hidden = false;
}

function retryWithKey(key, message) {
  setKey(key);
  if (message) regenerate(message);
  loadModels();
}

// ---- the model picker

async function loadModels() {
  const picker = $('model');
  try {
    const models = await listModels();
    const wanted = picker.value;
    picker.replaceChildren(...models.map(model => h('option', { value: model.id, title: `Context: ${model.max_model_len} tokens` }, model.id)));
    if (models.some(model => model.id === wanted)) picker.value = wanted;
    picker.disabled = false;
    $('notice').hidden = true;
    if (chat.messages.length === 0) render();
  } catch (failure) {
    picker.replaceChildren(h('option', { value: '' }, failure.code === 'model_loading' ? 'Loading …' : 'No model'));
    picker.disabled = true;
    if (failure.status === 401) $('key-field').hidden = false;
    $('notice').replaceChildren(failure.code === 'model_loading'
      ? h('p', {}, 'The server is loading its model. This page goes on when it is there.')
      : errorCard(failure, failure.requestId, { retryWithKey }));
    $('notice').hidden = false;
    if (failure.status !== 401) setTimeout(loadModels, 1000 * Math.min(failure.retryAfter ?? 3, 5));
  }
}

// ---- light and dark

function showTheme() {
  const name = theme.get();
  $('theme').replaceChildren(icon(name));
  $('theme').title = `Theme: ${name === 'auto' ? 'as the system' : name}`;
  $('theme').setAttribute('aria-label', $('theme').title);
}

$('theme').addEventListener('click', () => {
  theme.set({ auto: 'light', light: 'dark', dark: 'auto' }[theme.get()]);
  showTheme();
});

// ---- wiring

$('composer').addEventListener('submit', e => {
  e.preventDefault();
  send();
});
$('prompt').addEventListener('input', () => grow($('prompt')));
$('prompt').addEventListener('keydown', e => {
  if (e.key !== 'Enter' || e.shiftKey || e.isComposing) return;
  e.preventDefault();
  send();
});
$('stop').addEventListener('click', () => {
  stop();
  $('prompt').focus();
});
$('think').addEventListener('click', () => settingsForm.change({ thinking: !chat.settings.thinking }));
$('tools-chip').addEventListener('click', () => {
  panels.open('settings');
  $('tools').focus();
});
$('new-chat').addEventListener('click', startChat);
$('export').addEventListener('click', () => exporter.show());
$('key').addEventListener('change', () => {
  setKey($('key').value.trim());
  loadModels();
});
$('to-end').addEventListener('click', () => list.toEnd());
$('scroll').addEventListener('scroll', () => { $('to-end').hidden = list.isAtEnd; }, { passive: true });
document.addEventListener('keydown', e => {
  if (e.key === 'Escape' && !$('export-dialog').open) {
    if (!panels.closeOverlays()) stop();
  } else if ((e.ctrlKey || e.metaKey) && e.shiftKey && e.code === 'KeyO') {
    e.preventDefault();
    startChat();
  }
});
addEventListener('storage', () => showChats(listChats(), chat.id, { open: openChat, remove }));

$('key').value = apiKey.get();
$('key-field').hidden = !apiKey.get();
showTheme();
show();
loadModels();
$('prompt').focus();
