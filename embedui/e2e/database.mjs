// The life of a database, by the pages alone: password, tables, dumps,
// backups, and what of it reaches a PHP site.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { base, shoot } from './browser.mjs';

const long = { timeout: 180_000 };
const dir = mkdtempSync(join(tmpdir(), 'nutshell-database-'));
process.on('exit', () => rmSync(dir, { recursive: true, force: true })); // also of a life that ended before
const file = (name, text) => (writeFileSync(join(dir, name), text), join(dir, name));

export async function database(p, app, step, running) {
  const at = `${base}/applications/${encodeURIComponent(app)}`;
  const dialog = p.getByRole('dialog');
  // A backup may begin at any moment; a file that comes meanwhile is refused.
  const load = async (path, expected) => {
    for (let again = 0; again < 5; again++) {
      await p.getByText('It begins at once.').waitFor(long);
      await p.locator('input[type=file]').setInputFiles(path);
      await expected.or(p.getByText('Show the operation that is in the way')).first().waitFor(long);
      if (await expected.count()) return;
    }
    throw new Error(`${path} was refused each time`);
  };
  await step('add a database and start it', async () => {
    await p.goto(at + '/add');
    await p.locator('label', { has: p.locator('input[value=mysql]') }).click();
    await p.locator('main').getByRole('button', { name: /^Add / }).click();
    await p.getByRole('heading', { name: 'mysql', level: 1 }).waitFor();
    await p.locator('.page-head').getByRole('button', { name: 'Start' }).click();
    await running(p);
  });
  await step('reset its password, and copy the command to connect', async () => {
    await p.getByRole('link', { name: 'Access' }).click();
    await p.locator('.connect code').waitFor(long);
    await p.getByRole('button', { name: /^Reset/ }).click();
    await dialog.getByLabel('One that I choose').check();
    await dialog.getByLabel(/^New password/).fill("it's \"my\" pass\\word");
    await dialog.getByLabel('Once more').fill("it's \"my\" pass\\word");
    await dialog.getByRole('button', { name: 'Reset', exact: true }).click();
    await p.getByText('was changed.').waitFor(long);
    assert.match(await p.locator('.connect code').innerText(), /--user=mysqldb/);
    await shoot(p, 'step-access');
  });
  await step('create a database, load a dump into it, and have it back', async () => {
    await p.getByRole('link', { name: 'Data' }).click();
    await p.getByRole('button', { name: 'Create database' }).click();
    await dialog.getByLabel(/^Name/).fill('notes');
    await dialog.getByRole('button', { name: 'Create database' }).click();
    await p.getByRole('cell', { name: 'notes', exact: true }).waitFor(long);
    await p.getByLabel('Database', { exact: true }).first().fill('notes');
    await load(file('wrong.sql', 'CREATE TABLE IF NOT EXISTS n (t text);\n\nINSERT INTOO n VALUES (1);\n'), p.getByText(/^Line 3 of wrong.sql/));
    await shoot(p, 'step-dump-line');
    await load(file('right.sql', "INSERT INTO n VALUES ('walnut');\n"), p.getByText('right.sql: done.'));
    const [download] = await Promise.all([p.waitForEvent('download', long), p.getByRole('link', { name: /^Download dump/ }).click()]);
    assert.match(readFileSync(await download.path(), 'utf8'), /walnut/);
  });
  await step('watch it', async () => {
    await p.getByRole('link', { name: 'Cluster' }).click();
    await p.getByRole('img', { name: /^Cluster usage: selects \d/ }).waitFor(long);
    await p.getByRole('cell', { name: 'Synced' }).waitFor(long);
  });
  await step('take a backup, and restore it into another service', async () => {
    await p.goto(at + '/services/mysql/backups');
    await p.getByRole('button', { name: 'Take one now' }).click();
    await dialog.getByRole('button', { name: 'Take it' }).click();
    await p.getByText('A backup of mysql is kept.').waitFor(long);
    await p.locator('section.now').waitFor({ state: 'detached', ...long });
    await p.locator('main li', { hasText: 'asked for' }).getByRole('button', { name: /^Restore/ }).click();
    await dialog.getByLabel('A new service').check();
    await dialog.getByLabel('Name of the new service').fill('copy');
    await dialog.getByRole('button', { name: 'Restore', exact: true }).click();
    await p.getByText(/^copy has the data of/).waitFor(long);
    await p.goto(at + '/services/copy/data');
    await p.getByRole('cell', { name: 'notes', exact: true }).waitFor(long);
  });
  await step('delete the copy, and keep a last backup of it', async () => {
    await p.getByRole('button', { name: 'Delete the service' }).click();
    await dialog.getByText(/^1 volume/).waitFor(long);
    await dialog.getByLabel(/^Type/).fill('copy');
    await dialog.getByRole('button', { name: 'Delete copy' }).click();
    await p.getByText(/^copy (is in the bin|was deleted)\./).waitFor(long);
    await p.goto(base + '/backups');
    await p.locator('main li', { hasText: 'before the deletion' }).first().waitFor(long);
  });
  rmSync(dir, { recursive: true });
}
