// The life of an application, driven by the pages alone, against any director:
//   NUTSHELL_URL=https://127.0.0.1:5555 NUTSHELL_PASSWORD=… NUTSHELL_E2E_PHP=1 node e2e/smoke.mjs
import assert from 'node:assert/strict';
import { base, open, page, shoot } from './browser.mjs';
import { database } from './database.mjs';
import { php } from './site.mjs';

const faults = [];
const browser = await open();
const p = await page(browser, 'desktop', 'light', faults);
const app = 'e2e ' + Math.random().toString(36).slice(2, 7);
const long = { timeout: 180_000 };
let failed = null;

async function step(name, work) {
  const began = Date.now();
  await work();
  console.log(`ok   ${name} (${Date.now() - began} ms)`);
}
const running = (of) => of.locator('.page-head .tag', { hasText: 'Running' }).waitFor(long);

try {
  await step('a wrong password is refused with words', async () => {
    await p.goto(base + '/');
    await p.getByLabel('Name', { exact: true }).fill('admin');
    await p.getByLabel('Password', { exact: true }).fill('not this one');
    await p.getByRole('button', { name: 'Sign in' }).click();
    await p.getByRole('alert').waitFor();
    await shoot(p, 'step-wrong-password');
  });
  await step('a deep link leads there after signing in', async () => {
    await p.goto(base + '/operations');
    await p.getByLabel('Name', { exact: true }).fill(process.env.NUTSHELL_USER ?? 'admin');
    await p.getByLabel('Password', { exact: true }).fill(process.env.NUTSHELL_PASSWORD ?? 'nutshell');
    await p.keyboard.press('Enter');
    await p.getByRole('heading', { name: 'Operations', level: 1 }).waitFor();
  });
  await step('create an application', async () => {
    await p.goto(base + '/applications?new');
    await p.getByLabel('Name', { exact: true }).fill(app);
    await p.getByRole('button', { name: 'Create', exact: true }).click();
    await p.getByRole('heading', { name: `What should ${app} run?` }).waitFor();
  });
  await step('add a service', async () => {
    await p.locator('label', { has: p.locator('input[value=helloworld]') }).click();
    await p.locator('main').getByRole('button', { name: /^Add / }).click();
    await p.getByRole('heading', { name: 'helloworld', level: 1 }).waitFor();
  });
  await step('start the application', async () => {
    await p.getByRole('navigation', { name: 'Where you are' }).getByRole('link', { name: app }).click();
    await p.getByRole('button', { name: 'Start', exact: true }).first().click();
    await p.getByRole('dialog').getByRole('checkbox', { name: 'helloworld' }).uncheck(); // it is started below, on its own
    await p.getByRole('dialog').getByRole('button', { name: 'Start', exact: true }).click();
    await running(p);
    await shoot(p, 'step-application-runs');
  });
  await step('start the service', async () => {
    await p.locator('article').getByRole('link', { name: 'helloworld' }).click();
    await p.locator('.page-head').getByRole('button', { name: 'Start' }).click();
    await p.locator('section.now').or(p.locator('.page-head .tag', { hasText: 'Running' })).first().waitFor(long); // it may start sooner than one looks
    await shoot(p, 'step-service-starts');
    await running(p);
  });
  await step('scale with a preview', async () => {
    await p.getByRole('button', { name: /more$/ }).first().click();
    await p.getByText('What will happen').waitFor();
    await p.getByText(/an instance starts/).waitFor();
    await shoot(p, 'step-preview');
    await p.getByRole('button', { name: 'Apply' }).click();
    await p.getByText('has its new size.').waitFor(long);
    await p.locator('.chips > .chip').nth(1).waitFor(long);
  });
  await step('an action answers for both instances', async () => {
    await p.getByRole('link', { name: 'Actions' }).click();
    await p.locator('form', { hasText: /hello/i }).first().getByRole('button').first().click();
    await p.locator('.out pre').first().waitFor(long);
    assert.equal((await p.locator('.out pre').first().innerText()).split('\n').filter((l) => /from/i.test(l)).length, 2);
  });
  await step('the log is there', async () => {
    await p.getByRole('link', { name: 'Logs', exact: true }).click();
    await p.getByRole('listbox', { name: /^Lines of logs/ }).getByRole('option').first().waitFor(long);
    await shoot(p, 'step-log');
  });
  await step('rename survives as a new address', async () => {
    await p.getByRole('button', { name: 'Rename the service' }).click();
    await p.getByLabel('New name of the service').fill('greeter');
    await p.keyboard.press('Enter');
    await p.getByRole('heading', { name: 'greeter', level: 1 }).waitFor();
    assert.match(p.url(), /services\/greeter/);
  });
  await step('stop the service', async () => {
    await p.locator('.page-head').getByRole('button', { name: 'Stop' }).click();
    await p.getByRole('dialog').getByRole('button', { name: 'Stop' }).click();
    await p.locator('.page-head .tag', { hasText: 'Stopped' }).waitFor(long);
  });
  // The development director serves no pages, so this part is asked for.
  if (process.env.NUTSHELL_E2E_PHP) await php(p, app, step, running);
  if (process.env.NUTSHELL_E2E_MYSQL) await database(p, app, step, running);
  await step('delete wants the name typed', async () => {
    await p.goto(`${base}/applications/${encodeURIComponent(app)}`);
    await p.getByRole('button', { name: `More about ${app}` }).click();
    await p.locator('.item', { hasText: 'Delete' }).click();
    const dialog = p.getByRole('dialog');
    assert.equal(await dialog.getByRole('button', { name: `Delete ${app}` }).isDisabled(), true);
    await dialog.getByLabel(/^Type/).fill(app);
    await shoot(p, 'step-delete');
    await dialog.getByRole('button', { name: `Delete ${app}` }).click();
    await p.getByText(new RegExp(`^${app} (is in the bin|was deleted)\\.`)).waitFor(long);
  });
} catch (e) {
  failed = e;
  await shoot(p, 'step-failed');
}
await browser.close();
for (const f of faults) console.log('FAULT', f);
if (failed) console.log('FAIL', failed.message);
process.exit(failed || faults.length ? 1 : 0);
