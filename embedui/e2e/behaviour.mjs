// What must hold when things go wrong or come at a bad moment: a lost director,
// half-typed forms, hostile texts, odd archives:  node e2e/behaviour.mjs
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { api, archive, browser, end, faults, p, php, start, step, stop } from './stage.mjs';
import { base, costs, page, shoot, signIn } from './browser.mjs';

await step('five wrong passwords are answered with how long to wait', async () => {
  await p.goto(base);
  await p.getByLabel('Name', { exact: true }).fill('jonas');
  for (let i = 0; i < 6; i++) {
    await p.getByLabel('Password', { exact: true }).fill('wrong' + i);
    await p.getByRole('button', { name: 'Sign in' }).click();
    await p.getByRole('alert').waitFor();
    await p.getByRole('button', { name: 'Sign in', disabled: false }).or(p.getByText(/^You can try again in/)).first().waitFor();
  }
  await p.getByText(/^You can try again in \d+ s/).waitFor();
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
  await p.getByText('does not answer').waitFor({ state: 'detached' });
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
  await p.getByText(/serves\.$/).waitFor();
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
  await p.getByText(/serves\.$/).waitFor();
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
  await p.getByRole('option', { name: 'wiki: logs', exact: true }).waitFor();
  await shoot(p, 'state-palette');
  await p.keyboard.press('Enter');
  await p.waitForURL('**/applications/wiki/logs');
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
  await phone.goto(base + '/applications');
  await phone.getByRole('heading', { name: 'Applications', level: 1 }).waitFor();
  const [cost] = await costs(phone, async () => {
    await phone.getByPlaceholder('Search  /').fill('load-199');
    await phone.getByRole('link', { name: 'load-199' }).waitFor();
  }, 1);
  assert.ok(cost < 1000, `one of them is found by ${cost} ms of work`);
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
  await first.getByText('Your first application').waitFor();
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

await end();
