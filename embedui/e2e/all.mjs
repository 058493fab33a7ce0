// Runs every file of behaviour tests, each with a development director and a
// browser of its own, a few at a time:  node e2e/all.mjs [name…]
// Whatever imports stage.mjs is such a file. NUTSHELL_E2E_AT_ONCE says how many
// run at a time.
import { spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
const only = process.argv.slice(2);
const files = readdirSync(here).filter((f) => f.endsWith('.mjs') && f !== 'all.mjs' && /from '\.\/stage\.mjs'/.test(readFileSync(join(here, f), 'utf8')) && (!only.length || only.includes(basename(f, '.mjs'))));
const limit = 25 * 60_000; // a test that waits for ever is a failure with a name

const run = (file) => new Promise((done) => {
  const began = Date.now();
  const child = spawn(process.execPath, [join(here, file)], { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
  let said = '';
  for (const out of [child.stdout, child.stderr]) out.on('data', (d) => (said += d));
  const late = setTimeout(() => {
    said += `FAIL ${file} did not end in ${limit / 60_000} minutes\n`;
    process.kill(-child.pid, 'SIGKILL'); // with its director and browser
  }, limit);
  child.on('exit', (code) => {
    clearTimeout(late);
    console.log(`== ${basename(file, '.mjs')}: ${code === 0 ? 'passed' : 'FAILED'} in ${((Date.now() - began) / 1000).toFixed(0)} s\n${said.trimEnd()}`);
    done(code === 0);
  });
});

let failed = 0;
// The longest first, so that none of them is left alone at the end.
const longest = ['gallery.mjs', 'guard.mjs', 'services.mjs', 'data.mjs', 'behaviour.mjs'];
const waiting = files.slice().sort((a, b) => (longest.indexOf(b) >= 0) - (longest.indexOf(a) >= 0) || longest.indexOf(a) - longest.indexOf(b));
await Promise.all(Array.from({ length: Number(process.env.NUTSHELL_E2E_AT_ONCE ?? Math.max(2, Math.min(4, availableParallelism() - 1))) }, async () => {
  for (let file = waiting.shift(); file; file = waiting.shift()) if (!(await run(file))) failed++;
}));
console.log(`${files.length} files, ${failed} failed`);
process.exit(failed || !files.length ? 1 : 0);
