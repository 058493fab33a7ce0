// Web hosting when things go wrong or come at a bad moment: broken uploads,
// versions that fail, refused keys, variables and host names:  node e2e/hosting.mjs
import assert from 'node:assert/strict';
import { api, archive, end, link, p, php, step } from './stage.mjs';
import { base, shoot, signIn } from './browser.mjs';

await step('sign in', () => signIn(p));

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
  await p.waitForFunction(() => Number(document.querySelector('.upload [aria-label^=Upload][role=progressbar]')?.getAttribute('aria-valuenow')) > 45);
  await link(0);
  await p.getByText('It goes on by itself').waitFor();
  await shoot(p, 'state-upload-lost');
  await p.getByRole('link', { name: 'Instances', exact: false }).last().click();
  await link(-1);
  await p.getByText('healed.tar.gz was stored').waitFor();
  const stored = (await api(`${php}/versions`))[0];
  assert.equal(stored.bytes, 20_000_000);
  assert.notEqual(stored.sha256, sha256);
  await p.getByText(/serves\.$/).first().waitFor();
});

await step('after a reload the same file is chosen again, and only the rest is sent', async () => {
  await p.goto(base + php + '/code');
  await link(3_000_000);
  const file = archive('resumed.tar.gz', 24_000_000);
  await p.locator('input[type=file]').setInputFiles(file);
  await p.waitForFunction(() => Number(document.querySelector('.upload [aria-label^=Upload][role=progressbar]')?.getAttribute('aria-valuenow')) > 45);
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
  await p.getByText(/serves\.$/).first().waitFor();
});

await step('a version that fails its check is told with the lines of its log, and the old one serves', async () => {
  const before = (await api(php)).serving;
  await p.locator('input[type=file]').setInputFiles(archive('broken.tar.gz', 9000));
  await p.locator('section.now').getByText('Check version').waitFor();
  await p.getByText(/answered 500 to GET/).first().waitFor();
  assert.equal((await api(php)).serving, before);
  await p.locator('section.failed').getByRole('region', { name: 'Last lines of the log' }).getByText('undefined function shop_init').waitFor();
  await shoot(p, 'state-check-failed');
  await p.getByRole('button', { name: 'Put it away' }).click();
  await p.locator('section.failed').waitFor({ state: 'detached' });
});

await step('a rollback is one click', async () => {
  await p.goto(base + php + '/code');
  await p.getByRole('button', { name: 'Roll back', exact: true }).click();
  await p.getByText('The version before serves again.').waitFor();
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
  await p.goto(base + '/profile/keys');
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
  await p.getByText('has its new size.').waitFor();
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
  await p.getByLabel('Whose figures').selectOption('Each instance');
  await p.waitForURL(/by=instance/);
});

await step('a version that arrives while the service is being changed serves as soon as that has ended', async () => {
  await p.goto(base + php + '/code');
  await p.locator('input[type=file]').waitFor({ state: 'attached' });
  await api(php + '/settings', { method: 'PATCH', body: JSON.stringify({ memory_limit: '112M' }) });
  await p.locator('input[type=file]').setInputFiles(archive('meanwhile.tar.gz', 9000));
  const [, id] = /stored as (code-\w+)/.exec(await p.getByText('meanwhile.tar.gz was stored').innerText());
  await p.getByText(id + ' serves.').waitFor();
  assert.equal((await api(php)).serving, id);
});

await end();
