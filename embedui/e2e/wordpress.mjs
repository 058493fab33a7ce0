// WordPress against a real director, by keyboard alone: from signing in to the
// first page that its visitors see. The director fetches Debian's package.
//   NUTSHELL_URL=https://… NUTSHELL_PASSWORD=… node e2e/wordpress.mjs
// Not one of e2e/all.mjs, whose directors are development ones, nor of the life
// of e2e/run.mjs, which needs no archive of Debian's.
import assert from 'node:assert/strict';
import { base, open, page, password, shoot, user } from './browser.mjs';

const faults = [];
const browser = await open();
let p = await page(browser, 'desktop', 'light', faults);
const long = { timeout: 300_000 };
const app = 'journal ' + Math.random().toString(36).slice(2, 7);
let presses = 0;
const press = (key) => (presses++, p.keyboard.press(key));
const type = (text) => ((presses += text.length), p.keyboard.type(text));

/** reach presses Tab until what has the focus is called so. */
async function reach(name, most = 90) {
  for (let i = 0; i < most; i++) {
    await press('Tab');
    const here = await p.evaluate(() => {
      const e = document.activeElement;
      return e === document.body ? '' : `${e?.getAttribute('aria-label') ?? ''}|${e?.labels?.[0]?.innerText ?? ''}|${e?.innerText ?? ''}|${e?.value ?? ''}`;
    });
    if (name.test(here)) return;
  }
  throw new Error(`Tab does not reach ${name}`);
}
async function step(name, work) {
  const began = Date.now();
  await work();
  console.log(`ok   ${name} (${Date.now() - began} ms)`);
}
const title = (name) => p.getByRole('heading', { name, level: 1 });

let failed = null;
try {
  await step('sign in', async () => {
    await p.goto(base + '/');
    await p.getByLabel('Name', { exact: true }).waitFor();
    await type(user); // the first field has the focus already
    await press('Tab');
    await type(password);
    await press('Enter');
    await title('Overview').or(title('Welcome to Nutshell')).first().waitFor();
    if (await title('Welcome to Nutshell').isVisible()) {
      await reach(/\|Skip\|/);
      await press('Enter');
      await title('Overview').waitFor();
    }
  });
  await step('choose the template and a name', async () => {
    await press('Control+k');
    await type('create an application');
    await p.locator('[role=option][aria-selected=true]', { hasText: 'Create an application' }).waitFor();
    await press('Enter');
    await title('New application').waitFor();
    await reach(/ready-made/i);
    await press('Enter');
    await p.locator('input[name=template]').first().waitFor({ state: 'attached' });
    await reach(/\|(sudoku|wordpress|mediawiki)$/);
    for (let n = 0; n < 3 && (await p.evaluate(() => document.activeElement.value)) !== 'wordpress'; n++) await press('ArrowDown');
    if (!(await p.locator('input[value=wordpress]').isChecked())) await press('Space');
    await reach(/^\|Name\|/);
    await press('Control+a');
    await type(app);
    await press('Enter');
  });
  await step('it is made, and its page leads to the site', async () => {
    await p.getByText(`Deploy ${app}`).or(p.getByText(app)).first().waitFor(long);
    await press('Control+k');
    await type(app);
    await p.locator('[role=option][aria-selected=true]', { hasText: app }).waitFor(long);
    await press('Enter');
    await title(app).waitFor();
    // The service runs a moment before its code is activated.
    const made = () => p.evaluate(async (name) => (await (await fetch('/api/v1/operations')).json()).some((o) => o.title === `make application ${name}` && o.state === 'done'), app);
    for (const late = Date.now() + 900_000; !(await made()); await p.waitForTimeout(500)) assert.ok(Date.now() < late, 'it was not made');
    await p.locator('article', { hasText: 'web' }).locator('.tag', { hasText: 'Running' }).waitFor(long);
    await p.locator('.page-head a[href^="http://"]').first().waitFor(long);
    await shoot(p, 'wordpress-application');
    await reach(/^\|\|http:\/\//);
    const [site] = await Promise.all([p.context().waitForEvent('page', long), press('Enter')]);
    await site.waitForLoadState();
    p = site;
  });
  await step('WordPress is installed', async () => {
    // A network that comes or goes on the browser's machine breaks what it loads.
    for (let again = 0; again < 10 && !(await p.waitForURL(/wp-admin\/install\.php/, { timeout: 30_000 }).then(() => true, () => false)); again++) await p.reload();
    if (await p.getByRole('button', { name: 'Continue' }).isVisible()) {
      await reach(/Continue/);
      await press('Enter');
    }
    await p.getByLabel('Site Title').waitFor(long);
    await shoot(p, 'wordpress-install');
    await reach(/\|Site Title/);
    await type('By keyboard');
    await reach(/\|Username/);
    await type('ada');
    await reach(/\|Your Email/);
    await type('ada@example.org');
    await reach(/\|Install WordPress$/);
    await press('Enter');
    await p.getByText('Success!').waitFor(long);
    const front = new URL('/', p.url()).href;
    await p.goto(front);
    assert.match(await p.title(), /By keyboard/);
    await shoot(p, 'wordpress-front');
  });
  console.log(`${presses} keys, no mouse`);
} catch (e) {
  failed = e;
  await shoot(p, 'wordpress-failed');
}
await browser.close();
// What WordPress's own pages do is not ours to judge.
for (const f of faults.filter((f) => !f.startsWith('request to another host'))) console.log('FAULT', f);
if (failed) console.log('FAIL', failed.message);
process.exit(failed || faults.some((f) => !f.startsWith('request to another host')) ? 1 : 0);
