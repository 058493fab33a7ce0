// Logs: a million lines read both ways, searched, followed, linked to, copied,
// and hostile ones:
//   node e2e/logs.mjs
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { api, browser, end, faults, p, start, step, stop } from './stage.mjs';
import { at, base, costs, page, shoot, signIn } from './browser.mjs';

const logs = '/applications/shop/logs';
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const list = p.getByRole('listbox', { name: /^Lines of logs/ });
const rows = list.getByRole('option');
const ready = () => rows.first().waitFor();
const inside = (work, arg) => list.evaluate(work, arg);
const eventually = async (what, test) => {
  for (const until = Date.now() + 60_000; ; await new Promise((r) => setTimeout(r, 100))) {
    if (await test()) return;
    if (Date.now() > until) throw new Error('in vain waited until ' + what);
  }
};

await step('sign in', () => signIn(p));

await step('the newest lines of all services come, and go on', async () => {
  await p.goto(base + logs);
  await ready();
  await p.getByText(/1,000,\d+ lines/).waitFor();
  await p.getByText('live', { exact: true }).waitFor();
  const last = await rows.last().innerText();
  await eventually('a line is written', async () => (await rows.last().innerText()) !== last);
  const gap = await inside((b) => b.scrollHeight - b.scrollTop - b.clientHeight);
  assert.ok(gap < 24, `the list stays at its end: ${gap}`);
  await shoot(p, 'logs');
});

await step('hostile lines are text', async () => {
  await p.getByLabel('Show lines that have this text').fill('name was refused');
  await list.locator('mark').first().waitFor();
  await list.getByText('<img src=x onerror=').first().waitFor();
  assert.equal(await list.locator('img, script, svg').count(), 0);
  assert.notEqual(await p.title(), 'owned');
  await p.getByText(/4,7\d\d lines found/).waitFor();
  await shoot(p, 'logs-search');
});

await step('an expression that is wrong says so, and a right one finds', async () => {
  await p.getByRole('button', { name: 'Regular expression' }).click();
  const box = p.getByLabel('Show lines that match this expression');
  await box.fill('took=(12');
  await p.getByRole('alert').getByText('missing closing').waitFor();
  await box.fill('took=12[0-9]ms');
  await box.press('Enter');
  await eventually('expressions are marked', async () => /^took=12\dms$/.test(await list.locator('mark').first().innerText().catch(() => '')));
  assert.ok(new URL(p.url()).searchParams.get('regex'));
  await p.reload();
  await list.locator('mark').first().waitFor();
  assert.equal(await box.inputValue(), 'took=12[0-9]ms');
});

await step('levels are chosen on the server', async () => {
  await p.goto(base + logs + '?level=error');
  await ready();
  assert.equal(await list.locator('.line:not(.error)').count(), 0);
});

await step('a line has an address of its own, shown with what is around it', async () => {
  await p.goto(base + logs + '?level=error');
  await ready();
  await rows.nth((await rows.count()) - 8).locator('.at').click();
  const text = await list.locator('.line.chosen .text').innerText();
  await p.getByRole('group', { name: 'Chosen lines' }).waitFor();
  assert.ok(new URL(p.url()).searchParams.get('at'));
  await p.getByRole('button', { name: 'Show what is around it' }).click();
  await eventually('other levels stand around it', async () => (await list.locator('.line:not(.error)').count()) > 5);
  await eventually('it is in the middle', async () => (await list.locator('.chosen .text').innerText().catch(() => '')) === text);
  const other = await page(browser, 'desktop', 'light', faults);
  await signIn(other);
  await other.goto(p.url());
  await other.locator('.line.chosen').waitFor();
  assert.equal(await other.locator('.line.chosen .text').innerText(), text);
  await other.getByRole('button', { name: 'To the end' }).click();
  await other.getByText('live', { exact: true }).waitFor();
  await other.goto(base + logs + '?at=1~gone~1~~a1-s1-3fa2~x.log');
  await other.getByText('This line is no longer there.').waitFor();
  await shoot(other, 'logs-gone');
  await other.getByRole('button', { name: 'Show the newest lines' }).click();
  await other.locator('.line').first().waitFor();
  await other.context().close();
});

await step('selected text stays while lines come', async () => {
  await p.goto(base + logs);
  await ready();
  await p.getByText('live', { exact: true }).waitFor();
  await inside((box) => {
    const all = [...box.querySelectorAll('.line .text')].slice(-9, -5);
    getSelection().setBaseAndExtent(all[0].firstChild, 2, all[3].firstChild, 9);
  });
  const selected = () => p.evaluate(() => getSelection().toString());
  const was = await selected();
  assert.ok(was.split('\n').length >= 3, was);
  const total = () => inside((box) => box.scrollHeight);
  const high = await total();
  await eventually('lines come', async () => (await total()) > high + 60);
  assert.equal(await selected(), was);
  await inside((box) => (box.scrollTop -= 3000));
  await p.waitForTimeout(200);
  assert.equal(await selected(), was);
  await p.evaluate(() => getSelection().removeAllRanges());
});

await step('a pause counts what comes, and a lost link is mended without gap', async () => {
  await p.goto(base + logs + '?level=info');
  await ready();
  await p.getByRole('button', { name: 'Pause' }).click();
  await p.getByRole('button', { name: /Go on \(\d+ new\)/ }).waitFor();
  await p.getByRole('button', { name: /Go on/ }).click();
  await stop();
  await p.waitForTimeout(500);
  await start();
  await p.getByText('live', { exact: true }).waitFor();
});

await step('the keyboard chooses lines and copies them', async () => {
  await p.context().grantPermissions(['clipboard-read', 'clipboard-write']);
  await p.getByRole('button', { name: 'Pause' }).click();
  await list.focus();
  await p.keyboard.press('ArrowUp');
  await p.keyboard.press('Enter');
  await p.keyboard.press('Shift+ArrowUp');
  await p.keyboard.press('Shift+ArrowUp');
  await p.getByText('3 lines', { exact: true }).waitFor();
  await p.getByRole('button', { name: /these lines/ }).click();
  const copied = await p.evaluate(() => navigator.clipboard.readText());
  assert.equal(copied.split('\n').length, 3, copied);
});

await step('a million lines are fluid: frames while scrolling back, four times slower', async () => {
  await p.goto(base + logs);
  await ready();
  // One who is four times slower needs four times as long for it.
  const measure = (by) => costs(p, () => inside((box, by) => void (box.scrollTop -= by), by)).then((all) => all.map((ms) => 4 * ms));
  const rest = await measure(0);
  const scrolled = await measure(400);
  const drawn = await rows.count();
  console.log(`     frames: median ${at(0.5, scrolled).toFixed(1)} ms, 95 % ${at(0.95, scrolled).toFixed(1)} ms, longest ${at(1, scrolled).toFixed(1)} ms (at rest ${at(0.5, rest).toFixed(1)}, ${at(0.95, rest).toFixed(1)}, ${at(1, rest).toFixed(1)}); ${drawn} lines drawn`);
  assert.ok(drawn < 200);
  assert.ok(at(0.5, scrolled) < 120, `half of the frames take longer than ${at(0.5, scrolled)} ms`);
  assert.ok(at(0.95, scrolled) < 320, `a frame of twenty takes longer than ${at(0.95, scrolled)} ms`);
  assert.ok(at(0.5, rest) < 120, `lines that come stop the page at rest: ${at(0.5, rest)} ms`);
  // Far back: thirty thousand lines are here, and still no more than a screen is drawn.
  for (let n = 0; n < 30; n++) {
    await inside((box) => (box.scrollTop = 0));
    await p.waitForTimeout(60);
  }
  assert.ok((await rows.count()) < 200);
  await p.getByRole('button', { name: 'To the end' }).click();
  await p.getByText('live', { exact: true }).waitFor();
});

await step('wrapped lines keep their place and their height', async () => {
  await p.goto(base + logs + '?search=name%20was%20refused');
  await list.locator('mark').first().waitFor();
  await p.getByRole('button', { name: 'Wrap' }).click();
  await p.setViewportSize({ width: 700, height: 900 });
  await p.waitForTimeout(300);
  await inside((box) => (box.scrollTop = box.scrollHeight / 2));
  await p.waitForTimeout(300);
  const overlap = await inside((box) => {
    const all = [...box.querySelectorAll('.line')].map((l) => l.getBoundingClientRect());
    return all.some((r, i) => i && Math.abs(r.top - all[i - 1].bottom) > 1);
  });
  assert.equal(overlap, false);
  await p.setViewportSize({ width: 1440, height: 900 });
});

await step('instances and failed operations lead to their lines', async () => {
  await p.goto(base + '/applications/shop/services/php/instances');
  const link = p.locator('main a[href*="logs?instance="]').first();
  const instance = new URL(await link.getAttribute('href'), base).searchParams.get('instance');
  await p.goto(base + (await link.getAttribute('href')));
  await ready();
  for (const who of await list.locator('.from').evaluateAll((all) => all.map((e) => e.title.split(' ')[1]))) assert.equal(who, instance);
  const failed = (await api('/operations?state=failed')).find((o) => o.ended && o.application);
  await p.goto(base + '/operations/' + failed.id);
  const logsOf = new URL(await p.locator('main .page-head').getByRole('link', { name: 'Logs', exact: true }).getAttribute('href'), base);
  assert.ok(Date.parse(logsOf.searchParams.get('since')) < Date.parse(failed.created) && Date.parse(logsOf.searchParams.get('until')) > Date.parse(failed.ended), logsOf.href);
  await p.goto(logsOf.href);
  await p.locator('main .log, main .card h2, main .card h3').first().waitFor();
});

for (const [size, theme] of [['desktop', 'light'], ['desktop', 'dark'], ['phone', 'light'], ['phone', 'dark']]) {
  await step(`${size} ${theme}: seen, and nothing serious for axe`, async () => {
    const o = await page(browser, size, theme, faults);
    await signIn(o);
    for (const [name, path] of [['logs', logs], ['logs-chosen', logs + '?level=warn'], ['logs-service', '/applications/shop/services/php/logs?search=slow'], ['logs-none', logs + '?search=there+is+no+such+text'], ['logs-stopped', '/applications/blog/logs']]) {
      await o.goto(base + path);
      if (name === 'logs-chosen') await o.locator('.line .at').nth(4).click();
      if (name === 'logs-none' || name === 'logs-stopped') await o.locator('main .card h2, main .card h3, main .card p').first().waitFor();
      else await o.locator('.line').first().waitFor();
      await o.getByText('Counting…').waitFor({ state: 'detached' });
      await o.waitForTimeout(200);
      await shoot(o, `${name}-${size}-${theme}`);
      const wide = await o.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${name} is ${wide} px too wide`);
      await o.evaluate(axe);
      const { violations } = await o.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
      const serious = violations.filter((v) => ['serious', 'critical'].includes(v.impact));
      assert.equal(serious.length, 0, name + ': ' + serious.map((v) => v.id + ' ' + v.nodes[0].html.slice(0, 150)).join('; '));
    }
    await o.context().close();
  });
}
await end();
