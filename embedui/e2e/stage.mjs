// A development director of its own and a browser that looks at it, for tests
// of what must hold when things go wrong.
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

// Found without waiting: browser.mjs reads the address as soon as this module waits for anything.
const port = Number(execFileSync(process.execPath, ['-e', "const s = require('net').createServer().listen(0, '127.0.0.1', () => (console.log(s.address().port), s.close()))"]));
process.env.NUTSHELL_URL = `http://127.0.0.1:${port}`;
process.env.NUTSHELL_PASSWORD = 'nutshell';
const { open, page, shoot } = await import('./browser.mjs');

export const faults = [];
let director;
export async function start(scenario = 'seed') {
  director = spawn(process.execPath, [fileURLToPath(new URL('../dev/fake.mjs', import.meta.url)), '--port', String(port), '--scenario', scenario], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, FAKE_SPEED: '0.6', FAKE_SESSION: 'kept' } });
  createInterface(director.stderr).on('line', (line) => (line.startsWith('DISHONEST') ? faults.push(line) : console.error(line)));
  await new Promise((ready) => director.stdout.once('data', ready));
}
/** signal tells the director something; SIGUSR2: break every stream of events. */
export const signal = (name) => director.kill(name);
export const stop = () => new Promise((gone) => (director.once('exit', gone), director.kill('SIGKILL')));

const failures = [];
await start();
export const browser = await open();
export const p = await page(browser, 'desktop', 'light', faults);

/** step is one thing that must hold. NUTSHELL_E2E_STEP chooses those whose names have it, beside signing in. */
export async function step(name, work) {
  if (!name.startsWith('sign in') && !name.includes(process.env.NUTSHELL_E2E_STEP ?? '')) return;
  const began = Date.now();
  try {
    await work();
    console.log('ok  ', name, `(${((Date.now() - began) / 1000).toFixed(1)} s)`);
  } catch (e) {
    failures.push(name);
    if (name.startsWith('sign in')) throw e;
    console.log('FAIL', name, e.message.split('\n').slice(0, 6).join(' / '));
    await shoot(p, 'behaviour-' + failures.length);
  }
}

/** api asks the director behind the page's back, as another user would. */
export const api = (path, options = {}, by = p) => by.evaluate(async ([path, options]) => {
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
  for (const f of new Set(faults)) console.log('FAULT', f);
  process.exit(failures.length || faults.length ? 1 : 0);
}
