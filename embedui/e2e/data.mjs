// What services keep, offer and cost, when things go wrong or come at a bad
// moment: dumps that break, passwords, volumes, backups, manifests, credits:
//   node e2e/data.mjs
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { api, archive, browser, end, faults, link, p, start, step, stop } from './stage.mjs';
import { base, page, shoot, signIn } from './browser.mjs';

const db = '/applications/shop/services/db';
const ended = () => p.locator('section.now').waitFor({ state: 'detached' });
const text = (name, body) => {
  const path = archive(name, 1);
  writeFileSync(path, body);
  return path;
};

await step('sign in', () => signIn(p));

await step('the first password is shown once, and a reset says what it changes', async () => {
  await p.goto(base + db + '/access');
  await p.getByText('mysql -h 10.').waitFor();
  await p.getByRole('button', { name: 'Show it once' }).click();
  const dialog = p.getByRole('dialog');
  await dialog.getByRole('button', { name: 'Show it once' }).click();
  const first = await dialog.locator('.shown code').innerText();
  assert.ok(first.length > 12);
  await dialog.getByRole('button', { name: 'I have it' }).click();
  await p.getByText('It was shown already').waitFor();
  assert.equal(await p.locator('main').getByText(first).count(), 0);
  await p.getByRole('button', { name: /^Reset password/ }).click();
  await dialog.getByText('the old one from now on is refused').waitFor();
  await dialog.getByText('php, importer, canary get the new one').waitFor();
  await dialog.getByLabel('One that I choose').check();
  await dialog.getByLabel(/^New password/).fill("it's \"quoted\"\\");
  await dialog.getByLabel('Once more').fill('another one');
  await dialog.getByText('The two are not the same').waitFor();
  assert.equal(await dialog.getByRole('button', { name: 'Reset', exact: true }).isDisabled(), true);
  await shoot(p, 'state-reset');
  await dialog.getByLabel('Once more').fill("it's \"quoted\"\\");
  await dialog.getByRole('button', { name: 'Reset', exact: true }).click();
  await p.getByText('was changed.').waitFor();
  assert.equal(await p.locator('main').getByRole('button', { name: 'Show it once' }).count(), 0);
});

await step('databases and users are made, and deleted only by name', async () => {
  await p.goto(base + db + '/data');
  await p.getByRole('button', { name: 'Create a database' }).click();
  const dialog = p.getByRole('dialog');
  await dialog.getByLabel(/^Name/).fill('app');
  await dialog.getByRole('button', { name: 'Create a database' }).click();
  await dialog.getByText('There is such a database already.').waitFor();
  await dialog.getByLabel(/^Name/).fill('wordpress');
  await dialog.getByRole('button', { name: 'Create a database' }).click();
  await dialog.waitFor({ state: 'detached' });
  await p.getByRole('cell', { name: 'wordpress', exact: true }).waitFor();
  await p.getByRole('button', { name: 'Create a user' }).click();
  await dialog.getByLabel(/^Name/).fill('wp');
  await dialog.getByLabel('Database').fill('wordpress');
  await dialog.getByRole('button', { name: 'Create a user' }).click();
  await dialog.getByText(/password: \w{12}/).waitFor();
  await shoot(p, 'state-user-password');
  await dialog.getByRole('button', { name: 'I have it' }).click();
  await p.getByRole('button', { name: 'Delete wordpress' }).click();
  assert.equal(await dialog.getByRole('button', { name: 'Delete', exact: true }).isDisabled(), true);
  await dialog.getByLabel(/^Type/).fill('wordpress');
  await dialog.getByRole('button', { name: 'Delete', exact: true }).click();
  await p.getByRole('button', { name: 'Delete wordpress' }).waitFor({ state: 'detached' });
});

await step('a dump that is wrong in a line names the line; one that is no dump is refused; progress is shown', async () => {
  await p.locator('input[type=file]').setInputFiles(text('broken.sql', '-- dump\nCREATE TABLE a (b int);\nSYNTAX ERROR;\n'));
  await p.getByText(/^Line 3 of broken.sql/).waitFor();
  await p.getByText('what stands before it is loaded').waitFor();
  await shoot(p, 'state-dump-line');
  await p.locator('input[type=file]').setInputFiles(text('picture.sql', '\u0000\u0001PNG'));
  await p.getByText('This is no SQL dump.').waitFor();
  await link(1_500_000);
  await p.locator('input[type=file]').setInputFiles(text('large.sql', '-- dump\n' + 'INSERT INTO a VALUES (1);\n'.repeat(400_000)));
  await p.getByText(/MB of 9.9 MB, .*\/s, .* left/).waitFor();
  await shoot(p, 'state-dump');
  await p.getByRole('button', { name: 'Stop', exact: true }).last().click();
  await p.getByText('large.sql was stopped.').waitFor();
  await link(-1);
  await p.locator('input[type=file]').setInputFiles(text('small.sql', '-- dump\nCREATE TABLE a (b int);\nINSERT INTO a VALUES (1);\n'));
  await p.getByText('2 statements were run.').waitFor();
});

await step('a dump is downloaded as a file', async () => {
  const [download] = await Promise.all([p.waitForEvent('download'), p.getByRole('link', { name: /Download dump.sql/ }).click()]);
  assert.equal(download.suggestedFilename(), 'dump.sql');
  assert.match(readFileSync(await download.path(), 'utf8'), /CREATE TABLE/);
});

await step('the monitor moves while it is looked at, and says what looks wrong', async () => {
  await p.goto(base + db + '/monitor');
  await p.getByText('the node is behind').waitFor();
  await p.waitForFunction(() => document.querySelectorAll('.chart polygon').length >= 5);
  await p.getByRole('img', { name: /Cluster usage: selects \d/ }).waitFor();
  await shoot(p, 'state-monitor', true);
});

await step('volumes: sizes are checked, refused ones told, made, grown, freed and deleted by name', async () => {
  await p.goto(base + '/applications/shop/services/importer/volumes');
  await p.getByRole('button', { name: 'Create a volume' }).click();
  const dialog = p.getByRole('dialog');
  await dialog.getByLabel('Name').fill('not a name');
  await dialog.getByText('Use 1 to 32 letters').waitFor();
  await dialog.getByLabel('Name').fill('pictures');
  await dialog.getByLabel('Size').fill('0');
  assert.equal(await dialog.getByRole('button', { name: 'Create', exact: true }).isDisabled(), true);
  await dialog.getByLabel('Size').fill('900G');
  await dialog.getByRole('button', { name: 'Create', exact: true }).click();
  await dialog.getByText('The disk has room for 61.2 GB.').waitFor();
  await shoot(p, 'state-volume');
  await dialog.getByLabel('Size').fill('1.5G');
  await dialog.getByRole('button', { name: 'Create', exact: true }).click();
  await p.getByText('Volume pictures is there.').waitFor();
  await ended();
  const row = p.locator('section > ul > li', { hasText: 'pictures' });
  await row.getByRole('button', { name: 'More about pictures' }).click();
  await row.getByRole('button', { name: 'Grow' }).click();
  await dialog.getByLabel('New size').fill('1G');
  assert.equal(await dialog.getByRole('button', { name: 'Grow', exact: true }).isDisabled(), true);
  await dialog.getByLabel('New size').fill('3G');
  await dialog.getByRole('button', { name: 'Grow', exact: true }).click();
  await p.getByText('pictures has 3.0 GB.').waitFor();
  await ended();
  await row.getByRole('button', { name: 'Detach' }).click();
  await p.getByText('pictures is free.').waitFor();
  await ended();
  await row.getByRole('button', { name: 'More about pictures' }).click();
  await row.getByRole('button', { name: 'Delete' }).click();
  await dialog.getByLabel(/^Type/).fill('pictures');
  await dialog.getByRole('button', { name: 'Delete', exact: true }).click();
  await p.getByText('pictures was deleted.').waitFor();
});

await step('bindings: a service chooses from whom it gets values', async () => {
  await p.goto(base + '/applications/shop/services/php/bindings');
  await p.getByText('DB_HOST', { exact: true }).waitFor();
  await p.getByText('MYSQL_IP', { exact: true }).waitFor();
  await p.getByRole('checkbox', { name: /\bdb MySQL/ }).uncheck();
  assert.equal(await p.getByRole('checkbox', { name: /^All services/ }).isChecked(), false);
  await p.getByRole('button', { name: 'Apply' }).click();
  await p.getByText('DB_HOST', { exact: true }).waitFor({ state: 'detached' });
  assert.deepEqual((await api('/applications/shop/services/php')).bind.sort(), ['canary', 'importer']);
  await p.getByRole('checkbox', { name: /^All services/ }).check();
  await p.getByRole('button', { name: 'Apply' }).click();
  await p.getByText('DB_HOST', { exact: true }).waitFor();
});

await step('backups: one is taken, tried, and put back to a moment, and the loss is said', async () => {
  await p.goto(base + db + '/backups');
  await p.getByRole('button', { name: 'Take one now' }).click();
  const dialog = p.getByRole('dialog');
  await dialog.getByRole('button', { name: 'Take it' }).click();
  await p.getByText('A backup of db is kept.').waitFor();
  await ended();
  const row = p.locator('main li', { hasText: 'any moment until' }).first();
  await row.getByRole('button', { name: /^Restore/ }).click();
  await dialog.getByText(/Everything that was written to db after .* is lost/).waitFor();
  await dialog.getByLabel('A later one').check();
  const slider = dialog.getByRole('slider', { name: 'Moment' });
  const before = Number(await slider.inputValue());
  await slider.focus();
  await p.keyboard.press('ArrowLeft');
  assert.equal(Number(await slider.inputValue()), before - 1);
  await shoot(p, 'state-restore');
  await dialog.getByLabel('A new service').check();
  await dialog.getByLabel('Name of the new service').fill('php');
  await dialog.getByText('shop has a service php already.').waitFor();
  await dialog.getByLabel('Name of the new service').fill('db-before');
  let sent;
  p.on('request', (q) => { if (q.method() === 'POST' && q.url().endsWith('/restore')) sent = q.postDataJSON(); });
  await dialog.getByRole('button', { name: 'Restore', exact: true }).click();
  await p.getByText(/^db-before has the data of/).waitFor();
  await p.getByRole('heading', { name: 'shop', level: 1 }).waitFor();
  assert.equal(sent.new, 'db-before');
  assert.equal(Date.parse(sent.at), (before - 1) * 1000);
});

await step('backups of services that are gone are found, and deleted by name only', async () => {
  await p.goto(base + '/backups');
  await p.getByRole('button', { name: /^Of services that are gone/ }).click();
  const row = p.locator('main li', { hasText: 'intranet / db' });
  await row.getByRole('button', { name: /^Restore/ }).click();
  assert.equal(await p.getByRole('dialog').getByText('in the place of what it has now').count(), 0);
  await p.keyboard.press('Escape');
  await row.getByRole('button', { name: /^More about/ }).click();
  await row.getByRole('button', { name: 'Delete' }).click();
  await p.getByRole('dialog').getByLabel(/^Type/).fill('db');
  await p.getByRole('dialog').getByRole('button', { name: 'Delete', exact: true }).click();
  await row.waitFor({ state: 'detached' });
});

await step('a delete counts volumes and backups, and keeps a last backup unless told not to', async () => {
  await p.goto(base + db);
  await p.getByRole('button', { name: 'Delete the service' }).click();
  const dialog = p.getByRole('dialog');
  await dialog.getByText(/3 volumes with .* of data/).waitFor();
  await dialog.getByText(/\d backups stay/).waitFor();
  assert.equal(await dialog.getByRole('checkbox', { name: /Keep a last backup/ }).isChecked(), true);
  await dialog.getByText('nutshell service remove shop db --backup').waitFor();
  await shoot(p, 'state-delete');
  await dialog.getByLabel(/^Type/).fill('db');
  let asked = '';
  p.on('request', (q) => { if (q.method() === 'DELETE') asked = q.url(); });
  await dialog.getByRole('button', { name: 'Delete db' }).click();
  await p.getByText('db was deleted.').waitFor();
  assert.match(asked, /\?backup=true$/);
  assert.equal((await api('/backups'))[0].why, 'last');
});

await step('a manifest is completed from its schema by keyboard, checked while it is written, and made', async () => {
  await p.goto(base + '/applications?new=manifest');
  const area = p.getByLabel('Manifest, YAML or JSON');
  await p.getByText('can be made').waitFor();
  await area.fill('Application: lab\nServices:\n  - ');
  await area.press('Control+End');
  await p.keyboard.type('Ty');
  await p.getByRole('option', { name: 'Type' }).waitFor();
  await shoot(p, 'state-complete');
  await p.keyboard.press('Enter');
  await p.getByRole('option', { name: 'mysql' }).waitFor();
  await p.keyboard.type('my');
  await p.keyboard.press('Enter');
  await p.keyboard.press('Enter');
  await p.keyboard.type('StartupI');
  await p.keyboard.press('Enter');
  await p.keyboard.type('gl');
  await p.getByRole('option', { name: 'glb' }).waitFor(); // what a kind has, and no other
  await p.keyboard.press('Enter');
  await p.keyboard.type('1');
  assert.equal(await area.inputValue(), 'Application: lab\nServices:\n  - Type: mysql\n    StartupInstances:\n      glb: 1');
  await area.fill('Application: lab\nServices:\n  - Type: php\n    Archivee: x\n');
  await p.getByText('A service has no field Archivee.').waitFor();
  await p.locator('.gutter .marked', { hasText: '4' }).waitFor();
  assert.equal(await p.getByRole('button', { name: 'Make it' }).isDisabled(), true);
  await shoot(p, 'state-manifest-wrong');
  await area.fill('Application: lab\nServices:\n  - Type: php\n    ServiceName: site\n    Archive: pages/site.tar.gz\n');
  await p.getByText('files missing').waitFor();
  assert.equal(await p.getByRole('button', { name: 'Make it' }).isDisabled(), true);
  await p.getByLabel('for pages/site.tar.gz').setInputFiles(archive('site.tar.gz', 20_000));
  await p.reload(); // what was typed outlives the page
  await p.getByText('files missing').waitFor();
  assert.match(await area.inputValue(), /pages\/site/);
  await p.getByLabel('for pages/site.tar.gz').setInputFiles(archive('site.tar.gz', 20_000));
  await p.getByRole('button', { name: 'Make it' }).click();
  await p.getByRole('heading', { name: 'lab', level: 1 }).waitFor();
  await p.locator('section.now').getByText('Start services').waitFor();
  await shoot(p, 'state-manifest-made');
  await p.getByText('lab is as its manifest says.').waitFor();
  await p.getByRole('link', { name: 'site' }).first().waitFor();
});

await step('a ready-made application is two clicks', async () => {
  await p.goto(base + '/applications?new=template');
  await p.getByText('WordPress', { exact: true }).click();
  await p.getByRole('button', { name: 'Start WordPress' }).click();
  await p.getByRole('heading', { name: 'wordpress', level: 1 }).waitFor();
  await p.getByText('WordPress runs.').waitFor();
  await p.getByRole('button', { name: 'More about wordpress' }).click();
  await p.getByRole('button', { name: 'Download manifest' }).click();
  await p.getByRole('dialog').getByLabel(/^With data/).check();
  const [download] = await Promise.all([p.waitForEvent('download'), p.getByRole('dialog').getByRole('link', { name: /Download/ }).click()]);
  assert.equal(download.suggestedFilename(), 'wordpress.yaml'); // what the director calls it goes before
});

await step('credits: granted by an administrator, seen in the corner, bounded', async () => {
  const corner = p.getByRole('banner').getByRole('link', { name: /credits$/ });
  const before = Number((await corner.innerText()).replace(/\D/g, ''));
  await p.goto(base + '/users');
  await p.locator('tr', { hasText: 'admin@' }).getByRole('button', { name: 'Add credit' }).click();
  const dialog = p.getByRole('dialog');
  await dialog.getByLabel('Credits to add').fill('-99999');
  await dialog.getByRole('button', { name: 'Add', exact: true }).click();
  await dialog.getByText(/Admin has \d+ credits\./).waitFor();
  await dialog.getByLabel('Credits to add').fill('500');
  await dialog.getByLabel(/^Why/).fill('for the tests');
  await dialog.getByRole('button', { name: 'Add', exact: true }).click();
  await p.waitForFunction((n) => Number(document.querySelector('header .credit').textContent.replace(/\D/g, '')) === n, before + 500);
  await corner.click();
  await p.getByText('For the tests.').waitFor();
  await p.getByRole('img', { name: /^Balance: 2000/ }).waitFor();
  await p.goto(base + '/users');
  await p.getByRole('button', { name: 'More about maria' }).click();
  await p.getByRole('button', { name: 'Bounds' }).click();
  await dialog.getByLabel('Instances').fill('12');
  await dialog.getByLabel(/^Volumes/).fill('20G');
  await dialog.getByRole('button', { name: 'Set', exact: true }).click();
  await p.getByText('maria has new bounds.').waitFor();
  assert.deepEqual((await api('/users/maria/account')).quota, { applications: 0, instances: 12, volume_bytes: 20 * 2 ** 30 });
});

await step('an account that runs out is told on every page', async () => {
  process.env.FAKE_ENFORCED = '1';
  await stop();
  await start();
  const phone = await page(browser, 'phone', 'light', faults);
  await signIn(phone);
  await phone.evaluate(() => fetch('/api/v1/users/1/credit', { method: 'POST', headers: { 'X-CSRF-Token': 'fake-csrf-token' }, body: JSON.stringify({ amount: -1200 }) }));
  await phone.getByText(/Your credits last another/).waitFor();
  await phone.setViewportSize({ width: 360, height: 740 });
  assert.equal(await phone.evaluate(() => document.documentElement.scrollWidth), 360);
  await shoot(phone, 'state-low-credit');
  await phone.evaluate(() => fetch('/api/v1/users/1/credit', { method: 'POST', headers: { 'X-CSRF-Token': 'fake-csrf-token' }, body: JSON.stringify({ amount: -21 }) }));
  await phone.getByText(/Your credits are used up/).waitFor();
});

await end();
