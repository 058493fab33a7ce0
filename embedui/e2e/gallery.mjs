// Looks at every screen, large and small, light and dark: axe finds nothing
// serious, nothing is wider than the window, nothing breaks the policy.
//   NUTSHELL_SHOTS=/tmp/shots node e2e/gallery.mjs [screen…]    photographs them, too
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { api, browser, end, faults, step } from './stage.mjs'; // first: it says where the director is
import { base, page, settled, shoot, signIn } from './browser.mjs';
import { forgotten, screens } from './screens.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const only = process.argv.slice(2);
const names = Object.keys(screens).filter((n) => !only.length || only.includes(n));
const widths = { desktop: [768, 1440, 2560], phone: [360, 390] };

/** look lets axe judge a page; in the dark only colours are new. */
async function look(p, name, size, theme) {
  await shoot(p, `${name}-${size}-${theme}`, process.env.FULL === '1');
  const rules = theme === 'dark' ? "runOnly: ['color-contrast']," : '';
  // the policy forbids injected scripts, so axe comes in as a function's body
  const { violations } = await p.evaluate(`(async () => { ${axe}; return axe.run(document, { ${rules} resultTypes: ['violations'] }) })()`);
  for (const v of violations) {
    const said = `${name} ${size} ${theme}: ${v.id}: ${v.nodes.slice(0, 3).map((n) => n.target.join(' ') + (n.any[0] ? ` (${n.any[0].message.slice(0, 110)})` : '')).join(' | ')}`;
    if (v.impact === 'serious' || v.impact === 'critical') faults.push('axe ' + said);
    else console.log(v.impact, said);
  }
}

async function visit(p, name, path, size) {
  await p.goto(base + path);
  await p.locator('main h1, main h2').first().waitFor();
  await settled(p);
  for (const theme of ['light', 'dark']) {
    await p.emulateMedia({ colorScheme: theme });
    await look(p, name, size, theme);
  }
  await p.emulateMedia({ colorScheme: 'light' });
  const { height, width: usual } = p.viewportSize();
  for (const width of widths[size]) {
    await p.setViewportSize({ width, height });
    const wide = await p.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wide > 1) faults.push(`${name}: ${wide} pixels wider than a window of ${width}`);
  }
  await p.setViewportSize({ width: usual, height });
}

await step('every path of the table of screens is looked at', () => assert.deepEqual(forgotten(), []));

const phone = await page(browser, 'phone', 'light', faults);
const desktop = await page(browser, 'desktop', 'light', faults);
for (const [p, size] of [[desktop, 'desktop'], [phone, 'phone']]) {
  await p.goto(base + '/');
  await p.getByRole('button', { name: 'Sign in', exact: true }).waitFor();
  await look(p, 'sign-in', size, 'light');
  await signIn(p);
}
const failed = (await api('/operations', {}, desktop)).find((o) => o.state === 'failed').id;
await Promise.all([[desktop, 'desktop'], [phone, 'phone']].map(async ([p, size]) => {
  for (const name of names) await step(`${name}, ${size}`, () => visit(p, name, screens[name].replace(':failed', failed), size));
}));

await end();
