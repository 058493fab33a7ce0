// Photographs every screen in both sizes and themes, and lets axe look at it.
//   node dev/fake.mjs & NUTSHELL_SHOTS=/tmp/shots node e2e/gallery.mjs
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { base, open, page, shoot, signIn, sizes } from './browser.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const screens = {
  overview: '/', applications: '/applications', create: '/applications?new', application: '/applications/shop', add: '/applications/shop/add',
  'app-history': '/applications/shop/history', scale: '/applications/shop/services/php', code: '/applications/shop/services/php/code', compare: '/applications/shop/services/php/code?compare=code-0c93be..code-8f2c1d', files: '/applications/shop/services/php/code?files=code-8f2c1d',
  graphs: '/applications/shop/services/php/graphs', 'graphs-instances': '/applications/shop/services/php/graphs?since=7d&by=instance', settings: '/applications/shop/services/php/settings', environment: '/applications/shop/services/php/environment', sites: '/applications/shop/services/php/sites',
  instances: '/applications/shop/services/php/instances', logs: '/applications/shop/services/php/logs', 'php-actions': '/applications/shop/services/php/actions', scripts: '/applications/shop/services/importer/actions',
  history: '/applications/shop/services/php/history', script: '/applications/shop/services/php/script', failed: '/applications/protein%20folding/services/simulation', resources: '/instances', operations: '/operations', users: '/users', audit: '/audit', profile: '/profile', missing: '/nowhere', people: '/applications/shop/people',
  templates: '/applications?new=template', manifest: '/applications?new=manifest', account: '/account', backups: '/backups',
  access: '/applications/shop/services/db/access', contents: '/applications/shop/services/db/data', 'db-backups': '/applications/shop/services/db/backups', 'db-volumes': '/applications/shop/services/db/volumes',
  monitor: '/applications/shop/services/db/monitor', 'db-scale': '/applications/shop/services/db', 'db-actions': '/applications/shop/services/db/actions', bindings: '/applications/shop/services/php/bindings', volumes: '/applications/shop/services/importer/volumes',
};
const only = process.argv.slice(2);
const faults = [];
const browser = await open();
let found = 0;
for (const size of Object.keys(sizes)) {
  for (const theme of ['light', 'dark']) {
    const p = await page(browser, size, theme, faults);
    await p.goto(base + '/');
    await p.getByRole('button', { name: 'Sign in' }).waitFor();
    await look(p, 'sign-in', size, theme);
    await signIn(p);
    for (const [name, path] of Object.entries(screens)) {
      if (only.length && !only.includes(name)) continue;
      await p.goto(base + path);
      await p.locator('main h1, main h2').first().waitFor();
      await p.waitForTimeout(350); // the answers that a screen asks for come after its frame
      await look(p, name, size, theme);
    }
    await p.context().close();
  }
}
await browser.close();

async function look(p, name, size, theme) {
  await shoot(p, `${name}-${size}-${theme}`, process.env.FULL === '1');
  const wide = await p.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (wide > 1) faults.push(`${name} ${size}: ${wide} pixels wider than the window`);
  // the policy forbids injected scripts, so axe comes in as a function's body
  const result = await p.evaluate(`(async () => { ${axe}; return axe.run(document, { resultTypes: ['violations'] }) })()`);
  for (const v of result.violations) {
    const serious = v.impact === 'serious' || v.impact === 'critical';
    if (serious) found++;
    console.log(`${serious ? 'SERIOUS' : v.impact} ${name} ${size} ${theme}: ${v.id}: ${v.nodes.slice(0, 3).map((n) => n.target.join(' ') + (n.any[0] ? ' (' + n.any[0].message.slice(0, 110) + ')' : '')).join(' | ')}`);
  }
}
for (const f of faults) console.log('FAULT', f);
console.log(`${found} serious findings of axe, ${faults.length} faults`);
process.exit(found || faults.length ? 1 : 0);
