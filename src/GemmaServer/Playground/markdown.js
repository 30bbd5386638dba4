// A small Markdown renderer that builds DOM nodes and never parses HTML: a model's text can only become the elements named here.

import { copyButton, h } from './dom.js';
import { inline } from './inline.js';

const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s(.*)$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])(\s+|$)(.*)$/;
const QUOTE = /^ {0,3}> ?/;
const MAX_DEPTH = 6;

/** Shows the text in the element. Blocks that did not change keep their nodes, so a stream costs only its last block. */
export function renderMarkdown(element, text) {
  const sources = split(text.replaceAll('\r\n', '\n').split('\n'));
  const old = element.blockSources ?? [];
  let same = 0;
  while (same < old.length && same < sources.length && old[same] === sources[same]) same++;
  while (element.childNodes.length > same) element.lastChild.remove();
  for (let i = same; i < sources.length; i++) element.append(block(sources[i].split('\n'), 0));
  element.blockSources = sources;
}

/** Cuts lines into top-level blocks, each as its own source text. */
function split(lines) {
  const blocks = [];
  for (let i = 0; i < lines.length;) {
    if (lines[i].trim() === '') {
      i++;
      continue;
    }
    const end = endOf(lines, i);
    blocks.push(lines.slice(i, end).join('\n'));
    i = end;
  }
  return blocks;
}

function endOf(lines, i) {
  const fence = FENCE.exec(lines[i]);
  if (fence) {
    const closing = lines.findIndex((line, n) => n > i && closes(line, fence[1]));
    return closing < 0 ? lines.length : closing + 1;
  }
  if (HEADING.test(lines[i]) || RULE.test(lines[i])) return i + 1;
  let end = i + 1;
  if (QUOTE.test(lines[i])) {
    while (end < lines.length && QUOTE.test(lines[end])) end++;
    return end;
  }
  if (isTable(lines, i)) {
    while (end < lines.length && lines[end].includes('|') && lines[end].trim() !== '') end++;
    return end;
  }
  const first = ITEM.exec(lines[i]);
  if (first) return endOfList(lines, i, first);
  while (end < lines.length && lines[end].trim() !== '' && !begins(lines, end)) end++;
  return end;
}

/** Whether a line ends the paragraph above it. */
const begins = (lines, i) => FENCE.test(lines[i]) || HEADING.test(lines[i]) || RULE.test(lines[i]) || QUOTE.test(lines[i]) || /^\s{0,3}([-*+]|1[.)])\s+\S/.test(lines[i]) || isTable(lines, i);

const isTable = (lines, i) => lines[i].includes('|') && i + 1 < lines.length && lines[i + 1].includes('-') && isTableRule(lines[i + 1])
  && cells(lines[i]).length === cells(lines[i + 1]).length;

const isTableRule = line => cells(line).every(cell => /^:?-+:?$/.test(cell));

const closes = (line, fence) => line.trim().length >= fence.length && line.trim() === fence[0].repeat(line.trim().length);

const isOrdered = item => /\d/.test(item[2]);

function endOfList(lines, i, first) {
  const indent = first[1].length;
  let end = i + 1;
  for (let blank = false; end < lines.length; end++) {
    const line = lines[end];
    if (line.trim() === '') {
      blank = true;
      continue;
    }
    const deeper = line.length - line.trimStart().length > indent;
    const item = ITEM.exec(line);
    const sibling = item && !RULE.test(line) && item[1].length <= indent + 1 && isOrdered(item) === isOrdered(first);
    if (!deeper && !sibling && (blank || begins(lines, end))) break;
    blank = false;
  }
  while (lines[end - 1].trim() === '') end--;
  return end;
}

function block(lines, depth) {
  const fence = FENCE.exec(lines[0]);
  if (fence) return codeBlock(lines, fence);
  const heading = HEADING.exec(lines[0]);
  if (heading) return h(`h${Math.min(6, heading[1].length + 2)}`, { class: `level-${heading[1].length}` }, ...inline(headingText(heading[2])));
  if (RULE.test(lines[0])) return h('hr');
  if (QUOTE.test(lines[0])) return h('blockquote', {}, ...inner(lines.map(line => line.replace(QUOTE, '')), depth));
  if (isTable(lines, 0)) return table(lines);
  const item = ITEM.exec(lines[0]);
  if (item) return list(lines, item, depth);
  return h('p', {}, ...inline(lines.map(line => line.trim()).join('\n')));
}

/** Without the closing hashes that some writers add. */
function headingText(text) {
  const trimmed = text.trim();
  let end = trimmed.length;
  while (trimmed[end - 1] === '#') end--;
  return end === trimmed.length || /\s/.test(trimmed[end - 1] ?? ' ') ? trimmed.slice(0, end).trimEnd() : trimmed;
}

function inner(lines, depth) {
  if (depth >= MAX_DEPTH) return [h('p', {}, lines.join('\n'))];
  return split(lines).map(source => block(source.split('\n'), depth + 1));
}

function codeBlock(lines, [, fence, info]) {
  const isClosed = lines.length > 1 && closes(lines.at(-1), fence);
  const text = lines.slice(1, isClosed ? -1 : undefined).join('\n');
  return codeView(text, info.trim().split(/\s/)[0]);
}

/** A block of code with its language and a copy button. */
export function codeView(text, language) {
  return h('figure', { class: 'code' },
    h('figcaption', {}, h('span', {}, language || 'text'), copyButton('Copy code', () => text)),
    h('pre', { tabindex: '0' }, h('code', {}, text)));
}

function list(lines, first, depth) {
  const ordered = isOrdered(first);
  const start = parseInt(first[2], 10);
  const element = h(ordered ? 'ol' : 'ul', { start: ordered && start !== 1 ? String(start) : null });
  const items = [];
  for (const line of lines) {
    const item = ITEM.exec(line);
    if (item && !RULE.test(line) && item[1].length <= first[1].length + 1 && isOrdered(item) === ordered) items.push({ width: item[1].length + item[2].length + 1, lines: [item[4]] });
    else {
      const { width, lines: own } = items.at(-1);
      const indent = line.length - line.trimStart().length;
      own.push(line.slice(Math.min(indent, width)));
    }
  }
  for (const item of items) element.append(listItem(item.lines, depth));
  return element;
}

function listItem(lines, depth) {
  const task = /^\[([ xX])\]\s+(.*)$/.exec(lines[0]);
  const children = inner(task ? [task[2], ...lines.slice(1)] : lines, depth);
  // An item of one paragraph reads as a line, not as a paragraph.
  if (children[0]?.tagName === 'P') children.splice(0, 1, ...children[0].childNodes);
  if (!task) return h('li', {}, ...children);
  return h('li', { class: 'task' }, h('input', { type: 'checkbox', disabled: true, checked: task[1] !== ' ', 'aria-label': 'done' }), ...children);
}

function cells(line) {
  const inside = line.trim().replace(/^\|/, '').replace(/(?<!\\)\|$/, '');
  return inside.split(/(?<!\\)\|/).map(cell => cell.trim().replaceAll('\\|', '|'));
}

function table(lines) {
  const sides = cells(lines[1]).map(rule => rule.endsWith(':') ? (rule.startsWith(':') ? 'center' : 'right') : null);
  const row = (line, tag) => {
    const own = cells(line);
    return h('tr', {}, ...sides.map((side, i) => h(tag, { class: side && `align-${side}` }, ...inline(own[i] ?? ''))));
  };
  return h('div', { class: 'table', tabindex: '0', role: 'region', 'aria-label': 'Table' },
    h('table', {}, h('thead', {}, row(lines[0], 'th')), h('tbody', {}, ...lines.slice(2).map(line => row(line, 'td')))));
}
