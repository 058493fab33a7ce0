// Pages of services: made of descriptions alone, with instances that come and
// go, graphs that are compared, scripts, clusters, and readers who may only look:
//   node e2e/services.mjs
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { api, browser, end, faults, p, php, start, step, stop } from './stage.mjs';
import { at, base, costs, page, shoot, signIn } from './browser.mjs';

await stop();
await start('odd');
await step('sign in', () => signIn(p));
const settled = () => p.locator('section.now').waitFor({ state: 'detached' });

await step('a slider shows what would happen, how long it takes and what it costs; chips fill as instances come', async () => {
  await p.goto(base + php);
  await p.getByRole('link', { name: /Requests/ }).first().waitFor();
  await p.getByText('Scale shop/php: backend +2').waitFor();
  const slider = p.getByRole('slider', { name: 'Backend, by a slider' });
  await slider.focus();
  await p.keyboard.press('ArrowRight');
  await p.keyboard.press('ArrowRight');
  await p.getByRole('heading', { name: 'What will happen' }).waitFor();
  await p.getByText('2 credits more per hour').waitFor();
  await p.getByText('Ready in about 3.4 s').waitFor();
  assert.equal(await p.locator('.ghost').count(), 2);
  await shoot(p, 'state-scale');
  await p.getByRole('button', { name: 'Apply' }).click();
  await p.locator('section.now').waitFor();
  await p.getByText('php has its new size.').waitFor();
  await settled();
  assert.equal((await api(php)).parts.backend, 5);
});

await step('what is typed and not applied survives what others change', async () => {
  await p.getByRole('spinbutton', { name: 'Number of Web' }).fill('3');
  await p.keyboard.press('Tab');
  await p.getByText(/credits? more per hour/).waitFor();
  await api(php + '/settings', { method: 'PATCH', body: JSON.stringify({ memory_limit: '96M' }) });
  await p.locator('section.now').waitFor();
  await p.getByText('An operation is under way; wait until it has ended.').waitFor();
  await settled();
  assert.equal(await p.getByRole('spinbutton', { name: 'Number of Web' }).inputValue(), '3');
  await p.getByRole('button', { name: 'Leave as it is' }).click();
});

await step('a kind that no page knows has all its pages, and its hostile words stay words', async () => {
  await p.goto(base + '/applications/odd/services/bowl');
  await p.getByRole('spinbutton', { name: 'Number of A part with a very long title, as translators make them' }).waitFor();
  for (const tab of ['Code', 'Access', 'Data', 'Graphs', 'Settings', 'Addresses', 'Instances', 'Logs', 'Actions', 'History']) {
    await p.getByRole('navigation', { name: 'Parts of the service' }).getByRole('link', { name: tab }).click();
    await p.locator('main .card').first().waitFor();
    assert.equal(await p.getByText('could not be loaded').count(), 0, tab);
    assert.equal(await p.getByText('There is no such page').count(), 0, tab);
  }
  await p.goto(base + '/applications/odd/services/bowl/settings');
  await p.getByLabel('Colour').selectOption('<i>almond</i>');
  await p.getByLabel('Names').waitFor();
  await p.getByLabel('Room').waitFor();
  await p.goto(base + '/applications/odd/services/bowl/data');
  await p.getByRole('cell', { name: '<img src=x onerror="document.title=1">', exact: true }).waitFor();
  await p.getByRole('button', { name: 'Add a nut' }).click();
  const dialog = p.getByRole('dialog');
  await dialog.getByLabel(/^Name/).fill('Pecan');
  await dialog.getByLabel('Weight').fill('seven');
  await dialog.getByRole('button', { name: 'Add a nut' }).click();
  assert.equal(await dialog.getByLabel('Weight').evaluate((el) => el.validity.patternMismatch), true);
  await dialog.getByLabel('Weight').fill('7');
  await dialog.getByRole('switch', { name: 'Shelled' }).click();
  await dialog.getByRole('button', { name: 'Add a nut' }).click();
  await p.getByRole('cell', { name: 'Pecan', exact: true }).waitFor();
  assert.equal(await p.title().then((t) => t.includes('1 ·')), false);
});

await step('an action that destroys asks for the name first', async () => {
  await p.goto(base + '/applications/odd/services/bowl/actions');
  const form = p.locator('form.card', { hasText: 'Empty the bowl' });
  await form.getByLabel('Room').fill('a lot');
  await form.getByRole('button', { name: 'Do it' }).click();
  assert.equal(await p.getByRole('dialog').count(), 0);
  await form.getByLabel('Room').fill('64M');
  await form.getByRole('button', { name: 'Do it' }).click();
  const dialog = p.getByRole('dialog');
  await dialog.getByLabel(/^Type/).fill('bowl');
  await dialog.getByRole('button', { name: 'Empty the bowl' }).click();
  await p.getByText('the bowl is empty; 64M stays').waitFor();
});

await step('instances: filtered, grouped and chosen by address; several go at once, and what has to stay says why', async () => {
  await p.goto(base + '/instances?search=backend&sort=cpu');
  await p.getByText(/instances are shown/).waitFor();
  assert.equal(await p.getByRole('searchbox', { name: 'Search instances' }).inputValue(), 'backend');
  await p.getByRole('button', { name: 'Show all' }).click();
  await p.getByLabel('Order').selectOption('In groups by application');
  await p.waitForURL(/group=application/);
  await p.getByRole('heading', { name: /shop/ }).waitFor();
  await p.goto(base + '/instances?search=backend&of=1');
  const boxes = p.getByRole('checkbox', { name: /^Choose a1-s1/ });
  await boxes.first().check();
  await boxes.nth(1).check();
  await p.getByText('2 chosen').waitFor();
  await p.getByRole('button', { name: 'Remove', exact: true }).click();
  await p.getByRole('dialog').getByText('They are drained first').waitFor();
  await shoot(p, 'state-remove');
  await p.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
  await p.getByText('2 instances of shop / php have left.').waitFor();
  await p.goto(base + '/applications/protein%20folding/services/simulation/instances');
  await p.getByText('no answer for 14 s').waitFor();
  assert.equal(await p.locator('article.lost').getByRole('button', { name: 'Remove' }).isDisabled(), true);
});

await step('graphs: compared with a day before, a limit is drawn, one part alone, a file for other programs', async () => {
  await p.goto(base + '/applications/wiki/services/dokuwiki/graphs?since=1h&compare=day');
  await p.locator('.key', { hasText: 'a day before' }).first().waitFor();
  const card = p.locator('section.card', { has: p.getByRole('heading', { name: 'Requests' }) });
  await card.getByRole('button', { name: 'More about Requests' }).click();
  await card.getByRole('button', { name: 'Draw a limit' }).click();
  await card.getByLabel('Limit').fill('1');
  await card.getByRole('button', { name: 'Draw it' }).click();
  await card.getByText(/% above 1\/s/).waitFor();
  await shoot(p, 'state-limit');
  await p.reload();
  await card.getByText(/% above 1\/s/).waitFor();
  await card.getByRole('button', { name: 'More about Requests' }).click();
  const [download] = await Promise.all([p.waitForEvent('download'), card.getByRole('button', { name: 'Download as CSV' }).click()]);
  assert.equal(download.suggestedFilename(), 'dokuwiki-requests.csv');
  const lines = readFileSync(await download.path(), 'utf8').trim().split('\n');
  assert.match(lines[0], /^time,proxy \(\/s\),web \(\/s\),backend \(\/s\),/);
  assert.match(lines[1], /^\d{4}-\d\d-\d\dT[\d:.]+Z,/);
  assert.ok(lines.length > 100);
  await p.getByLabel('Whose figures').selectOption('p:web');
  await p.waitForURL(/part=web/);
  await card.getByText('backend').waitFor({ state: 'detached' });
});

await step('scripts: what runs, how it ended, how long it took, what it prints', async () => {
  await p.goto(base + '/applications/shop/services/importer/actions');
  await p.getByRole('button', { name: 'Run', exact: true }).click();
  await p.getByText('3 run', { exact: true }).waitFor();
  await p.getByRole('button', { name: /^runs/ }).first().click();
  await p.getByRole('region', { name: 'What it printed' }).getByText('msg=').waitFor();
  await p.getByRole('button', { name: 'Interrupt' }).click();
  await p.getByText('signal 15').first().waitFor();
  await p.getByText('3 ended badly').waitFor();
  await shoot(p, 'state-scripts');
});

await step('a cluster shows who takes writes and who is behind; lines for programs', async () => {
  await p.goto(base + '/applications/shop/services/db/monitor');
  await p.getByText('takes writes').waitFor();
  await p.getByRole('group', { name: '2 of 2 nodes have all data' }).waitFor();
  await p.goto(base + '/applications/shop/services/db/access');
  await p.getByText("getenv('DB_HOST')").waitFor();
  await p.getByRole('button', { name: 'JDBC' }).click();
  await p.getByLabel(/^The program runs in this application/).uncheck();
  await p.getByText(/jdbc:mariadb:\/\/10\.204/).waitFor();
});

await step('who may only look sees all, and nothing that would be refused', async () => {
  // an administrator is owner of everything, so somebody else has to look
  const jonas = await page(browser, 'desktop', 'light', faults);
  await jonas.goto(base + '/');
  await jonas.getByLabel('Name', { exact: true }).fill('jonas');
  await jonas.getByLabel('Password', { exact: true }).fill('nutshell');
  await jonas.getByRole('button', { name: 'Sign in' }).click();
  await jonas.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
  const library = (await jonas.evaluate(() => fetch('/api/v1/applications').then((r) => r.json()))).find((a) => a.name === 'library').id;
  for (const [path, there] of [['/catalogue', 'Your role here is to look'], ['/catalogue/code', 'code-default'], ['/catalogue/instances', 'backend'], ['/catalogue/sites', /host name/i], ['/books/volumes', 'Volumes'], ['/books/backups', 'Backups'], ['/books/data', 'Databases'], ['/books/access', 'Secrets'], ['/books/bindings', 'As these variables']]) {
    await jonas.goto(`${base}/applications/${library}/services${path}`);
    await jonas.getByText('your role in library is that of a viewer').waitFor();
    await jonas.locator('main').getByText(there).first().waitFor();
    for (const verb of [/^Start/, /^Stop$/, /^Restart/, /^Delete/, /^Activate/, /^Remove/, /^Apply/, /^Create/, /^Take one now/, /^Reset/, /^Show it once/, /^Attach/, /^Choose a file/, /^Add it/, /^Terminal/]) {
      assert.equal(await jonas.locator('main').getByRole('button', { name: verb }).count(), 0, `${path}: ${verb}`);
    }
  }
  await shoot(jonas, 'state-viewer');
  await jonas.context().close();
  await signIn(p);
});

await step('a thousand instances scroll without drawing them all', async () => {
  await stop();
  await start('many');
  await p.goto(base + '/instances');
  await p.getByText(/^1,\d\d\d instances of all/).waitFor().catch(async () => assert.fail(await p.locator('main').innerText()));
  assert.ok((await p.locator('.line').count()) < 40);
  await p.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
  await p.waitForTimeout(100);
  const seen = await p.locator('.line').count();
  assert.ok(seen > 5 && seen < 40, String(seen));
  await p.evaluate(() => scrollTo(0, 0));
  const frames = (await costs(p, () => p.evaluate(() => scrollBy(0, 120)))).map((ms) => 4 * ms);
  console.log(`     frames while scrolling, four times slower: median ${at(0.5, frames).toFixed(1)} ms, 95 % below ${at(0.95, frames).toFixed(1)} ms`);
  assert.ok(at(0.5, frames) < 120, `half of the frames take longer than ${at(0.5, frames)} ms`);
});

await step('on a phone nothing is wider than the page', async () => {
  await stop();
  await start('odd');
  const phone = await page(browser, 'phone', 'dark', faults);
  await signIn(phone);
  await phone.setViewportSize({ width: 360, height: 740 });
  for (const path of ['/instances', php, php + '/code', php + '/graphs?since=6h&compare=day', php + '/instances', php + '/sites', '/applications/shop/services/db/monitor', '/applications/shop/services/db/access', '/applications/shop/services/importer/scripts', '/applications/odd/services/bowl', '/applications/odd/services/bowl/actions']) {
    await phone.goto(base + path);
    await phone.locator('main .card').first().waitFor();
    await phone.waitForTimeout(150);
    assert.equal(await phone.evaluate(() => document.documentElement.scrollWidth), 360, path);
  }
  await phone.context().close();
});

await end();
