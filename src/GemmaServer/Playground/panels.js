// The side panels: conversations on the left, settings on the right. On narrow screens they lie over the page.

import { grow, h, iconButton } from './dom.js';
import { DEFAULT_SETTINGS } from './store.js';
import { SAMPLE_TOOL, readTools } from './request.js';

const $ = id => document.getElementById(id);
const narrow = matchMedia('(max-width: 900px)');
const medium = matchMedia('(max-width: 1180px)');

/** Opens and closes the panels, and keeps the focus where it belongs. */
export function initPanels() {
  const lies = id => id === 'chats' ? narrow.matches : medium.matches;
  const set = (id, open) => {
    $(id).classList.toggle('open', open);
    $(id).classList.toggle('closed', !open);
    $(id).inert = !open;
    if (open) $(id).querySelectorAll('textarea').forEach(grow);
    $(`toggle-${id}`).setAttribute('aria-expanded', String(open));
    $('shade').hidden = !['chats', 'settings'].some(other => lies(other) && $(other).classList.contains('open'));
  };
  const isOpen = id => $(id).classList.contains('open');
  const close = id => {
    set(id, false);
    $(`toggle-${id}`).focus();
  };
  for (const id of ['chats', 'settings']) {
    $(`toggle-${id}`).addEventListener('click', () => {
      set(id, !isOpen(id));
      if (isOpen(id)) $(id).querySelector('button, input, textarea').focus();
    });
  }
  for (const button of document.querySelectorAll('[data-close]')) button.addEventListener('click', () => close(button.dataset.close));
  $('shade').addEventListener('click', () => ['chats', 'settings'].filter(id => lies(id) && isOpen(id)).forEach(close));
  const fit = () => ['chats', 'settings'].forEach(id => set(id, !lies(id)));
  narrow.addEventListener('change', fit);
  medium.addEventListener('change', fit);
  fit();
  return {
    open: id => set(id, true),
    /** Closes what lies over the page; true when something did. */
    closeOverlays() {
      const over = ['chats', 'settings'].filter(id => lies(id) && isOpen(id));
      over.forEach(close);
      return over.length > 0;
    },
  };
}

/** The list of conversations. */
export function showChats(chats, currentId, { open, remove }) {
  $('chat-list').replaceChildren(...chats.map(chat => h('li', { class: chat.id === currentId ? 'current' : null },
    h('button', { type: 'button', class: 'chat', title: chat.title, 'aria-current': chat.id === currentId ? 'true' : null, onclick: () => open(chat) }, chat.title),
    iconButton('bin', `Delete “${chat.title}”`, () => remove(chat)))));
}

/** Binds the settings form to a conversation's settings. */
export class SettingsForm {
  constructor(onChange) {
    this.form = $('settings-form');
    this.onChange = onChange;
    this.form.addEventListener('submit', e => e.preventDefault());
    this.form.addEventListener('input', () => this.read());
    $('sample-tool').addEventListener('click', () => this.change({ tools: SAMPLE_TOOL }));
    $('reset-settings').addEventListener('click', () => this.change(DEFAULT_SETTINGS));
    for (const area of this.form.querySelectorAll('textarea')) area.addEventListener('input', () => grow(area));
  }

  /** Shows these settings from now on and changes them in place. */
  bind(settings) {
    this.settings = settings;
    for (const name of Object.keys(DEFAULT_SETTINGS)) {
      const field = this.form.elements[name];
      if (field.type === 'checkbox') field.checked = settings[name];
      else field.value = settings[name];
    }
    requestAnimationFrame(() => this.form.querySelectorAll('textarea').forEach(grow));
    this.check();
  }

  change(some) {
    Object.assign(this.settings, some);
    this.bind(this.settings);
    this.onChange();
  }

  read() {
    for (const name of Object.keys(DEFAULT_SETTINGS)) {
      const field = this.form.elements[name];
      this.settings[name] = field.type === 'checkbox' ? field.checked : field.value;
    }
    this.check();
    this.onChange();
  }

  /** Says what the tools field holds, and shows both switches of the composer. */
  check() {
    const note = $('tools-note');
    let tools = [];
    let problem = null;
    try {
      tools = readTools(this.settings.tools);
    } catch (e) {
      problem = e.message;
    }
    note.textContent = problem ?? (tools.length > 0 ? tools.map(tool => tool.function.name).join(', ') : 'The model may call them; you give their results.');
    note.classList.toggle('problem', problem !== null);
    this.form.elements.tools.setAttribute('aria-invalid', String(problem !== null));
    $('think').setAttribute('aria-pressed', String(this.settings.thinking));
    $('tools-chip').lastElementChild.textContent = tools.length > 0 ? `Tools · ${tools.length}` : 'Tools';
    $('tools-chip').classList.toggle('on', tools.length > 0);
  }
}
