// Takes the pictures of the manual and the README, into docs/screenshots:
//   node e2e/screenshots.mjs
import { mkdirSync, readdirSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

// Not imported by name: these are no tests, and run only when asked for.
const { api, browser, end, faults } = await import('./stage.mjs');
const { base, page, settled, signIn } = await import('./browser.mjs');

const to = fileURLToPath(new URL('../../docs/screenshots/', import.meta.url));
mkdirSync(to, { recursive: true });
const shop = '/applications/shop';
const pictures = {
  overview: ['/', 'desktop', 'light'],
  application: [shop, 'desktop', 'light'],
  service: [shop + '/services/php', 'desktop', 'light'],
  graphs: [shop + '/services/php/graphs', 'desktop', 'dark'],
  scale: [shop + '/services/php', 'phone', 'light', (p) => p.getByRole('button', { name: /more$/ }).first().click()],
  new: ['/applications?new=template', 'desktop', 'light', (p) => p.locator('label.card').first().click()],
};
for (const [name, [path, size, theme, act]] of Object.entries(pictures)) {
  const p = await page(browser, size, theme, faults);
  if (size === 'desktop') await p.setViewportSize({ width: 1440, height: 860 });
  await signIn(p);
  // The world of tests has names that attack pages; in a picture they would puzzle.
  for (const n of await api('/nodes', {}, p)) if (n.state === 'waiting' && /</.test(n.model)) await api('/nodes/' + n.id, { method: 'DELETE' }, p);
  await p.goto(base + path);
  await p.locator('main h1, main h2').first().waitFor();
  await act?.(p);
  await settled(p);
  await p.waitForTimeout(1200); // a few figures of what is live
  await p.screenshot({ path: `${to}${name}.png` });
  await p.context().close();
}
const bytes = readdirSync(to).reduce((n, f) => n + statSync(to + f).size, 0);
console.log(`${Object.keys(pictures).length} pictures, ${bytes} bytes`);
if (bytes > 1_500_000) faults.push('more than 1.5 MB of pictures');
await end();
