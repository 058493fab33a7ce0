// A development director of its own and a browser that looks at it, for tests
// of what must hold when things go wrong.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const port = 5700 + Math.floor(Math.random() * 200);
process.env.NUTSHELL_URL = `http://127.0.0.1:${port}`;
process.env.NUTSHELL_PASSWORD = 'nutshell';
const { open, page, shoot } = await import('./browser.mjs');

let director;
export async function start(scenario = 'seed') {
  director = spawn(process.execPath, [fileURLToPath(new URL('../dev/fake.mjs', import.meta.url)), '--port', String(port), '--scenario', scenario], { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, FAKE_SPEED: '0.6', FAKE_SESSION: 'kept' } });
  await new Promise((ready) => director.stdout.once('data', ready));
}
export const stop = () => new Promise((gone) => (director.once('exit', gone), director.kill('SIGKILL')));

export const faults = [];
const failures = [];
await start();
export const browser = await open();
export const p = await page(browser, 'desktop', 'light', faults);

export async function step(name, work) {
  try {
    await work();
    console.log('ok  ', name);
  } catch (e) {
    failures.push(name);
    console.log('FAIL', name, e.message.split('\n').slice(0, 6).join(' / '));
    await shoot(p, 'behaviour-' + failures.length);
  }
}

/** api asks the director behind the page's back, as another user would. */
export const api = (path, options = {}) => p.evaluate(async ([path, options]) => {
  const r = await fetch('/api/v1' + path, { ...options, headers: { 'X-CSRF-Token': 'fake-csrf-token' } });
  return r.status === 204 ? null : r.json();
}, [path, options]);
export const php = '/applications/shop/services/php';

const wire = await p.context().newCDPSession(p);
await wire.send('Network.enable');
/** link makes the line slow, or breaks it: bytes per second, 0 for none, -1 for no limit. */
export const link = (rate) => wire.send('Network.emulateNetworkConditions', { offline: rate === 0, latency: 0, downloadThroughput: -1, uploadThroughput: rate || -1 });

const files = mkdtempSync(join(tmpdir(), 'nutshell-e2e-'));
export const archive = (name, size) => (writeFileSync(join(files, name), Buffer.alloc(size, 7)), join(files, name));

/** end closes everything and says how it went. */
export async function end() {
  await browser.close();
  await stop();
  rmSync(files, { recursive: true });
  for (const f of faults) console.log('FAULT', f);
  process.exit(failures.length || faults.length ? 1 : 0);
}
