// The browser's storage; where it is blocked, a memory that lasts as long as the page.

class Memory {
  getItem(key) { return this[key] ?? null; }

  setItem(key, value) { this[key] = String(value); }

  removeItem(key) { delete this[key]; }
}

export const local = usable('localStorage');
export const session = usable('sessionStorage');

function usable(name) {
  try {
    return Number.isInteger(window[name].length) ? window[name] : new Memory();
  } catch {
    return new Memory();
  }
}
