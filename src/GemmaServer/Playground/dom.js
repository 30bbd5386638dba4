// Small helpers around the DOM. Text always becomes text nodes; nothing here takes markup.

/** Makes an element: h('p', { class: 'x', onclick: f, 'aria-label': 'y' }, 'text', child). */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'class') element.className = value;
    else if (name === 'value' || name === 'checked' || name === 'open') element[name] = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.filter(child => child !== null && child !== undefined && child !== false));
  return element;
}

const PATHS = {
  add: 'M12 5v14M5 12h14',
  menu: 'M4 7h16M4 12h16M4 17h16',
  sliders: 'M4 8h10M18 8h2M4 16h2M10 16h10M16 6v4M8 14v4',
  send: 'M12 19V5M6 11l6-6 6 6',
  stop: 'M7 7h10v10H7z',
  image: 'M4 5h16v14H4zM4 16l5-5 4 4 2-2 5 5M15 9.5h.01',
  copy: 'M9 9h11v11H9zM5 15H4V4h11v1',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  again: 'M20 11a8 8 0 1 0-2.3 6.3M20 5v6h-6',
  edit: 'M4 20h4L19 9l-4-4L4 16zM13.5 6.5l4 4',
  close: 'M6 6l12 12M18 6L6 18',
  bin: 'M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10 11v5M14 11v5',
  tool: 'M14.5 6.5a4 4 0 0 0-5.3 5L4 16.7 7.3 20l5.2-5.2a4 4 0 0 0 5-5.3L15 12l-3-3z',
  think: 'M9.5 18h5M10 21h4M8.5 15c-1.5-1-2.5-2.7-2.5-4.7a6 6 0 0 1 12 0c0 2-1 3.7-2.5 4.7V15z',
  auto: 'M12 3.5a8.5 8.5 0 1 0 0 17zM12 3.5a8.5 8.5 0 0 1 0 17',
  light: 'M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2.5v2M12 19.5v2M2.5 12h2M19.5 12h2M5.3 5.3l1.4 1.4M17.3 17.3l1.4 1.4M5.3 18.7l1.4-1.4M17.3 6.7l1.4-1.4',
  dark: 'M20 14.5A8.5 8.5 0 0 1 9.5 4a8.5 8.5 0 1 0 10.5 10.5z',
  share: 'M12 15V4M8 8l4-4 4 4M5 13v7h14v-7',
  down: 'M12 5v14M6 13l6 6 6-6',
  chevron: 'M9 6l6 6-6 6',
  warn: 'M12 4l9 16H3zM12 10v4.5M12 17.2h.01',
};

/** A line icon that reads as decoration to screen readers. */
export function icon(name) {
  const ns = 'http://www.w3.org/2000/svg';
  const svg = document.createElementNS(ns, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('aria-hidden', 'true');
  svg.setAttribute('class', 'icon');
  const path = document.createElementNS(ns, 'path');
  path.setAttribute('d', PATHS[name]);
  svg.append(path);
  return svg;
}

/** A button that shows an icon; its label is read out and shown as a tooltip. */
export function iconButton(name, label, onclick, props = {}) {
  return h('button', { type: 'button', class: 'icon-button', 'aria-label': label, title: label, onclick, ...props }, icon(name));
}

/** A button that copies what text() gives, and says so for a moment. */
export function copyButton(label, text, props = {}) {
  const button = iconButton('copy', label, async () => {
    await copy(text());
    button.replaceChildren(icon('check'));
    announce('Copied.');
    setTimeout(() => button.replaceChildren(icon('copy')), 1500);
  }, props);
  return button;
}

/** Puts text on the clipboard; pages that are not a secure context have no clipboard API, so they get the old way. */
export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h('textarea', { class: 'visually-hidden', value: text });
  document.body.append(area);
  area.select();
  document.execCommand('copy');
  area.remove();
}

/** Tells screen readers what happened. */
export function announce(text) {
  document.getElementById('status').textContent = text;
}

/** Shows a line for a while, with something that can be done about it. */
export function toast(text, action, onAction) {
  const box = document.getElementById('toast');
  const hide = () => { box.hidden = true; };
  clearTimeout(toast.timer);
  toast.timer = setTimeout(hide, 8000);
  box.replaceChildren(h('span', {}, text));
  if (action) {
    box.append(h('button', {
      type: 'button',
      class: 'link',
      onclick: () => {
        hide();
        onAction();
      },
    }, action));
  }
  box.hidden = false;
}

/** Lets a textarea grow with its text. One that is not shown has no height to measure. */
export function grow(area) {
  area.style.height = 'auto';
  if (area.offsetHeight === 0) return;
  area.style.height = `${area.scrollHeight + area.offsetHeight - area.clientHeight}px`;
}
