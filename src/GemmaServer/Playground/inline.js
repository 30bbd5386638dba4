// Inline Markdown to DOM nodes: code, bold, italic, strikethrough, links, line breaks. What is not understood stays text.

import { h } from './dom.js';

const MAX_DEPTH = 8;
const MARKS = [['**', 'strong'], ['__', 'strong'], ['~~', 'del'], ['*', 'em'], ['_', 'em']];
const SPECIAL = /[\\`*_~[!<h\n]/g;
const BARE_LINK = /https?:\/\/[^\s<>"'`]+/y;
const ANGLE_LINK = /<(https?:\/\/[^\s<>]+|mailto:[^\s<>]+)>/y;
const WORD = /[\p{L}\p{N}]/u;

/** The nodes of one paragraph's text. */
export function inline(text, depth = 0) {
  const nodes = [];
  const missing = new Set();      // marks that have no closing one further on; looked for once
  let plain = '';
  let i = 0;
  const push = node => {
    if (plain) nodes.push(document.createTextNode(plain));
    plain = '';
    nodes.push(node);
  };
  while (i < text.length) {
    SPECIAL.lastIndex = i;
    const next = SPECIAL.exec(text)?.index ?? text.length;
    plain += text.slice(i, next);
    i = next;
    if (i === text.length) break;
    const found = depth < MAX_DEPTH ? match(text, i, depth, missing) : null;
    if (found) {
      if (found.node) push(found.node);
      else plain += found.text;
      i = found.end;
    } else {
      plain += text[i++];
    }
  }
  if (plain) nodes.push(document.createTextNode(plain));
  return nodes;
}

function match(text, i, depth, missing) {
  switch (text[i]) {
    case '\\': return /[!-/:-@[-`{-~]/.test(text[i + 1] ?? '') ? { text: text[i + 1], end: i + 2 } : null;
    case '`': return code(text, i, missing);
    case '\n': return { node: h('br'), end: i + 1 };
    case '<': return autolink(text, i, ANGLE_LINK, 1);
    case 'h': return WORD.test(text[i - 1] ?? '') ? null : autolink(text, i, BARE_LINK, 0);
    case '!': return text[i + 1] === '[' ? link(text, i + 1, depth, missing) : null;     // images are not loaded, only linked
    case '[': return link(text, i, depth, missing);
    default: return emphasis(text, i, depth, missing);
  }
}

function code(text, i, missing) {
  let ticks = 1;
  while (text[i + ticks] === '`') ticks++;
  const fence = '`'.repeat(ticks);
  if (missing.has(fence)) return { text: fence, end: i + ticks };
  for (let end = text.indexOf(fence, i + ticks); end >= 0; end = text.indexOf(fence, end)) {
    let run = ticks;
    while (text[end + run] === '`') run++;
    if (run === ticks) {
      const body = text.slice(i + ticks, end).replaceAll('\n', ' ');
      const isPadded = body.startsWith(' ') && body.endsWith(' ') && body.trim() !== '';
      return { node: h('code', {}, isPadded ? body.slice(1, -1) : body), end: end + ticks };
    }
    end += run;
  }
  missing.add(fence);
  return { text: fence, end: i + ticks };
}

function emphasis(text, i, depth, missing) {
  for (const [mark, tag] of MARKS) {
    if (missing.has(mark) || !text.startsWith(mark, i)) continue;
    const start = i + mark.length;
    if (/\s/.test(text[start] ?? ' ') || (mark[0] === '_' && WORD.test(text[i - 1] ?? ''))) continue;
    let tries = 0;
    for (let end = text.indexOf(mark, start + 1); end >= 0; end = text.indexOf(mark, end + 1)) {
      if (++tries > 16) break;
      const after = text[end + mark.length] ?? '';
      const closes = !/\s/.test(text[end - 1]) && !(mark[0] === '_' && WORD.test(after)) && !(mark.length === 1 && (after === mark || text[end - 1] === mark));
      if (closes) return { node: h(tag, {}, ...inline(text.slice(start, end), depth + 1)), end: end + mark.length };
    }
    if (tries === 0) missing.add(mark);
  }
  return null;
}

function link(text, i, depth, missing) {
  if (missing.has('](')) return null;
  const middle = text.indexOf('](', i);
  if (middle < 0) missing.add('](');
  if (middle < 0 || text.slice(i + 1, middle).includes('[')) return null;
  let end = middle + 2;
  for (let open = 1; end < text.length && text[end] !== '\n'; end++) {
    if (text[end] === '(') open++;
    if (text[end] === ')' && --open === 0) break;
  }
  if (text[end] !== ')') return null;
  const address = text.slice(middle + 2, end).trim().replace(/\s+["'(].*$/, '').replace(/^<(.*)>$/, '$1');
  const url = safeUrl(address);
  if (!url) return { text: text.slice(i, end + 1), end: end + 1 };
  return { node: anchor(url, inline(text.slice(i + 1, middle), MAX_DEPTH)), end: end + 1 };
}

function autolink(text, i, pattern, group) {
  pattern.lastIndex = i;
  const found = pattern.exec(text);
  if (!found) return null;
  let address = found[group];
  let end = pattern.lastIndex;
  if (group === 0) {
    const trimmed = address.replace(/[.,:;!?)\]*_~]+$/, '');
    end -= address.length - trimmed.length;
    address = trimmed;
  }
  const url = safeUrl(address);
  return url ? { node: anchor(url, [document.createTextNode(address.replace(/^mailto:/, ''))]), end } : null;
}

const anchor = (url, children) => h('a', { href: url, target: '_blank', rel: 'noopener noreferrer nofollow' }, ...children);

/** The address if it is one that a click may follow: http, https or mailto, nothing else. */
export function safeUrl(address) {
  // Browsers drop tabs and line ends inside a scheme, so an address with control characters is none.
  if (/[\u0000-\u0020\u007f]/.test(address) || !/^(https?:\/\/|mailto:)/i.test(address)) return null;
  try {
    const url = new URL(address);
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}
