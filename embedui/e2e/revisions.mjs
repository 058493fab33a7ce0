// Two people change the same: nothing is overwritten unseen. What was changed
// is listed and taken back. And the page of an operation:
//   node e2e/revisions.mjs
import assert from 'node:assert/strict';
import { api, browser, end, faults, p, php, step } from './stage.mjs';
import { base, page, settled, shoot, signIn } from './browser.mjs';

const S = '/applications/1/services/1';
const dialog = p.getByRole('dialog');
const meanwhile = (name) => dialog.getByRole('region', { name: `${name}: changed by somebody else meanwhile` });
/** others change something behind the page's back, and their operation is waited for. */
async function others(path, method, body) {
  await api(S + path, { method, body: JSON.stringify(body) });
  for (let n = 0; n < 100; n++) {
    if (!(await api(S)).operation) return;
    await p.waitForTimeout(100);
  }
  throw new Error('the change of others does not end');
}
const setting = (name) => api(S).then((s) => s.settings[name]);

await step('sign in', () => signIn(p));

await step('a setting that two people change is shown twice, and theirs can be kept', async () => {
  await p.goto(base + php + '/settings');
  await p.locator('#setting-memory_limit').fill('512M');
  await others('/settings', 'PATCH', { memory_limit: '256M' });
  await p.getByRole('button', { name: 'Review and apply' }).click();
  await meanwhile('Memory of a script').getByText('256M').waitFor();
  await meanwhile('Memory of a script').getByText('changed by admin meanwhile').waitFor();
  assert.equal(await dialog.getByRole('button', { name: 'Apply' }).isDisabled(), true);
  await shoot(p, 'revisions-clash');
  await meanwhile('Memory of a script').getByRole('button', { name: 'Keep theirs' }).click();
  await dialog.waitFor({ state: 'detached' });
  assert.equal(await p.locator('#setting-memory_limit').inputValue(), '256M');
});

await step('yours counts when you say so, and others’ other changes stay', async () => {
  await p.locator('#setting-memory_limit').fill('512M');
  await others('/settings', 'PATCH', { memory_limit: '128M' });
  await p.getByRole('button', { name: 'Review and apply' }).click();
  await meanwhile('Memory of a script').getByRole('button', { name: 'Use yours' }).click();
  await dialog.getByRole('cell', { name: '128M' }).waitFor();
  await dialog.getByRole('button', { name: 'Apply' }).click();
  await p.getByText('php works with its new settings.').waitFor();
  assert.equal(await setting('memory_limit'), '512M');
});

await step('what the director refuses is put beside what was typed', async () => {
  await p.locator('#setting-memory_limit').fill('64M');
  await p.getByRole('button', { name: 'Review and apply' }).click();
  // the stream is slower than somebody else
  await p.route('**' + S + '/settings', (route) => route.continue({ headers: { ...route.request().headers(), 'if-match': '1' } }), { times: 1 });
  await dialog.getByRole('button', { name: 'Apply' }).click();
  await dialog.getByRole('alert').getByText('somebody else was faster', { exact: false }).waitFor();
  assert.equal(await setting('memory_limit'), '512M');
  await dialog.getByRole('button', { name: 'Back' }).click();
  await p.getByRole('button', { name: 'Undo all' }).click();
});

await step('variables, too, and of secrets only that they changed', async () => {
  await p.goto(base + php + '/environment');
  await p.getByLabel('APP_ENV', { exact: true }).fill('staging');
  await p.getByLabel('STRIPE_KEY', { exact: true }).fill('mine');
  await others('/environment', 'PATCH', { set: [{ name: 'APP_ENV', value: 'testing' }, { name: 'STRIPE_KEY', value: 'theirs', secret: true }] });
  await p.getByRole('button', { name: 'Review and apply' }).click();
  await meanwhile('APP_ENV').getByText('testing').waitFor();
  await meanwhile('APP_ENV').getByRole('button', { name: 'Keep theirs' }).click();
  await settled(p);
  await dialog.getByRole('button', { name: 'Apply' }).click();
  await p.getByText('php works with its new variables.').waitFor();
  assert.equal((await api(S + '/environment')).find((v) => v.name === 'APP_ENV').value, 'testing');
});

await step('a script that somebody else wrote meanwhile is compared line by line', async () => {
  await p.goto(base + php + '/script');
  await p.getByLabel('Startup script').fill('#!/bin/sh\necho mine\n');
  await others('/script', 'PUT', { text: '#!/bin/sh\necho theirs\n' });
  const both = p.getByRole('region', { name: 'Startup script: changed by somebody else meanwhile' });
  await both.getByText('echo theirs').waitFor();
  await both.getByText('echo mine').waitFor();
  assert.equal(await p.getByRole('button', { name: 'Store' }).isDisabled(), true);
  await shoot(p, 'revisions-script');
  await both.getByRole('button', { name: 'Use yours' }).click();
  await p.getByRole('button', { name: 'Store' }).click();
  await p.getByText('Stored. Each new instance').waitFor();
  assert.equal((await api(S + '/script')).text, '#!/bin/sh\necho mine\n');
});

await step('changes are listed with who made them, hostile ones as text', async () => {
  await p.goto(base + php + '/revisions');
  await p.getByText('<img src=x onerror=alert(1)>', { exact: true }).waitFor();
  assert.equal(await p.locator('.revision img').count(), 0);
  await p.locator('.revision').first().getByText('echo mine').waitFor();
  assert.equal(await p.getByText('theirs', { exact: true }).count(), 0); // the secret
  await shoot(p, 'revisions-list', true);
});

await step('going back says what changes, and does it', async () => {
  await p.getByRole('button', { name: /^Go back to this ?: 4$/ }).click();
  await dialog.getByText('echo mine').waitFor();
  await dialog.getByText('nutshell php revert shop php 4').waitFor();
  await shoot(p, 'revisions-back');
  await dialog.getByRole('button', { name: 'Go back' }).click();
  await dialog.waitFor({ state: 'detached' });
  await p.locator('.revision').first().getByText("Go back to revision 4").waitFor();
  assert.notEqual((await api(S + '/script')).text, '#!/bin/sh\necho mine\n');
});

await step('an operation shows its parts, how long it usually takes, its id and its report', async () => {
  const all = await api('/operations');
  const whole = all.find((o) => o.kind === 'application.deploy');
  await p.goto(`${base}/operations/${whole.id}`);
  await p.getByText('2 of 2 have ended').waitFor();
  await p.getByText(/usually/).first().waitFor();
  await p.getByRole('button', { name: 'Copy the id of the operation' }).waitFor();
  assert.equal(await p.getByRole('link', { name: 'Report' }).getAttribute('href'), `/api/v1/operations/${whole.id}/report`);
  await shoot(p, 'revisions-operation', true);
  await p.getByRole('button', { name: /Start shop\/php/ }).click();
  await p.getByRole('link', { name: all.find((o) => o.parent === whole.id && /php/.test(o.title)).id }).click();
  await p.getByRole('link', { name: 'Deploy shop' }).waitFor();
});

await step('a failed one says why with the last lines of the log, and is retried', async () => {
  const failed = (await api('/operations?state=failed'))[0];
  await p.goto(`${base}/operations/${failed.id}`);
  await p.getByText('cannot find FFTW 3', { exact: false }).waitFor();
  await shoot(p, 'revisions-failed');
  await p.getByRole('button', { name: 'Retry' }).click();
  await p.getByText('Retried as').waitFor();
});

await step('settings of the installation speak of days', async () => {
  await p.goto(base + '/settings');
  const keep = p.getByLabel('bin.keep');
  assert.equal(await keep.inputValue(), '7d');
  await keep.fill('14d');
  await p.getByText('nutshell setting set bin.keep=336h').waitFor();
  await p.getByRole('button', { name: 'Apply' }).click();
  await p.getByText('Stored. It counts at once.').waitFor();
  assert.equal(await keep.inputValue(), '14d');
  await p.getByRole('button', { name: /Make it the default ?: shelf/ }).click();
  await p.getByText('New applications start on shelf.').waitFor();
});

await step('a viewer sees the changes and no way back, on a phone in the dark', async () => {
  const viewer = await page(browser, 'phone', 'dark', faults);
  await viewer.goto(base + '/');
  await viewer.getByLabel('Name', { exact: true }).fill('jonas');
  await viewer.getByLabel('Password', { exact: true }).fill('nutshell');
  await viewer.getByRole('button', { name: 'Sign in' }).click();
  await viewer.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
  await viewer.goto(base + '/applications/1/services/php/revisions');
  await viewer.getByText('What it began with.').waitFor();
  assert.equal(await viewer.getByRole('button', { name: /Go back/ }).count(), 0);
  await shoot(viewer, 'revisions-viewer', true);
  await viewer.context().close();
});

await end();
