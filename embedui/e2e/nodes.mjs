// The machines of a cluster: one asks to join and is let in, one is turned
// away, one is drained, a lost one is removed; and what machines say of
// themselves stays text:
//   node e2e/nodes.mjs
import assert from 'node:assert/strict';
import { api, browser, end, faults, p, step } from './stage.mjs';
import { base, page, shoot, signIn } from './browser.mjs';

const row = (name) => p.locator('main li').filter({ has: p.getByRole('link', { name, exact: true }) });
const card = (text) => p.locator('form').filter({ hasText: text });
const more = async (name, item) => {
  await row(name).getByRole('button', { name: 'More about ' + name }).click();
  await row(name).getByRole(/page/.test(item) ? 'link' : 'button', { name: item }).click();
};

await step('sign in', () => signIn(p));

await step('the overview tells of a lost node and of machines that wait', async () => {
  const matters = p.getByRole('region', { name: 'What needs attention' });
  await matters.getByText('Node pi-4 does not answer').waitFor();
  await matters.getByText('2 machines want to join').waitFor();
  const nav = p.getByRole('link', { name: /Nodes/ }).first();
  assert.match(await nav.textContent(), /2 wait/);
  await nav.click();
  await p.getByRole('heading', { name: 'Nodes', level: 1 }).waitFor();
});

await step('those that wait stand first, and what they say of themselves is text', async () => {
  await p.getByText('<img src=x onerror=alert(1)>"><script>', { exact: true }).waitFor();
  assert.equal(await p.locator('main img, main script').count(), 0);
  const asking = await p.locator('form').first().boundingBox();
  assert.ok(asking.y < (await row('pi-1').boundingBox()).y);
  const { fingerprint } = (await api('/nodes')).find((n) => n.model.includes('Pi 5'));
  assert.equal((await card('Raspberry Pi 5').locator('.print').textContent()).trim(), fingerprint);
  await shoot(p, 'state-nodes');
});

await step('a name that is taken is refused, and what was typed stays', async () => {
  const asks = card('Raspberry Pi 5');
  await asks.getByLabel('Name of this machine').fill('pi-1');
  await asks.getByText(/nutshell node approve n\w+ --fingerprint \w{16} --name pi-1/).waitFor();
  await asks.getByRole('button', { name: 'Let it join' }).click();
  await asks.getByRole('alert').getByText('Another node has this name').waitFor();
  assert.equal(await asks.getByLabel('Name of this machine').inputValue(), 'pi-1');
});

await step('it is let in, by the keyboard', async () => {
  await card('Raspberry Pi 5').getByLabel('Name of this machine').fill('pi-5');
  await p.keyboard.press('Enter');
  await p.getByText('pi-5 has joined.').waitFor();
  await row('pi-5').waitFor();
  assert.equal(await p.locator('form.joining').count(), 1);
});

await step('what others do shows by itself, and half a name survives it', async () => {
  await p.getByLabel('Name of this machine').fill('half a na');
  await api('/nodes/pi-2/cordon', { method: 'POST' });
  await row('pi-2').getByText('Cordoned', { exact: true }).first().waitFor();
  assert.equal(await p.getByLabel('Name of this machine').inputValue(), 'half a na');
  await more('pi-2', 'Uncordon');
  await p.getByText('pi-2 gets instances again.').waitFor();
});

await step('a machine is turned away', async () => {
  await p.getByRole('button', { name: 'Turn away' }).click();
  await p.locator('form.joining').waitFor({ state: 'detached' });
});

await step('a machine with instances is not removed without a word', async () => {
  await more('pi-1', 'Remove');
  const dialog = p.getByRole('dialog');
  await dialog.getByText(/It carries 3 instances\. Drain it first/).waitFor();
  await shoot(p, 'state-node-remove');
  await dialog.getByRole('button', { name: 'Remove it at once' }).click();
  await dialog.getByText('This is lost for good:').waitFor();
  assert.equal(await dialog.getByRole('button', { name: 'Remove', exact: true }).isDisabled(), true);
  await dialog.getByRole('button', { name: 'Keep it' }).click();
});

await step('its page leads to its instances, and it is drained with all steps to see', async () => {
  await more('pi-1', 'Its page');
  await p.getByRole('heading', { name: 'pi-1', level: 1 }).waitFor();
  await p.getByRole('link', { name: 'shop / php' }).first().waitFor();
  await p.getByRole('button', { name: 'Drain', exact: true }).click();
  const dialog = p.getByRole('dialog');
  await dialog.getByText(/2 other machines are ready, with .* of free memory together/).waitFor();
  await dialog.getByText('nutshell node drain pi-1').waitFor();
  await shoot(p, 'state-node-drain');
  await dialog.getByRole('button', { name: 'Drain', exact: true }).click();
  await p.getByRole('button', { name: /Drain node pi-1/ }).waitFor();
  await p.getByText('Draining', { exact: true }).first().waitFor();
  await p.getByText('pi-1 is empty.').waitFor();
  await p.getByText('Cordoned', { exact: true }).first().waitFor();
  await p.locator('main').getByText('None.', { exact: true }).waitFor();
  assert.equal(await p.locator('section .chips a').count(), 0);
});

await step('empty, it is removed, and the list is shown', async () => {
  await p.getByRole('button', { name: 'Remove', exact: true }).click();
  await p.getByRole('dialog').getByText('It carries no instance, so nothing stops.').waitFor();
  await p.getByRole('dialog').getByRole('button', { name: 'Remove', exact: true }).click();
  await p.waitForURL(base + '/nodes');
  await p.getByText('pi-1 was removed.').waitFor();
  await row('pi-1').waitFor({ state: 'detached' });
});

await step('a lost one goes with what it carried, once its name is typed', async () => {
  await more('pi-4', 'Remove');
  const dialog = p.getByRole('dialog');
  await dialog.getByText('1 instance that it carried, with what is on its disk').waitFor();
  await dialog.getByText('nutshell node remove pi-4 --force').waitFor();
  await dialog.getByLabel(/^Type/).fill('pi-4');
  await dialog.getByRole('button', { name: 'Remove', exact: true }).click();
  await p.getByText('pi-4 was removed.').waitFor();
  await row('pi-4').waitFor({ state: 'detached' });
});

await step('instances say where they run, and are found by it', async () => {
  await p.goto(base + '/instances?node=pi-2');
  await p.locator('.line').first().waitFor();
  await p.locator('.line').first().getByRole('link', { name: 'pi-2' }).click();
  await p.getByRole('heading', { name: 'pi-2', level: 1 }).waitFor();
  await p.goto(base + '/nodes/there-is-none');
  await p.getByText('There is no such node').waitFor();
});

await step('the palette and a letter lead there; without machines the page says how they come', async () => {
  for (const n of await api('/nodes')) await api(`/nodes/${n.id}?force=true`, { method: 'DELETE' });
  await p.goto(base + '/');
  await p.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
  await p.keyboard.press('g');
  await p.keyboard.press('k');
  await p.getByText('No machines yet').waitFor();
  await p.getByText('nutshell image build sdcard').waitFor();
  await shoot(p, 'state-nodes-none', true);
});

await step('who is no administrator sees nothing of it', async () => {
  const other = await page(browser, 'phone', 'light', faults);
  await other.goto(base + '/');
  await other.getByLabel('Name', { exact: true }).fill('jonas');
  await other.getByLabel('Password', { exact: true }).fill('nutshell');
  await other.getByRole('button', { name: 'Sign in' }).click();
  await other.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
  await other.getByRole('button', { name: 'More' }).click();
  assert.equal(await other.getByRole('dialog').getByText('Nodes').count(), 0);
  await other.goto(base + '/nodes');
  await other.getByText('There is no such page').waitFor();
  await other.context().close();
});

await end();
