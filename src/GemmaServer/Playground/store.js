// What stays in this browser: conversations (bounded), the settings of the last one, the theme.

import { local } from './storage.js';

const PREFIX = 'gemmaserver.chat.';
const SETTINGS = 'gemmaserver.settings';
const THEME = 'gemmaserver.theme';

/** More than these, and the oldest go. */
export const MAX_CHATS = 50;
const MAX_CHARACTERS = 2_000_000;

export const DEFAULT_SETTINGS = { system: '', temperature: '', topP: '', topK: '', maxTokens: '', seed: '', stop: '', thinking: false, tools: '' };

/** A new conversation; it is kept only when something was said in it. */
export function newChat() {
  return { id: newId(), title: 'New chat', updated: Date.now(), messages: [], settings: { ...DEFAULT_SETTINGS, ...read(SETTINGS) } };
}

/** All conversations, newest first. Each has an entry of its own, so two tabs do not overwrite each other's. */
export function listChats() {
  const chats = [];
  for (const key of Object.keys(local)) {
    const chat = key.startsWith(PREFIX) ? read(key) : null;
    if (chat?.id && Array.isArray(chat.messages)) chats.push({ ...chat, settings: { ...DEFAULT_SETTINGS, ...chat.settings } });
  }
  return chats.sort((a, b) => b.updated - a.updated);
}

/** Keeps a conversation, and makes room for it where necessary. False when it is too large for this browser. */
export function saveChat(chat) {
  write(SETTINGS, chat.settings);
  if (chat.messages.length === 0) return true;
  const text = JSON.stringify(chat);
  const others = listChats().filter(other => other.id !== chat.id);
  let room = MAX_CHARACTERS - text.length;
  others.forEach((other, i) => {
    room -= local.getItem(PREFIX + other.id)?.length ?? 0;
    if (i >= MAX_CHATS - 1 || room < 0) deleteChat(other.id);
  });
  for (;;) {
    try {
      local.setItem(PREFIX + chat.id, text);
      return true;
    } catch {
      const oldest = others.pop();
      if (!oldest) return false;
      deleteChat(oldest.id);
    }
  }
}

export const deleteChat = id => local.removeItem(PREFIX + id);

/** A conversation's name is how it began. */
export const titleOf = text => text.trim().replace(/\s+/g, ' ').slice(0, 60) || 'New chat';

/** 'auto', 'light' or 'dark'. */
export const theme = {
  get: () => document.documentElement.dataset.theme ?? 'auto',
  set(name) {
    if (name === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    write(THEME, name, text => text);
  },
};

// crypto.randomUUID wants a secure context, which a server in the local network is not.
const newId = () => Array.from(crypto.getRandomValues(new Uint32Array(3)), n => n.toString(36)).join('');

function read(key) {
  try {
    return JSON.parse(local.getItem(key));
  } catch {
    return null;
  }
}

function write(key, value, format = JSON.stringify) {
  try {
    local.setItem(key, format(value));
  } catch {
    // A full or blocked storage costs only the memory of it.
  }
}
