// The life of a PHP site, by the pages and a stock git alone.
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { shoot } from './browser.mjs';

const long = { timeout: 180_000 };

// fetch refuses some ports, as browsers do
const ask = (url) => new Promise((done) => {
  get(url, (r) => {
    let text = '';
    r.on('data', (d) => (text += d)).on('end', () => done(text));
  }).on('error', () => done(''));
});
// The address is read anew each time: an instance that a busy machine kept from answering is replaced, and the next one has another.
async function answers(p, text) {
  const until = Date.now() + 180_000;
  for (;;) {
    const url = await p.locator('.url a').filter({ hasText: 'http://' }).first().getAttribute('href', long);
    if ((await ask(url)).includes(text)) return url;
    if (Date.now() > until) throw new Error(`${url} does not answer with ${text}`);
    await new Promise((r) => setTimeout(r, 100));
  }
}

const dir = mkdtempSync(join(tmpdir(), 'nutshell-site-'));
process.on('exit', () => rmSync(dir, { recursive: true, force: true })); // also of a life that ended before
const page = (text) => `<?php echo "${text} ", 6 * 7, " ", getenv("SHOP_MODE") ?: ($_ENV["SHOP_MODE"] ?? ""); usleep(20000);`;
function site(text, ballast = 0) {
  const from = join(dir, text);
  mkdirSync(from);
  writeFileSync(join(from, 'index.php'), page(text));
  if (ballast) writeFileSync(join(from, 'ballast.bin'), randomBytes(ballast));
  execFileSync('tar', ['czf', join(dir, text + '.tar.gz'), '-C', from, '.']);
  return join(dir, text + '.tar.gz');
}
// git is run beside this process, which has to go on driving the browser.
const git = (at, ...words) => new Promise((done, failed) => {
  const env = { ...process.env, GIT_SSH_COMMAND: `ssh -F none -i ${join(dir, 'key')} -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile=${join(dir, 'known')}`, GIT_CONFIG_GLOBAL: '/dev/null', GIT_TERMINAL_PROMPT: '0' };
  execFile('git', ['-c', 'user.name=e2e', '-c', 'user.email=e2e@example.org', ...words], { cwd: at, env, timeout: 60_000 }, (e, out, err) => (e ? failed(new Error(`git ${words[0]}: ${err}`)) : done(out + err)));
});

/** php drives a site; p shows the application's page when it begins. */
export async function php(p, app, step, running) {
  try {
    await drive(p, app, step, running);
  } finally {
    rmSync(dir, { recursive: true });
  }
}

async function drive(p, app, step, running) {
  const idle = () => p.locator('section.now').waitFor({ state: 'detached', ...long });
  const tab = (name) => p.getByRole('navigation', { name: 'Parts of the service' }).getByRole('link', { name }).click();
  await p.getByRole('navigation', { name: 'Where you are' }).getByRole('link', { name: app }).click();
  await p.getByRole('link', { name: 'Add a service' }).click();
  await p.locator('label', { has: p.locator('input[value=php]') }).click();
  await p.locator('main').getByRole('button', { name: /^Add / }).click();
  await p.getByRole('heading', { name: 'php', level: 1 }).waitFor();
  await step('php: upload, start, and the page answers', async () => {
    await p.getByLabel('Choose a file').setInputFiles(site('first'));
    await p.getByText('first.tar.gz was stored').waitFor(long);
    await p.locator('.page-head').getByRole('button', { name: 'Start' }).click();
    await running(p);
    await answers(p, 'first 42');
    await shoot(p, 'php-runs');
  });
  await step('php: a second version serves, and one click rolls back', async () => {
    await p.getByLabel('Choose a file').setInputFiles(site('second'));
    await p.getByText('second.tar.gz was stored').waitFor(long);
    await answers(p, 'second 42');
    await idle();
    await p.getByRole('button', { name: 'Roll back', exact: true }).click();
    await answers(p, 'first 42');
    await idle();
    await shoot(p, 'php-code');
  });
  await step('php: an upload that breaks off with the page goes on where it was', async () => {
    const file = site('large', 40 << 20);
    const wire = await p.context().newCDPSession(p);
    await wire.send('Network.enable');
    const link = (rate) => wire.send('Network.emulateNetworkConditions', { offline: false, latency: 0, downloadThroughput: -1, uploadThroughput: rate });
    await p.getByText('Activate it when it has arrived').click();
    await link(10_000_000);
    await p.getByLabel('Choose a file').setInputFiles(file);
    await p.waitForFunction(() => Number(document.querySelector('.upload [aria-label^=Upload][role=progressbar]')?.getAttribute('aria-valuenow')) > 30, null, long);
    await p.reload();
    await p.getByText(/large.tar.gz was broken off/).waitFor(long);
    let offset = NaN;
    p.on('request', (q) => { if (q.method() === 'PATCH' && q.url().includes('/uploads/') && Number.isNaN(offset)) offset = Number(new URL(q.url()).searchParams.get('offset')); });
    await link(-1);
    await p.getByText('Activate it when it has arrived').click();
    await p.getByLabel('Choose large.tar.gz again').setInputFiles(file);
    await p.getByText('large.tar.gz was stored').waitFor(long);
    assert.ok(offset > 4 << 20, `it began again at ${offset}`);
  });
  await step('php: two versions are compared', async () => {
    await p.getByRole('button', { name: 'Compare', exact: true }).click();
    await p.getByRole('dialog').getByText('index.php').waitFor();
    await p.getByRole('dialog').getByRole('button', { name: 'Close' }).click();
  });
  await step('php: a key, a clone by the line shown, and a push that serves', async () => {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'e2e', '-f', join(dir, 'key')]);
    await p.getByLabel('Public key', { exact: true }).fill(readFileSync(join(dir, 'key.pub'), 'utf8'));
    await p.getByRole('button', { name: 'Add the key' }).click();
    await p.getByText('1 key of yours may push').waitFor();
    const card = p.locator('section.card', { has: p.getByRole('heading', { name: 'Git', exact: true }) });
    const line = await card.locator('.line code').first().innerText();
    assert.match(line, /^git clone /);
    const address = /ssh:\/\/\S+?(?='?$|'?\s)/.exec(line)[0];
    const { hostname, port } = new URL(address);
    // the fingerprint on the page is the one that the server shows
    const known = execFileSync('ssh-keyscan', ['-p', port, hostname], { stdio: ['ignore', 'pipe', 'ignore'] });
    writeFileSync(join(dir, 'known'), known);
    const prints = execFileSync('ssh-keygen', ['-l', '-f', join(dir, 'known')]).toString();
    assert.ok(prints.includes(await card.locator('dd.print code').first().innerText()), prints);
    await git(dir, 'clone', address, 'clone');
    mkdirSync(join(dir, 'clone', 'php'));
    writeFileSync(join(dir, 'clone', 'php', 'index.php'), page('pushed'));
    for (const said of ['waits for you from now on', 'is activated from now on']) {
      await p.getByRole('switch', { name: 'Activate what is pushed' }).click();
      await p.getByText(said).waitFor();
    }
    const at = join(dir, 'clone');
    await git(at, 'add', '-A');
    await git(at, 'commit', '-q', '-m', 'Push what the page shows');
    const said = await git(at, 'push', 'origin', 'HEAD:' + (await card.locator('dd code').nth(1).innerText()));
    assert.match(said, /git-[0-9a-f]{7}/);
    await answers(p, 'pushed 42');
    await p.locator('li.is', { hasText: 'git-' }).waitFor(long);
    await p.getByText('Push what the page shows').first().waitFor();
    await idle();
    await shoot(p, 'php-git');
  });
  await step('php: a variable reaches the page', async () => {
    await tab('Settings');
    await p.getByRole('link', { name: 'Variables' }).click();
    await p.getByLabel('Name of a new variable').fill('SHOP_MODE');
    await p.getByLabel('Value of a new variable').fill('open late');
    await p.getByRole('button', { name: 'Add', exact: true }).click();
    await p.getByRole('button', { name: 'Review and apply' }).click();
    await p.getByRole('dialog').getByRole('button', { name: 'Apply' }).click();
    await p.getByText('works with its new variables').waitFor(long);
    await answers(p, 'pushed 42 open late');
    await shoot(p, 'php-environment');
  });
  await step('php: more backends move apart, share unevenly, and the one chosen goes', async () => {
    await tab('Overview');
    await p.getByRole('button', { name: 'One Backend more' }).click();
    await p.getByRole('button', { name: 'One Backend more' }).click();
    await p.getByText('What will happen').waitFor();
    await shoot(p, 'php-preview');
    await p.getByRole('button', { name: 'Apply' }).click();
    await p.getByText('has its new size.').last().waitFor(long);
    await answers(p, 'pushed 42');
    const share = p.locator('[id^=weight-backend-]');
    await share.nth(1).waitFor(long);
    await share.first().fill('300');
    await p.getByRole('button', { name: 'Apply' }).click();
    await p.getByText('shares its requests anew').waitFor(long);
    await p.waitForFunction(() => document.querySelector('[id^=weight-backend-]').value === '300');
    await shoot(p, 'php-scaled');
    const chosen = (await share.last().getAttribute('id')).replace('weight-backend-', '');
    await p.getByRole('button', { name: 'One Backend less' }).click();
    await p.getByRole('checkbox', { name: new RegExp(chosen) }).check();
    await p.locator('.preview li.less', { hasText: chosen }).waitFor();
    await p.getByRole('button', { name: 'Apply' }).click();
    await p.locator('ul.where', { hasText: chosen }).waitFor({ state: 'detached', ...long });
    await idle();
  });
  await step('php: graphs draw the requests that came', async () => {
    const url = await answers(p, 'pushed 42');
    for (let i = 0; i < 60; i++) await ask(url);
    await tab('Graphs');
    await p.getByRole('img', { name: /^Answers by status: 2xx [\d.]/ }).waitFor(long);
    await p.getByRole('img', { name: /^Time to answer: p50 \d/ }).waitFor(long);
    await p.getByRole('img', { name: /^Memory: / }).waitFor(long);
    await shoot(p, 'php-graphs');
  });
  if (process.env.NUTSHELL_E2E_EDGE) await step('php: the edge shows it under its name, and under one that is added', async () => {
    await tab('Addresses');
    await p.locator('li', { hasText: 'automatic' }).waitFor(long);
    await p.getByLabel('Name', { exact: true }).fill('nuts.example.org');
    await p.getByRole('button', { name: 'Add it' }).click();
    await p.getByRole('button', { name: 'Remove nuts.example.org' }).waitFor();
    await shoot(p, 'php-sites');
  });
  await step('php: settings, instances and logs', async () => {
    await tab('Settings');
    await p.locator('#setting-memory_limit').fill('192M');
    await p.getByRole('button', { name: 'Review and apply' }).click();
    await p.getByRole('dialog').getByRole('button', { name: 'Apply' }).click();
    await p.getByText('works with its new settings').waitFor(long);
    await shoot(p, 'php-settings');
    await tab(/^Instances/);
    await p.getByRole('button', { name: 'Processes' }).first().click();
    await p.getByText(/pid \d+/).first().waitFor();
    await shoot(p, 'php-instances');
    await p.getByRole('link', { name: 'Logs' }).last().click();
    await p.getByRole('listbox', { name: /^Lines of logs/ }).getByRole('option').first().waitFor(long);
    assert.match(p.url(), /[?&]instance=/);
    await shoot(p, 'php-logs');
  });
}
