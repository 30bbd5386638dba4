// Takes a conversation out of the page: as a file, or as the command that asks the same.

import { apiKey } from './api.js';
import { h } from './dom.js';
import { codeView } from './markdown.js';
import { curlOf, requestOf, wire } from './request.js';

const $ = id => document.getElementById(id);

export class ExportDialog {
  /** @param chat gives the conversation, model its model's name. */
  constructor(chat, model) {
    Object.assign(this, { chat, model });
    $('close-export').addEventListener('click', () => $('export-dialog').close());
    $('download').addEventListener('click', () => this.download());
  }

  show() {
    const { messages, settings } = this.chat();
    // What the last answer was an answer to; everything when the conversation waits for one.
    const upTo = messages.at(-1)?.role === 'assistant' ? messages.slice(0, -1) : messages;
    let command;
    try {
      command = curlOf(requestOf(upTo, this.model(), settings), new URL('v1/chat/completions', document.baseURI).href, apiKey.get() !== '');
    } catch (e) {
      command = `# ${e.message}`;
    }
    $('curl').replaceChildren(codeView(command, 'curl'));
    $('export-dialog').showModal();
  }

  download() {
    const { title, updated, messages, settings } = this.chat();
    // The messages once as the API takes them, and once with times, usage and errors.
    const whole = { title, model: this.model(), updated: new Date(updated).toISOString(), settings, messages: wire(messages, settings.system), turns: messages };
    const url = URL.createObjectURL(new Blob([JSON.stringify(whole, null, 2)], { type: 'application/json' }));
    h('a', { href: url, download: `${title.replace(/[^\p{L}\p{N}]+/gu, '-').slice(0, 40) || 'chat'}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }
}
