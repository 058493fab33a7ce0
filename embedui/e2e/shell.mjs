// The frame around all screens, and what gives an overview: the palette, keys,
// focus, links that break, the drawing of an application, many applications
// at once, new services, manifests beside their form, the manual:
//   node e2e/shell.mjs
import assert from 'node:assert/strict';
import { api, end, p, signal, step } from './stage.mjs';
import { base, signIn, shoot } from './browser.mjs';

const ready = (name) => p.getByRole('heading', { level: 1, name }).waitFor();
const palette = async (text) => {
  await p.keyboard.press('Control+k');
  const input = p.getByRole('combobox', { name: 'Find or do' });
  await input.waitFor();
  await input.fill(text);
};
const chosen = () => p.locator('[role=option][aria-selected=true]').innerText();

await step('sign in', () => signIn(p));

await step('the palette finds by beginnings and by letters, and goes there', async () => {
  await palette('shop php logs');
  assert.match(await chosen(), /shop \/ php: logs/);
  await p.keyboard.press('Enter');
  await p.waitForURL(/services\/php\/logs$/);
  await palette('creds');
  assert.match(await chosen(), /Credits and ledger/);
  await p.keyboard.press('Escape');
  await palette('wordpress');
  assert.match(await chosen(), /WordPress/);
  await p.keyboard.press('Enter');
  await p.waitForURL(/help\/guide\/wordpress$/);
  // what was used last stands first
  await p.keyboard.press('Control+k');
  await p.getByText('Used last').waitFor();
  assert.match(await chosen(), /WordPress/);
  await p.keyboard.press('Escape');
});

await step('the palette stops nothing without a second word', async () => {
  await palette('stop wiki / dokuwiki');
  assert.match(await chosen(), /Stop wiki \/ dokuwiki/);
  await p.keyboard.press('Enter');
  await p.getByText('wiki / dokuwiki stops answering; everything is kept.').first().waitFor();
  await p.keyboard.press('ArrowDown');
  await p.keyboard.press('ArrowUp');
  assert.match(await chosen(), /^Stop wiki/, 'moving away takes the question back');
  await p.keyboard.press('Escape');
  assert.equal((await api('/applications/wiki/services/dokuwiki')).state, 'RUNNING');
});

await step('keys go places, and are listed', async () => {
  await p.goto(base + '/');
  await ready('Overview');
  await p.keyboard.press('g');
  await p.keyboard.press('n');
  await p.waitForURL(/\/instances/);
  await p.keyboard.press('?');
  await p.getByRole('dialog').getByText('Find or do anything').waitFor();
  await p.keyboard.press('Escape');
  await p.keyboard.press('g');
  await p.keyboard.press('a');
  await ready('Applications');
  await p.keyboard.press('/');
  assert.equal(await p.evaluate(() => document.activeElement.type), 'search');
});

await step('another screen has the focus at its heading, and back brings the place back', async () => {
  await p.goto(base + '/help/guide/manifests');
  await ready('Manifests and templates');
  await p.evaluate(() => scrollTo(0, 900));
  await p.waitForFunction(() => scrollY > 880);
  await p.getByRole('link', { name: 'Audit' }).click();
  await ready('Audit');
  await p.waitForFunction(() => document.activeElement?.tagName === 'H1' && document.activeElement.textContent.includes('Audit'));
  assert.match(await p.title(), /^Audit/);
  assert.equal(await p.evaluate(() => scrollY), 0);
  await p.goBack();
  await ready('Manifests and templates');
  await p.waitForFunction(() => Math.abs(scrollY - 900) < 3);
});

await step('a link that breaks is taken up where it was: nothing is read again, nothing is missed', async () => {
  await p.goto(base + '/applications');
  await ready('Applications');
  const read = [];
  p.on('request', (r) => read.push(new URL(r.url()).pathname + new URL(r.url()).search));
  read.length = 0;
  signal('SIGUSR2');
  // made while nobody listens
  await api('/applications', { method: 'POST', body: JSON.stringify({ name: 'meanwhile' }) });
  await p.getByRole('link', { name: 'meanwhile' }).first().waitFor();
  await p.locator('.link.live').waitFor();
  assert.ok(read.some((u) => u.startsWith('/api/v1/events')), 'the stream was taken up');
  assert.deepEqual(read.filter((u) => u === '/api/v1/applications' || u === '/api/v1/services'), ['/api/v1/applications'].slice(0, read.filter((u) => u === '/api/v1/applications').length === 1 ? 1 : 0), 'only the test itself asked for applications');
});

await step('the drawing says in words what it shows, and leads on', async () => {
  await p.goto(base + '/applications/shop');
  const map = p.getByRole('region', { name: 'How the services of shop hang together' });
  await map.waitFor();
  const words = await map.locator('li').allInnerTexts();
  assert.ok(words.some((w) => w.startsWith('Visitors reach php proxy')), words.join());
  assert.ok(words.some((w) => w.startsWith('php proxy passes requests to php backend')), words.join());
  assert.ok(words.includes('php uses db') && words.includes('importer uses db') && !words.includes('canary uses db'), words.join());
  await map.getByRole('link', { name: /^backend ×3 of php, 3 ready/ }).focus();
  await p.keyboard.press('Enter');
  await p.waitForURL(/services\/php\/instances$/);
});

await step('the timeline tells deployments from failures', async () => {
  await p.goto(base + '/applications/protein%20folding/timeline');
  await p.getByRole('button', { name: /^Failures/ }).click();
  await p.getByText('init.sh ended with status 1 on 1 of 4 instances.').first().waitFor();
  assert.equal(await p.getByText('was created').count(), 0);
});

await step('many are changed at once, after it was said what that means', async () => {
  await p.goto(base + '/applications?view=table&sort=state');
  await ready('Applications');
  await p.getByLabel('Choose wiki').check();
  await p.getByLabel('Choose blog').check();
  await p.getByRole('button', { name: 'Stop 1' }).click();
  const dialog = p.getByRole('dialog');
  await dialog.getByText('1 service stops answering').waitFor();
  await dialog.getByText(/1 of those chosen is left as it is/).waitFor();
  await shoot(p, 'state-bulk');
  await dialog.getByRole('button', { name: 'Stop', exact: true }).click();
  await p.getByText('wiki is stopped; everything is kept.').waitFor();
  await p.getByRole('button', { name: /^Stopped/ }).click();
  assert.match(p.url(), /only=idle/);
  await p.getByRole('row', { name: /wiki/ }).waitFor();
  await p.getByRole('row', { name: /shop/ }).waitFor({ state: 'detached' });
});

await step('a new service says what it needs and costs before it is made', async () => {
  await p.goto(base + '/applications/shop/add');
  await p.getByText('PHP web hosting').last().click();
  await p.getByRole('button', { name: 'More: Backend' }).click();
  await p.locator('.price strong').waitFor();
  await p.getByRole('textbox', { name: 'Name' }).fill('db');
  await p.getByText('shop has a service of this name.').waitFor();
  assert.equal(await p.getByRole('button', { name: 'Add PHP web hosting' }).isDisabled(), true);
  await p.getByRole('textbox', { name: 'Name' }).fill('second');
  await p.getByLabel('Only of these').check();
  await p.getByLabel(/^db/).check();
  await p.getByText('nutshell php scale shop second --backend =2').waitFor();
  await p.getByText('nutshell service bind shop second db').waitFor();
  await p.getByLabel('Start it at once').uncheck();
  await shoot(p, 'state-add');
  await p.getByRole('button', { name: 'Add PHP web hosting' }).click();
  await p.waitForURL(/services\/second\/code$/);
  const made = await api('/applications/shop/services/second');
  assert.equal(made.parts.backend, 2);
  assert.deepEqual(made.bind, ['db']);
});

await step('a manifest is put together beside its text, and both say the same', async () => {
  await p.goto(base + '/applications?new=manifest');
  const text = p.locator('#manifest-text');
  await p.getByRole('button', { name: 'More: site Backend' }).click();
  assert.match(await text.inputValue(), /ServiceName: site\n {4}StartupInstances: \{proxy: 1, web: 1, backend: 2\}\n/);
  await p.getByRole('button', { name: 'Generic', exact: true }).click();
  await p.waitForFunction(() => document.querySelector('#manifest-text').value.includes('- Type: generic'));
  await p.getByRole('button', { name: 'Take db out of the manifest' }).click();
  assert.doesNotMatch(await text.inputValue(), /mysql/);
  await p.getByText('can be made').waitFor();
  await shoot(p, 'state-manifest-form');
});

await step('the like of an application is made from its manifest', async () => {
  await p.goto(base + '/applications/shop');
  await p.getByRole('button', { name: 'More about shop' }).click();
  await p.getByRole('link', { name: 'Make another like it' }).click();
  await ready('Another like shop');
  await p.waitForFunction(() => document.querySelector('#manifest-text')?.value.includes('Services:'));
});

await step('the manual is searched by beginnings of words, and its pages lead to each other', async () => {
  await p.goto(base + '/help');
  const find = p.getByRole('searchbox', { name: 'Search the manual' });
  await find.fill('restor moment');
  await p.locator('#hits mark').first().waitFor();
  await find.press('Enter');
  await p.waitForURL(/help\/guide\/backups#/);
  await p.locator('article.prose pre').first().waitFor();
  assert.ok(await p.locator('article.prose .copy button').count() > 0, 'code can be copied');
  await find.fill('zzqqxx');
  await p.getByText('Nothing in the manual is like that').waitFor();
  await find.fill('');
  for (const a of await p.locator('article.prose a[href^="/"]').all()) assert.match(await a.getAttribute('href'), /^\/help\/(guide|operate)(\/|#|$)/);
});

await step('the API is explored, and what only reads is tried', async () => {
  await p.goto(base + '/help/api');
  await p.getByRole('searchbox', { name: 'Search routes' }).fill('GET /applications/{app}/history');
  await p.getByRole('button', { name: /history/ }).first().click();
  await p.getByLabel(/^app/).fill('shop');
  await p.getByText(/curl -u admin .*\/applications\/shop\/history/).waitFor();
  await p.getByRole('button', { name: 'Try it' }).click();
  await p.getByText('"reason"').first().waitFor();
  await p.getByRole('searchbox', { name: 'Search routes' }).fill('DELETE');
  await p.locator('button.head').first().click();
  assert.equal(await p.getByRole('button', { name: 'Try it' }).count(), 0, 'what changes something is only shown');
});

await step('pinned applications stand first, also after a reload', async () => {
  await p.goto(base + '/applications/wiki');
  await p.getByRole('button', { name: /^Pin wiki/ }).click();
  await p.reload();
  await p.goto(base + '/');
  await ready('Overview');
  assert.match(await p.locator('.apps li').first().innerText(), /wiki/);
});

await step('a page whose scripts did not come is loaded again by itself, and not for ever', async () => {
  let refuse = 2;
  let loads = 0;
  await p.route('**/assets/index-*.js', (route) => {
    loads++;
    return refuse-- > 0 ? route.abort('internetdisconnected') : route.continue();
  });
  await p.goto(base + '/');
  await ready('Overview');
  assert.equal(loads, 3);
  assert.equal(await p.evaluate(() => sessionStorage.getItem('nutshell.again')), null, 'the next time counts anew');
  [refuse, loads] = [99, 0];
  await p.goto(base + '/');
  while (loads < 6) await p.waitForTimeout(100);
  await p.waitForTimeout(1500);
  assert.equal(loads, 6, 'five times more');
  await p.unroute('**/assets/index-*.js');
  await p.evaluate(() => sessionStorage.removeItem('nutshell.again'));
});

await step('styles and screens that did not come are fetched again, and the page stays', async () => {
  await p.goto(base + '/');
  await ready('Overview');
  await p.evaluate(() => (window.stayed = true));
  const refused = { css: 0, js: 0 };
  const refuse = (kind) => (route) => (refused[kind]++ < 2 ? route.abort('internetdisconnected') : route.continue());
  await p.route('**/assets/Audit-*.js', refuse('js'));
  await p.getByRole('link', { name: 'Audit' }).click();
  await ready('Audit');
  assert.ok(refused.js > 2);
  assert.equal(await p.evaluate(() => window.stayed), true);
  await p.unroute('**/assets/Audit-*.js');
  await p.route('**/assets/index-*.css', refuse('css'));
  await p.goto(base + '/');
  await ready('Overview');
  await p.waitForFunction(() => getComputedStyle(document.documentElement).getPropertyValue('--surface'));
  assert.equal(refused.css, 3);
  await p.unroute('**/assets/index-*.css');
});

await end();
