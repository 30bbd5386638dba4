// What the client scripts share. Each prints one line per check; its exit code is the number of failed ones.
export const baseUrl = process.argv[2];
export const model = 'gemma4-demo';
let failed = 0;

export async function check(name, run) {
  try {
    await run();
    console.log(`ok      ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAILED  ${name}: ${error?.stack ?? error}`);
  }
}

export function expect(condition, what) {
  if (!condition) throw new Error(`expected ${what}`);
}

export async function errorOf(run) {
  try { await run(); } catch (error) { return error; }
  throw new Error('expected an error');
}

export function finish() {
  process.exit(failed);
}
