// What must hold when things go wrong or come at a bad moment: a lost director,
// half-typed forms, hostile texts, odd archives. It runs its own development
// director, so that it may kill it:  node e2e/behaviour.mjs
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const port = 5700 + Math.floor(Math.random() * 200);
process.env.NUTSHELL_URL = `http://127.0.0.1:${port}`;
process.env.NUTSHELL_PASSWORD = 'nutshell';
const { base, open, page, shoot, signIn } = await import('./browser.mjs');

let director;
async function start(scenario = 'seed') {
  director = spawn(process.execPath, [fileURLToPath(new URL('../dev/fake.mjs', import.meta.url)), '--port', String(port), '--scenario', scenario], { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, FAKE_SPEED: '0.6', FAKE_SESSION: 'kept' } });
  await new Promise((ready) => director.stdout.once('data', ready));
}
const stop = () => new Promise((gone) => (director.once('exit', gone), director.kill('SIGKILL')));

const faults = [];
const failures = [];
await start();
const browser = await open();
const p = await page(browser, 'desktop', 'light', faults);
async function step(name, work) {
  try {
    await work();
    console.log('ok  ', name);
  } catch (e) {
    failures.push(name);
    console.log('FAIL', name, e.message.split('\n').slice(0, 6).join(' / '));
    await shoot(p, 'behaviour-' + failures.length);
  }
}
const api = (path, options = {}) => p.evaluate(async ([path, options]) => {
  const r = await fetch('/api/v1' + path, { ...options, headers: { 'X-CSRF-Token': 'fake-csrf-token' } });
  return r.status === 204 ? null : r.json();
}, [path, options]);
const php = '/applications/shop/services/php';
// link makes the line slow, or breaks it: bytes per second, 0 for none, -1 for no limit.
const wire = await p.context().newCDPSession(p);
await wire.send('Network.enable');
const link = (rate) => wire.send('Network.emulateNetworkConditions', { offline: rate === 0, latency: 0, downloadThroughput: -1, uploadThroughput: rate || -1 });
const files = mkdtempSync(join(tmpdir(), 'nutshell-e2e-'));
const archive = (name, size) => (writeFileSync(join(files, name), Buffer.alloc(size, 7)), join(files, name));

await step('five wrong passwords are answered with how long to wait', async () => {
  await p.goto(base);
  await p.getByLabel('Name', { exact: true }).fill('jonas');
  for (let i = 0; i < 6; i++) {
    await p.getByLabel('Password', { exact: true }).fill('wrong' + i);
    await p.getByRole('button', { name: 'Sign in' }).click();
    await p.getByRole('alert').waitFor();
    await p.getByRole('button', { name: 'Sign in', disabled: false }).waitFor();
  }
  await p.getByText('Wait 20 seconds').waitFor();
  await shoot(p, 'state-rate-limit');
  await stop();
  await start();
});

await step('sign in', () => signIn(p));

await step('a half-typed setting survives what others change meanwhile', async () => {
  await p.goto(base + php + '/settings');
  await p.getByLabel('Longest run of a script').fill('77');
  await api(php + '/settings', { method: 'PATCH', body: JSON.stringify({ memory_limit: '256M' }) });
  await p.locator('section.now').waitFor();
  await p.locator('section.now').waitFor({ state: 'detached' });
  assert.equal(await p.getByLabel('Memory of a script').inputValue(), '256M');
  assert.equal(await p.getByLabel('Longest run of a script').inputValue(), '77');
});

await step('a lost director is announced, healed, and forms are kept', async () => {
  await stop();
  await p.getByRole('alert').getByText('does not answer').waitFor();
  await shoot(p, 'state-offline');
  assert.equal(await p.getByLabel('Longest run of a script').inputValue(), '77');
  await start();
  await p.getByText('does not answer').waitFor({ state: 'detached', timeout: 20_000 });
  assert.equal(await p.getByLabel('Longest run of a script').inputValue(), '77');
});

await step('settings: limits are checked, the difference is shown, applied and told', async () => {
  await p.goto(base + php + '/settings');
  await p.getByLabel('Longest run of a script').fill('999');
  await p.getByText('The most is 300.').waitFor();
  assert.equal(await p.getByRole('button', { name: 'Review and apply' }).isDisabled(), true);
  await p.getByLabel('Longest run of a script').fill('60');
  await p.getByRole('switch', { name: 'Show errors in pages' }).click();
  await p.getByRole('button', { name: 'Review and apply' }).click();
  await p.getByRole('dialog').getByText('max_execution_time', { exact: true }).waitFor();
  await shoot(p, 'state-diff');
  await p.getByRole('dialog').getByRole('button', { name: 'Apply' }).click();
  await p.getByText('works with its new settings').waitFor();
});

await step('a file that is no archive is refused with a hint', async () => {
  await p.goto(base + php + '/code');
  await p.locator('input[type=file]').setInputFiles(archive('notes.txt', 2000));
  await p.getByText('notes.txt is not an archive.').waitFor();
  await shoot(p, 'state-upload-refused');
});

await step('an archive in a sub-directory is offered to be stripped', async () => {
  await p.locator('input[type=file]').setInputFiles(archive('sub-2.5.0.tar.gz', 20_000));
  await p.getByRole('button', { name: /Take that directory off/ }).click();
  await p.getByText(/sub-2.5.0.tar.gz was stored/).waitFor();
  await p.getByText('without shop-2.5.0/').waitFor();
  await p.getByText(/serves\.$/).waitFor({ timeout: 20_000 });
});

await step('an upload shows how fast it is, can be paused, goes on, and can be cancelled', async () => {
  await p.goto(base + php + '/code');
  await link(1_200_000);
  await p.locator('input[type=file]').setInputFiles(archive('large.tar.gz', 30_000_000));
  await p.getByText(/MB of 28.6 MB, .*\/s, .* left/).waitFor();
  await shoot(p, 'state-upload');
  await p.getByRole('button', { name: 'Pause' }).click();
  await p.getByText(/^Paused at/).waitFor();
  await shoot(p, 'state-upload-paused');
  await p.getByRole('button', { name: 'Go on' }).click();
  await p.getByText(/MB of 28.6 MB/).waitFor();
  await p.getByRole('button', { name: 'Cancel' }).click();
  await p.getByText('Drop an archive or a folder').waitFor();
  await link(-1);
});

await step('an upload goes on while other pages are looked at, and heals after a lost connection', async () => {
  const { sha256 } = await api(`${php}/versions`).then((v) => v[0]);
  await link(6_000_000);
  await p.locator('input[type=file]').setInputFiles(archive('healed.tar.gz', 20_000_000));
  await p.waitForFunction(() => Number(document.querySelector('.upload [aria-label^=Upload][role=progressbar]')?.getAttribute('aria-valuenow')) > 45, null, { timeout: 30_000 });
  await link(0);
  await p.getByText('It goes on by itself').waitFor();
  await shoot(p, 'state-upload-lost');
  await p.getByRole('link', { name: 'Instances', exact: false }).last().click();
  await link(-1);
  await p.getByText('healed.tar.gz was stored').waitFor({ timeout: 20_000 });
  const stored = (await api(`${php}/versions`))[0];
  assert.equal(stored.bytes, 20_000_000);
  assert.notEqual(stored.sha256, sha256);
  await p.getByText(/serves\.$/).first().waitFor({ timeout: 20_000 });
});

await step('after a reload the same file is chosen again, and only the rest is sent', async () => {
  await p.goto(base + php + '/code');
  await link(3_000_000);
  const file = archive('resumed.tar.gz', 24_000_000);
  await p.locator('input[type=file]').setInputFiles(file);
  await p.waitForFunction(() => Number(document.querySelector('.upload [aria-label^=Upload][role=progressbar]')?.getAttribute('aria-valuenow')) > 45, null, { timeout: 30_000 });
  await p.reload();
  await p.getByText(/resumed.tar.gz was broken off: [\d.]+ MB of 22.9 MB/).waitFor();
  await shoot(p, 'state-upload-broken');
  await p.getByLabel('Choose resumed.tar.gz again').setInputFiles(archive('other.tar.gz', 1000));
  await p.getByText('is another file').waitFor();
  let first = NaN;
  p.on('request', (q) => { if (q.method() === 'PATCH' && q.url().includes('/uploads/') && Number.isNaN(first)) first = Number(new URL(q.url()).searchParams.get('offset')); });
  await link(-1);
  await p.getByLabel('Choose resumed.tar.gz again').setInputFiles(file);
  await p.getByText('resumed.tar.gz was stored').waitFor();
  assert.ok(first >= 8 << 20, `it began again at ${first}`);
  await p.getByText(/serves\.$/).first().waitFor({ timeout: 20_000 });
});

await step('a version that fails its check is told with the lines of its log, and the old one serves', async () => {
  const before = (await api(php)).serving;
  await p.locator('input[type=file]').setInputFiles(archive('broken.tar.gz', 9000));
  await p.locator('section.now').getByText('Check version').waitFor();
  await p.getByText(/answered 500 to GET/).first().waitFor({ timeout: 20_000 });
  assert.equal((await api(php)).serving, before);
  await p.locator('section.failed').getByRole('region', { name: 'Last lines of the log' }).getByText('undefined function shop_init').waitFor();
  await shoot(p, 'state-check-failed');
  await p.getByRole('button', { name: 'Put it away' }).click();
  await p.locator('section.failed').waitFor({ state: 'detached' });
});

await step('a rollback is one click', async () => {
  await p.goto(base + php + '/code');
  await p.getByRole('button', { name: 'Roll back', exact: true }).click();
  await p.getByText('The version before serves again.').waitFor({ timeout: 20_000 });
});

await step('two versions are compared, thousands of files stay quick', async () => {
  await p.goto(base + php + '/code');
  await p.getByRole('button', { name: 'More about code-0c93be' }).click();
  await p.getByRole('button', { name: 'Compare with the current one' }).click();
  const dialog = p.getByRole('dialog');
  await dialog.getByRole('button', { name: /\d+ changed/ }).click();
  await dialog.getByPlaceholder('Find a file').fill('vendor/');
  await dialog.locator('li code').first().waitFor();
  assert.ok(await dialog.locator('li').count() < 60);
  assert.match(await dialog.locator('li code').first().innerText(), /^vendor\//);
  assert.match(p.url(), /compare=/);
  await dialog.getByRole('button', { name: 'Close' }).click();
  await dialog.waitFor({ state: 'detached' });
});

await step('rules of a service: what is pushed, and how many are kept', async () => {
  await p.getByRole('switch', { name: 'Activate what is pushed' }).click();
  await p.getByText('waits for you from now on').waitFor();
  await p.getByLabel('Versions to keep').fill('7');
  await p.getByRole('button', { name: 'Store' }).click();
  await p.getByText('The newest 7 versions are kept.').waitFor();
  assert.deepEqual(((s) => [s.auto_deploy, s.keep_versions])(await api(php)), [false, 7]);
});

await step('keys: a private one is refused with words, a public one is added, and revoked', async () => {
  await p.goto(base + '/profile');
  await p.getByLabel('Public key', { exact: true }).fill('-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk');
  await p.getByRole('button', { name: 'Add the key' }).click();
  await p.getByText('This is a private key').waitFor();
  await p.getByLabel('Public key', { exact: true }).fill('ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKZrJx0mI2Uo5T7wEt1k3yQH0pYhJ9v1m2V4c5X6Z7aB ada@desk');
  await p.getByRole('button', { name: 'Add the key' }).click();
  await p.getByRole('button', { name: 'Revoke ada@desk' }).click();
  await p.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
  await p.getByText('was revoked').waitFor();
});

await step('variables: a pasted .env becomes changes that are seen before they are applied; secrets are never shown', async () => {
  await p.goto(base + php + '/environment');
  await p.getByLabel('DATABASE_URL', { exact: true }).waitFor();
  assert.equal(await p.getByLabel('DATABASE_URL', { exact: true }).inputValue(), '');
  await p.getByRole('button', { name: 'Paste a .env' }).click();
  await p.getByLabel('Lines of a .env file').fill('# shop\nexport APP_ENV="staging"\nAPI_TOKEN=\'s3 cr#et\'\nGREETING="two\\nlines" # said\nno equals here');
  await p.getByText('Line 5: there is no =').waitFor();
  await p.getByLabel('Lines of a .env file').fill('# shop\nexport APP_ENV="staging"\nAPI_TOKEN=\'s3 cr#et\'\nMODE=fast # for now');
  await shoot(p, 'state-dotenv');
  await p.getByRole('button', { name: 'Take 3 variables' }).click();
  await p.getByRole('button', { name: 'Take MAIL_FROM away' }).click();
  await p.getByRole('button', { name: 'Review and apply' }).click();
  assert.equal(await p.getByRole('dialog').getByText('s3 cr#et').count(), 0);
  await shoot(p, 'state-environment');
  const [request] = await Promise.all([p.waitForRequest((q) => q.method() === 'PATCH'), p.getByRole('dialog').getByRole('button', { name: 'Apply' }).click()]);
  assert.deepEqual(request.postDataJSON(), { set: [{ name: 'APP_ENV', value: 'staging' }, { name: 'API_TOKEN', value: 's3 cr#et', secret: true }, { name: 'MODE', value: 'fast' }], unset: ['MAIL_FROM'] });
  await p.getByText('works with its new variables').waitFor();
  await p.getByLabel('APP_ENV', { exact: true }).fill('half-typ');
  await p.getByRole('button', { name: 'Add', exact: true }).waitFor();
  await api(php + '/environment', { method: 'PATCH', body: JSON.stringify({ set: [{ name: 'OTHER', value: '1' }] }) });
  await p.getByLabel('OTHER', { exact: true }).waitFor();
  assert.equal(await p.getByLabel('APP_ENV', { exact: true }).inputValue(), 'half-typ');
  await p.locator('section.now').waitFor({ state: 'detached' });
});

await step('lines that nginx refuses are told at their field, and stay typed', async () => {
  await p.goto(base + php + '/settings');
  await p.getByLabel('More lines for nginx').fill('gzip on;\nbogus 1;\n');
  await p.getByRole('button', { name: 'Review and apply' }).click();
  await p.getByRole('dialog').getByRole('button', { name: 'Apply' }).click();
  await p.locator('.setting .wrong').getByText('unknown directive "bogus" in line 2').waitFor();
  assert.equal(await p.getByLabel('More lines for nginx').inputValue(), 'gzip on;\nbogus 1;\n');
  assert.equal(await p.locator('.gutter .marked').innerText(), '2');
  await shoot(p, 'state-snippet-refused');
});

await step('host names: a wrong one is told at its field, one is added and removed', async () => {
  await p.goto(base + php + '/sites');
  await p.getByLabel('Name', { exact: true }).fill('not a name');
  await p.getByRole('button', { name: 'Add it' }).click();
  await p.getByText('is no host name').waitFor();
  await p.getByLabel('Name', { exact: true }).fill('nuts.example.org');
  await p.getByRole('button', { name: 'Add it' }).click();
  await p.getByText('does not lead to this machine').waitFor();
  await p.getByRole('button', { name: 'Remove nuts.example.org' }).click();
  await p.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
  await p.getByRole('link', { name: 'nuts.example.org', exact: true }).waitFor({ state: 'detached' });
});

await step('shares are typed, checked and applied; the one that goes can be chosen', async () => {
  await p.goto(base + php);
  const share = p.locator('[id^=weight-backend-]').first();
  await share.fill('0');
  await p.getByText('from 1 to 1000').waitFor();
  await share.fill('300');
  await p.getByRole('button', { name: 'Apply' }).click();
  await p.getByText('shares its requests anew').waitFor();
  await p.waitForFunction(() => document.querySelector('[id^=weight-backend-]').value === '300' && !document.querySelector('.moved'));
  await p.getByRole('button', { name: 'One Backend less' }).click();
  await p.getByText('What will happen').waitFor();
  const second = (await share.getAttribute('id')).replace('weight-backend-', '');
  await p.getByRole('checkbox', { name: new RegExp(second) }).check();
  await p.locator('.preview li.less', { hasText: second }).waitFor();
  await shoot(p, 'state-victim');
  await p.getByRole('button', { name: 'Apply' }).click();
  await p.getByText('has its new size.').waitFor({ timeout: 20_000 });
  assert.equal((await api(php + '/instances')).some((i) => i.id === second), false);
});

await step('graphs: figures by keyboard, holes, a table, and what is pointed at stays while new figures come', async () => {
  await p.goto(base + php + '/graphs?since=15m');
  const plot = p.getByRole('img', { name: /^Answers by status: 2xx / });
  await plot.focus();
  for (let i = 0; i < 4; i++) await p.keyboard.press('ArrowLeft');
  const said = p.getByRole('status').filter({ hasText: '2xx' }).first();
  const before = await said.innerText();
  await p.waitForResponse((r) => r.url().includes('/graphs?'));
  await p.waitForResponse((r) => r.url().includes('/graphs?'));
  assert.notEqual(await said.innerText(), '');
  assert.match(before, /2xx .*\/s/);
  await p.getByRole('button', { name: 'Answers by status as a table' }).click();
  const table = p.getByRole('region', { name: 'Answers by status as a table' });
  assert.ok(await table.locator('tbody tr').count() > 40);
  assert.deepEqual(await table.locator('thead th').allInnerTexts(), ['Time', '2xx', '3xx', '4xx', '5xx']);
  await p.goto(base + php + '/graphs?since=1h');
  await plot.waitFor();
  // the agent was away for a while: that stretch of the drawing is empty
  const holes = await plot.evaluate((el) => {
    const canvas = el.querySelector('canvas');
    const { width, height, data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    const inked = Array.from({ length: width }, (_, x) => { for (let y = 0; y < height * 0.8; y++) { const at = 4 * (y * width + x); if (data[at + 3] > 120 && Math.max(data[at], data[at + 1], data[at + 2]) - Math.min(data[at], data[at + 1], data[at + 2]) > 40) return 1; } return 0; }).join('');
    return /10{6,}1/.test(inked);
  });
  assert.ok(holes);
  await shoot(p, 'state-graphs');
  const box = await plot.boundingBox();
  await p.mouse.move(box.x + 200, box.y + 60);
  await p.mouse.down();
  await p.mouse.move(box.x + 320, box.y + 60, { steps: 4 });
  await p.mouse.up();
  await p.waitForURL(/from=\d+&to=\d+/);
  await p.getByRole('button', { name: 'Back to now' }).click();
  await p.getByLabel('Each instance').check();
  await p.waitForURL(/by=instance/);
});

await step('an answer that comes after its operation has ended does not bring it back', async () => {
  await p.route('**/services/*/activate', async (route) => {
    const answer = await route.fetch();
    await p.waitForTimeout(3500); // longer than the whole operation takes
    await route.fulfill({ response: answer });
  });
  await p.goto(base + php + '/code');
  await p.getByRole('button', { name: 'Activate code-default' }).click();
  await p.locator('section.now').waitFor();
  await p.getByText(/serves\.$/).waitFor({ timeout: 20_000 });
  assert.equal(await p.locator('section.now').count(), 0);
  await p.unroute('**/services/*/activate');
});

await step('hostile texts stay texts', async () => {
  await p.goto(base + php + '/code');
  const evil = '<img src=x onerror="document.title=1"><script>document.title=1</script>{@html 1}';
  await api(`${php}/versions?filename=${encodeURIComponent('"><svg onload=alert(1)>.zip')}&description=${encodeURIComponent(evil)}`, { method: 'POST', body: 'PK' });
  await p.getByText(evil).waitFor();
  assert.equal(await p.locator('main img').count(), 0);
  assert.notEqual(await p.title(), '1');
});

await step('the palette finds and goes, by keyboard alone', async () => {
  await p.keyboard.press('Control+k');
  await p.keyboard.type('wiki log');
  await shoot(p, 'state-palette');
  await p.keyboard.press('Enter');
  await p.waitForURL(/wiki\/services\/dokuwiki\/logs/);
});

await step('a selection in a followed log survives, and the filter filters', async () => {
  await p.locator('.log .block > div').nth(3).waitFor();
  await p.getByRole('button', { name: 'Pause' }).click();
  await p.locator('.log .block > div').first().evaluate((el) => getSelection().selectAllChildren(el));
  const before = await p.evaluate(() => getSelection().toString());
  await p.getByRole('button', { name: /Go on/ }).click();
  await p.waitForFunction(() => document.querySelectorAll('.log .block > div').length > 405);
  assert.equal(await p.evaluate(() => getSelection().toString()), before);
  await p.getByPlaceholder('Filter lines').fill('slow request');
  await p.waitForFunction(() => [...document.querySelectorAll('.log .block > div')].every((d) => d.textContent.includes('slow request')));
});

await step('a dropped folder becomes an archive that tar can read', async () => {
  await p.goto(base + php + '/code');
  await p.getByText('Drop an archive or a folder').waitFor();
  await p.evaluate(() => {
    const file = (name, text) => ({ isFile: true, isDirectory: false, name, file: (ok) => ok(new File([text], name, { lastModified: 1_700_000_000_000 })) });
    const folder = (name, entries) => ({ isFile: false, isDirectory: true, name, createReader: () => { let left = [entries, []]; return { readEntries: (ok) => ok(left.shift() ?? []) }; } });
    const tree = folder('site', [file('index.php', '<?php echo 1;'), folder('lib', [file('ä'.repeat(60) + '.php', 'long name')])]);
    const event = new DragEvent('drop', { bubbles: true, cancelable: true });
    Object.defineProperty(event, 'dataTransfer', { value: { types: ['Files'], items: [{ webkitGetAsEntry: () => tree }], files: [] } });
    window.dispatchEvent(event);
  });
  const [, id] = /stored as (code-\w+)/.exec(await p.getByText('site.tar was stored').innerText());
  const body = Buffer.from(await p.evaluate(async (path) => [...new Uint8Array(await (await fetch(path)).arrayBuffer())], `/api/v1${php}/versions/${id}/download`));
  const list = spawn('tar', ['tf', '-'], { env: { ...process.env, LC_ALL: 'C.UTF-8' } });
  let out = '';
  list.stdout.on('data', (d) => (out += d));
  list.stdin.end(body);
  await new Promise((r) => list.on('close', r));
  assert.deepEqual(out.trim().split('\n').sort(), ['index.php', 'lib/' + 'ä'.repeat(60) + '.php']);
});
await step('an ended session leads to signing in, and back', async () => {
  await api('/session', { method: 'DELETE' });
  await p.goto(base + '/users');
  await p.getByRole('button', { name: 'Sign in' }).waitFor();
});

await step('two hundred applications stay quick, on a phone of 360 pixels', async () => {
  await stop();
  await start('many');
  const phone = await page(browser, 'phone', 'dark', faults);
  await phone.setViewportSize({ width: 360, height: 740 });
  await signIn(phone);
  const began = Date.now();
  await phone.goto(base + '/applications');
  await phone.getByRole('heading', { name: 'Applications', level: 1 }).waitFor();
  await phone.getByPlaceholder('Search  /').fill('load-199');
  await phone.getByRole('link', { name: 'load-199' }).waitFor();
  assert.ok(Date.now() - began < 4000, `it took ${Date.now() - began} ms`);
  assert.equal(await phone.evaluate(() => document.documentElement.scrollWidth), 360);
  await phone.goto(base + '/instances');
  await phone.getByText(/instances of all/).waitFor();
  await shoot(phone, 'state-many-phone');
});

await step('an empty installation leads on', async () => {
  await stop();
  await start('empty');
  const first = await page(browser, 'desktop', 'light', faults);
  await signIn(first);
  await first.getByText('Your first application').waitFor();
  await shoot(first, 'state-empty-overview');
  await first.goto(base + '/applications');
  await first.getByText('Create your first application').waitFor();
  await first.evaluate(async () => { for (const [path, body] of [['/applications', { name: 'one' }], ['/applications/one/services', { kind: 'php' }]]) await fetch('/api/v1' + path, { method: 'POST', headers: { 'X-CSRF-Token': 'fake-csrf-token' }, body: JSON.stringify(body) }); });
  await first.goto(base + '/applications/one/services/php/sites');
  await first.getByText('The edge is off').waitFor();
  await first.getByText('--edge-domain').waitFor();
  await first.goto(base + '/applications/one/services/php/code');
  await first.getByText('Add your public key first').waitFor();
  await shoot(first, 'state-first-key');
  await first.goto(base + '/applications');
  await shoot(first, 'state-empty');
});

await browser.close();
await stop();
rmSync(files, { recursive: true });
for (const f of faults) console.log('FAULT', f);
process.exit(failures.length || faults.length ? 1 : 0);
