// Who may use an application: let in, made more or less, taken out, handed
// over; and what somebody sees who may only look:
//   node e2e/people.mjs
import assert from 'node:assert/strict';
import { browser, end, faults, p, step } from './stage.mjs';
import { base, page, shoot, signIn } from './browser.mjs';

const people = '/applications/shop/people';
const row = (name) => p.locator('.people li').filter({ has: p.getByText(name, { exact: true }) });

await step('sign in', () => signIn(p));

await step('people are shown with what they are, and hostile names as text', async () => {
  await p.goto(base + people);
  await row('maria').getByText('let in by admin').waitFor();
  await p.getByText('<img src=x onerror=alert(1)> "><script>', { exact: true }).waitFor();
  assert.equal(await p.locator('.people img, .people script').count(), 0);
  assert.equal(await row('maria').getByLabel('Role of maria').inputValue(), 'developer');
  await row('admin').getByText('Pays').waitFor();
});

await step('somebody unknown cannot be let in, and what was typed stays', async () => {
  await p.getByRole('button', { name: 'Let somebody in' }).click();
  const dialog = p.getByRole('dialog');
  await dialog.getByLabel('User name').fill('nobody');
  await dialog.getByLabel(/^Owner/).check();
  await dialog.getByText('nutshell member add shop nobody owner').waitFor();
  await dialog.getByRole('button', { name: 'Let in' }).click();
  await dialog.getByRole('alert').getByText('There is no user').waitFor();
  assert.equal(await dialog.getByLabel('User name').inputValue(), 'nobody');
  await dialog.getByRole('button', { name: 'Not now' }).click();
});

await step('a role changes at once', async () => {
  await row('jonas').getByLabel('Role of jonas').selectOption('developer');
  await p.getByText('jonas: Developer.').waitFor();
  await p.reload();
  await row('jonas').getByLabel('Role of jonas').waitFor();
  assert.equal(await row('jonas').getByLabel('Role of jonas').inputValue(), 'developer');
  await row('jonas').getByLabel('Role of jonas').selectOption('viewer');
});

await step('somebody is taken out, after a word about what that means', async () => {
  await row('hostile').getByRole('button', { name: 'More about hostile' }).click();
  await p.getByRole('button', { name: 'Take hostile out' }).click();
  await p.getByRole('dialog').getByText('What hostile made in it stays').waitFor();
  await p.getByRole('dialog').getByRole('button', { name: 'Take out' }).click();
  await row('hostile').waitFor({ state: 'detached' });
});

await step('handing over asks for the name, and a refusal says what to do', async () => {
  await p.getByRole('button', { name: 'Hand shop over' }).click();
  const dialog = p.getByRole('dialog');
  await dialog.getByLabel('New owner').fill('jonas');
  const hand = dialog.getByRole('button', { name: 'Hand over' });
  assert.equal(await hand.isDisabled(), true);
  await dialog.getByLabel(/^Type/).fill('shop');
  await hand.click();
  await dialog.getByRole('alert').getByText('3 credits are needed').waitFor();
  await shoot(p, 'state-handover');
  await dialog.getByLabel('New owner').fill('maria');
  await dialog.getByLabel(/^Developer/).check();
  await hand.click();
  await dialog.waitFor({ state: 'detached' });
  await row('maria').getByText('Pays').waitFor();
  assert.equal(await row('admin').getByLabel('Role of admin').inputValue(), 'developer');
});

await step('a viewer sees all of it, and is told why there is no more', async () => {
  const viewer = await page(browser, 'phone', 'light', faults);
  await viewer.goto(base + '/');
  await viewer.getByLabel('Name', { exact: true }).fill('jonas');
  await viewer.getByLabel('Password', { exact: true }).fill('nutshell');
  await viewer.getByRole('button', { name: 'Sign in' }).click();
  await viewer.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
  await viewer.goto(base + '/applications/1/people');
  await viewer.getByText('You are a viewer here. Ask maria to make you an owner.').waitFor();
  assert.equal(await viewer.getByRole('button', { name: 'Let somebody in' }).count(), 0);
  assert.equal(await viewer.getByRole('combobox').count(), 0);
  await shoot(viewer, 'state-viewer', true);
  await viewer.getByRole('button', { name: 'Leave' }).click();
  await viewer.getByRole('dialog').getByRole('button', { name: 'Leave' }).click();
  await viewer.waitForURL(base + '/applications');
  await viewer.context().close();
});

await end();
