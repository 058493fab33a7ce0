// What must hold for everybody: hostile texts stay texts on every screen, the
// keyboard is enough, two people do not overwrite each other, nothing moves for
// those who asked for rest, and the reader's language is spoken:  node e2e/guard.mjs
import assert from 'node:assert/strict';
import { api, browser, end, faults, p, php, start, step, stop } from './stage.mjs';
import { base, page, settled, shoot, signIn } from './browser.mjs';
import { screens } from './screens.mjs';

/** reach presses Tab until what has the focus is called so. */
async function reach(name, most = 90) {
  for (let i = 0; i < most; i++) {
    await p.keyboard.press('Tab');
    const here = await p.evaluate(() => {
      const e = document.activeElement;
      if (e === document.body) return ''; // round again
      return `${e?.getAttribute('aria-label') ?? ''}|${e?.labels?.[0]?.innerText ?? ''}|${e?.innerText ?? ''}|${e?.value ?? ''}`;
    });
    if (process.env.NUTSHELL_E2E_STEP) console.log('     ', JSON.stringify(here.slice(0, 90)));
    if (name.test(here)) return;
  }
  throw new Error(`Tab does not reach ${name}`);
}

await step('sign in by keyboard', async () => {
  await p.goto(base);
  await p.getByLabel('Name', { exact: true }).waitFor();
  await p.evaluate(() => document.activeElement?.blur());
  await reach(/\|Name\|/);
  await p.keyboard.type('admin');
  await reach(/\|Password\|/);
  await p.keyboard.type('nutshell');
  await p.keyboard.press('Enter');
  await p.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
});

await step('WordPress from the template to its running service, by keyboard alone', async () => {
  await p.keyboard.press('Control+k');
  await p.keyboard.type('create an application');
  await p.locator('[role=option][aria-selected=true]', { hasText: 'Create an application' }).waitFor();
  await p.keyboard.press('Enter');
  await p.getByRole('heading', { name: 'New application', level: 1 }).waitFor();
  await reach(/ready-made/i);
  await p.keyboard.press('Enter');
  await p.locator('input[name=template]').first().waitFor({ state: 'attached' });
  await reach(/\|wordpress$/);
  await p.keyboard.press('Space');
  await reach(/^\|Name\|/);
  await p.keyboard.type('journal');
  await p.keyboard.press('Enter');
  await p.getByText('journal', { exact: false }).first().waitFor();
  const services = async () => (await api('/applications/journal')).services ?? [];
  await until(async () => (await services()).length > 1 && (await services()).every((s) => s.state === 'RUNNING'));
  await p.goto(base + '/applications/journal');
  await reach(new RegExp(`(^|[|\n])${(await services())[0].name}([\n|]|$)`));
  await p.keyboard.press('Enter');
  await p.waitForURL(/journal\/services\//);
});

async function until(holds) {
  for (const late = Date.now() + 60_000; Date.now() < late; await p.waitForTimeout(200)) if (await holds()) return;
  throw new Error('it did not come to hold in a minute');
}

await step('every button and link that is seen has a name, and the focus is seen', async () => {
  await p.goto(base + '/');
  await settled(p);
  for (let i = 0; i < 25; i++) {
    await p.keyboard.press('Tab');
    const bare = await p.evaluate(() => {
      const e = document.activeElement;
      if (!e || e === document.body) return '';
      const s = getComputedStyle(e);
      const parent = e.closest('label, .card, li');
      return s.outlineStyle === 'none' && s.boxShadow === 'none' && (!parent || getComputedStyle(parent).outlineStyle === 'none') ? e.outerHTML.slice(0, 120) : '';
    });
    assert.equal(bare, '', 'the focus is not seen on ' + bare);
  }
});

await step('two people at one form: neither loses what was typed, and the difference is that of now', async () => {
  const other = await page(browser, 'desktop', 'light', faults);
  await signIn(other);
  for (const q of [p, other]) await q.goto(base + php + '/settings');
  await p.getByLabel('Longest run of a script').fill('77');
  await other.getByLabel('Memory of a script').fill('512M');
  await other.getByRole('button', { name: 'Review and apply' }).click();
  await other.getByRole('dialog').getByRole('button', { name: 'Apply' }).click();
  await other.getByText('works with its new settings').waitFor();
  await p.waitForFunction(() => document.querySelectorAll('section.now').length === 0);
  assert.equal(await p.getByLabel('Longest run of a script').inputValue(), '77');
  assert.equal(await p.getByLabel('Memory of a script').inputValue(), '512M');
  await p.getByRole('button', { name: 'Review and apply' }).click();
  assert.equal(await p.getByRole('dialog').getByText('512M').count(), 0, 'what the other one changed is no change of mine');
  await p.keyboard.press('Escape');
  await other.context().close();
});

await step('nothing moves for those who asked for rest', async () => {
  for (const path of ['/', '/applications', php, '/operations']) {
    await p.goto(base + path);
    await settled(p);
    const moving = await p.evaluate(() => document.getAnimations().filter((a) => a.playState === 'running' && Number(a.effect.getTiming().duration) > 20).map((a) => a.animationName ?? a.transitionProperty));
    assert.deepEqual(moving, [], path);
  }
});

await step('a browser that speaks Dutch is spoken to in Dutch, and its choice of English is kept', async () => {
  const context = await browser.newContext({ locale: 'nl-NL', viewport: { width: 1280, height: 800 } });
  const dutch = await context.newPage();
  await dutch.goto(base);
  await dutch.locator('html[lang=nl]').waitFor();
  await shoot(dutch, 'state-dutch');
  await dutch.evaluate(() => localStorage.setItem('nutshell.language', 'en'));
  await dutch.reload();
  await dutch.getByRole('button', { name: 'Sign in', exact: true }).waitFor();
  await context.close();
});

await step('hostile texts stay texts on every screen', async () => {
  await stop();
  await start('hostile');
  const victim = await page(browser, 'desktop', 'light', faults);
  victim.on('dialog', (d) => faults.push('a dialog came up: ' + d.message()));
  await signIn(victim);
  const failed = (await api('/operations', {}, victim)).find((o) => o.state === 'failed').id;
  for (const [name, path] of Object.entries(screens)) {
    await victim.goto(base + path.replace(':failed', failed));
    await victim.locator('main h1, main h2').first().waitFor().catch((e) => assert.fail(`${name}: ${e.message} ${faults}`));
    await settled(victim);
    const made = await victim.evaluate(() => [window.broken, document.querySelectorAll('#broken, [onerror], [onload], img[src="x"], iframe[src^="javascript:"], a[href^="javascript:"]').length]);
    assert.deepEqual(made, [undefined, 0], name);
  }
});

await end();
