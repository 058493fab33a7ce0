// Starts a real Nutshell in a directory of its own, lets the browser tests
// have it, and stops it in order. With NUTSHELL_URL set it uses that one.
import { spawn } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdtempSync, chownSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = fileURLToPath(new URL('.', import.meta.url));
const test = (env) => new Promise((done) => spawn(process.execPath, [join(here, 'smoke.mjs')], { stdio: 'inherit', env: { ...process.env, ...env } }).on('exit', done));
if (process.env.NUTSHELL_URL) process.exit(await test({}));

const binary = process.env.NUTSHELL_BINARY ?? join(here, '../../nutshell');
if (!existsSync(binary)) {
  console.error(`there is no ${binary}; run make build, or name one in NUTSHELL_BINARY`);
  process.exit(1);
}
// As root Nutshell would build container images first. Processes of nobody
// are enough to try the pages.
const root = process.getuid() === 0;
const nobody = 65534;
const dir = mkdtempSync(join(tmpdir(), 'nutshell-e2e-'));
chmodSync(dir, 0o755);
copyFileSync(binary, join(dir, 'nutshell'));
chmodSync(join(dir, 'nutshell'), 0o755);
if (root) chownSync(dir, nobody, nobody);
const port = 20000 + Math.floor(Math.random() * 10000);
const edge = ['--edge-https', `127.0.0.1:${port + 2}`, '--edge-domain', 'apps.example.org'];
const director = spawn(join(dir, 'nutshell'), ['up', '--data-dir', join(dir, 'data'), '--listen', `127.0.0.1:${port}`, '--git-listen', `127.0.0.1:${port + 1}`, ...edge], {
  stdio: ['ignore', 'pipe', 'inherit'], cwd: dir, env: { PATH: process.env.PATH, HOME: dir, LANG: 'C.UTF-8' }, ...(root ? { uid: nobody, gid: nobody } : {}),
});
let said = '';
const password = await new Promise((found) => {
  const late = setTimeout(() => found(''), 60_000);
  director.on('exit', () => found(''));
  director.stdout.on('data', (d) => {
    said += d;
    const match = /^\s+password\s+(\S+)/m.exec(said);
    if (match && said.includes('Ctrl-C')) {
      clearTimeout(late);
      found(match[1]);
    }
  });
});
let status = 1;
if (password) {
  const php = existsSync('/usr/sbin/nginx') && readdirSync('/usr/sbin').some((f) => f.startsWith('php-fpm'));
  if (!php) console.log('skip the PHP site: nginx or php-fpm is missing');
  const mysql = existsSync('/usr/sbin/mariadbd');
  if (!mysql) console.log('skip the database: mariadbd is missing');
  status = await test({ NUTSHELL_URL: `https://127.0.0.1:${port}`, NUTSHELL_PASSWORD: password, ...(php ? { NUTSHELL_E2E_PHP: '1', NUTSHELL_E2E_EDGE: '1' } : {}), ...(mysql ? { NUTSHELL_E2E_MYSQL: '1' } : {}) });
} else console.error('nutshell up did not get ready:\n' + said);
if (director.exitCode === null) {
  director.kill('SIGINT');
  await Promise.race([new Promise((r) => director.on('exit', r)), new Promise((r) => setTimeout(r, 20_000))]);
}
rmSync(dir, { recursive: true, force: true });
process.exit(status);
