// Terminals in a browser against a real director, under its own policy: typing,
// sizes, colours, much output, files, tabs, reconnecting, phone, axe.
//   NUTSHELL_URL=https://… NUTSHELL_PASSWORD=… node e2e/terminal.mjs
// None of e2e/all.mjs: development directors have no shells.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { base, open, page, shoot, signIn } from './browser.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const faults = [];
const browser = await open();
let failed = 0;
const check = (ok, what) => {
  console.log(`${ok ? 'ok  ' : 'FAIL'} ${what}`);
  if (!ok) failed++;
};
const rows = (p) => p.locator('.xterm-rows').innerText();
async function says(p, what, words) {
  const end = Date.now() + 60_000;
  for (;;) {
    const text = (await rows(p)).replaceAll('\u00a0', ' ');
    if (words.test(text)) return check(true, what);
    if (Date.now() > end) {
      console.log(text);
      return check(false, what);
    }
    await p.waitForTimeout(50);
  }
}
async function audit(p, what) {
  await p.evaluate(axe);
  const { violations } = await p.evaluate(() => window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] }));
  const bad = violations.filter((v) => ['serious', 'critical'].includes(v.impact));
  for (const v of bad) console.log(v.id, v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)));
  check(bad.length === 0, `axe: ${what}`);
}
async function stage(p) {
  return p.evaluate(async () => {
    const csrf = (await (await fetch('/api/v1/session')).json()).csrf;
    const ask = async (method, path, body) => {
      const r = await fetch('/api/v1' + path, { method, headers: { 'Content-Type': 'application/json', 'X-CSRF-Token': csrf }, body: body && JSON.stringify(body) });
      return r.status === 204 ? null : r.json();
    };
    const wait = async (o) => { if (o.id && o.steps) await ask('GET', `/operations/${o.id}?wait=60s`); };
    const name = 'terminals';
    if (!(await ask('GET', '/applications')).some((a) => a.name === name)) {
      await ask('POST', '/applications', { name });
      await wait(await ask('POST', `/applications/${name}/start`, {}));
      await ask('POST', `/applications/${name}/services`, { kind: 'helloworld' });
      await wait(await ask('POST', `/applications/${name}/services/helloworld/start`, {}));
    }
    return (await ask('GET', `/applications/${name}/services/helloworld/instances`))[0].id;
  });
}
const signOf = async (p, theme) => {
  await p.addInitScript(() => document.addEventListener('securitypolicyviolation', (e) => ((window.violations ??= []).push(`${e.violatedDirective} ${e.blockedURI} ${e.sample} ${e.sourceFile}:${e.lineNumber}`))));
  await signIn(p);
  return theme;
};
const violations = async (p, what) => {
  const list = await p.evaluate(() => window.violations ?? []);
  for (const v of list) console.log(v);
  check(list.length === 0, `no violation of the policy: ${what}`);
};

const p = await page(browser, 'desktop', 'light', faults);
await signOf(p);
const first = await p.evaluate(() => performance.getEntriesByType('resource').filter((r) => /Terminals/.test(r.name)).length);
check(first === 0, 'xterm is not loaded before it is needed');
const id = await stage(p);
await p.goto(base + '/terminal');
await p.getByRole('button', { name: new RegExp(id) }).first().waitFor();
await shoot(p, 'terminal-choose-light');
await p.getByRole('button', { name: new RegExp(id) }).first().click();
await p.locator('.dot.open').waitFor();
check((await p.evaluate(() => location.search)) === '?instance=' + id, 'the address names the instance');
await p.locator('.xterm-helper-textarea').focus();
const type = (text) => p.keyboard.type(text, { delay: 1 });
await type("stty size; echo $((6*7)) $TERM 'žluťoučký 🥜'\n");
await says(p, 'a shell answers, in UTF-8', /42 xterm-256color žluťoučký/);
const size = /(\d+) (\d+)/.exec(await rows(p));
check(size && Number(size[1]) > 15 && Number(size[2]) > 90, `it has the size of the page: ${size?.[0]}`);
await p.setViewportSize({ width: 1000, height: 700 });
await p.waitForTimeout(300);
await type('clear; stty size\n');
await says(p, 'and its new size', /^(?!.*\b11[0-9]\b)(.|\n)*\d+ \d+/);
await p.setViewportSize({ width: 1440, height: 900 });
await type("clear; printf '\\e[31mred \\e[38;2;10;200;30mtrue \\e[44mblue\\e[0m\\n'\n");
await says(p, 'colours', /red true blue/);
const colour = await p.evaluate(() => getComputedStyle([...document.querySelectorAll('.xterm-rows span')].findLast((e) => e.textContent.startsWith('true'))).color);
check(colour === 'rgb(10, 200, 30)', `a colour of 24 bits is shown: ${colour}`);
await type("printf '<img src=x onerror=alert(1)>\\e]0;<b>title</b>\\a\\n'\n");
await says(p, 'hostile text is text', /<img src=x onerror=alert\(1\)>/);

const [ink, ground] = await p.evaluate(() => [getComputedStyle(document.querySelector('.xterm-rows')).color, getComputedStyle(document.querySelector('.xterm-scrollable-element, .xterm-viewport')).backgroundColor]);
check(ink === 'rgb(42, 33, 25)' && ink !== ground, `letters can be seen: ${ink} on ${ground}`);

// Much output: the page stays usable, memory bounded, Ctrl-C at once.
await type('clear; yes nutshell\n');
await p.waitForTimeout(2500);
const began = Date.now();
await p.keyboard.press('Control+c');
await p.keyboard.type('echo stopped; \n');
await says(p, 'yes is interrupted', /^stopped/m);
console.log(`     after ${Date.now() - began} ms`);
const heap = await p.evaluate(() => performance.memory.usedJSHeapSize);
check(heap < 120e6, `the page holds ${(heap / 1e6).toFixed(0)} MB`);
await type('clear; head -c 20000000 /dev/zero | tr "\\0" "x" | fold -w 79 | tail -1; echo; echo whole\n');
await says(p, '20 MB pass through a pipe', /whole$|whole\n/m);

// Search, keys that leave, tabs.
await p.keyboard.press('Control+Shift+F');
await p.getByRole('searchbox', { name: 'Search in the terminal' }).fill('whole');
check(!(await p.getByText('Not found').isVisible()), 'search finds');
await p.getByRole('searchbox', { name: 'Search in the terminal' }).fill('nowhere at all');
check(await p.getByText('Not found').isVisible(), 'and says when not');
await p.keyboard.press('Escape');
check(await p.evaluate(() => document.activeElement?.classList.contains('xterm-helper-textarea')), 'Escape goes back to the shell');
await p.keyboard.press('Control+k');
check(!(await p.getByRole('dialog').isVisible()), 'Ctrl-K is the shell’s');
await p.keyboard.press('Control+F6');
check(await p.evaluate(() => document.activeElement?.getAttribute('role') === 'tab'), 'Control F6 leaves the terminal');
await p.getByRole('button', { name: 'Open a terminal' }).click();
await p.locator('.choice .item', { hasText: id }).click();
await p.getByRole('tab', { name: `${id} (2)` }).waitFor();
await says(p, 'a second terminal is another shell', /^(?!.*whole)(.|\n)*[$#]/);
await p.getByRole('tab', { name: id, exact: false }).first().click();
await says(p, 'the first has kept what it had', /whole/);

// It goes on while other pages are looked at.
await p.locator('.xterm-helper-textarea').focus();
await type('clear; sleep 1; echo meanwhile\n');
await p.getByRole('link', { name: 'Applications' }).first().click();
await p.waitForTimeout(1500);
await p.goBack();
await says(p, 'it goes on while another page is shown', /^meanwhile/m);

// Files.
await p.locator('.xterm-helper-textarea').focus();
await type("mkdir -p data/try && cd data/try && echo hello > 'a & b.txt' && mkdir sub\n");
await p.getByRole('button', { name: 'Files', exact: true }).click();
const panel = p.getByRole('complementary', { name: 'Files' });
await panel.getByRole('button', { name: 'data', exact: true }).click();
await panel.getByRole('button', { name: 'try', exact: true }).click();
await panel.getByTitle('Download a & b.txt').waitFor();
await p.locator('.xterm-helper-textarea').focus();
await type('clear; ls -la --color=always; ps | head -4; df -h . | head -3\n');
await p.waitForTimeout(400);
await shoot(p, 'terminal-files-light');
const [down] = await Promise.all([p.waitForEvent('download'), panel.getByTitle('Download a & b.txt').click()]);
check(readFileSync(await down.path(), 'utf8') === 'hello\n' && down.suggestedFilename() === 'a & b.txt', 'a file is downloaded');
await panel.locator('input[type=file]').setInputFiles({ name: '<b>big.bin', mimeType: 'application/octet-stream', buffer: Buffer.alloc(3_000_000, 7) });
await panel.getByTitle('Download <b>big.bin').waitFor();
await p.locator('.xterm-helper-textarea').focus();
await type('clear; wc -c *big.bin\n');
await says(p, 'a file is uploaded', /3000000/);
await audit(p, 'terminal and files, light');
await p.getByRole('button', { name: 'Files', exact: true }).click();

// Its end, and anew.
await p.locator('.xterm-helper-textarea').focus();
await type('exit 3\n');
await p.getByText('The shell ended with status 3.').waitFor();
await shoot(p, 'terminal-ended-light');
await p.getByRole('button', { name: 'New shell' }).click();
await p.locator('.tab.on .dot.open').waitFor();
check(true, 'a new shell after exit');
await p.locator('.xterm-helper-textarea').focus();
await type('kill -9 $PPID\n');
await p.getByText('broke off').first().waitFor();
await shoot(p, 'terminal-broken-light');
const again = p.getByRole('button', { name: 'Connect again' });
let healed = false;
for (let n = 0; n < 30 && !healed; n++) {
  if (await again.isVisible()) await again.click({ timeout: 2000 }).catch(() => {});
  await p.waitForTimeout(500);
  healed = await p.locator('.tab.on .dot.open').isVisible();
}
check(healed, 'the agent is killed: it says so, and connects again');
await p.emulateMedia({ colorScheme: 'dark' });
await p.waitForTimeout(300);
await p.locator('.xterm-helper-textarea').focus();
await type("clear; ls -la --color=always /; printf '\\e[1;32mgreen \\e[33myellow \\e[34mblue \\e[35mmagenta \\e[36mcyan\\e[0m\\n'\n");
await p.waitForTimeout(500);
await shoot(p, 'terminal-dark');
await audit(p, 'terminal, dark');
await violations(p, 'desktop');

const m = await page(browser, 'phone', 'light', faults);
await signOf(m);
await m.goto(base + '/terminal?instance=' + id);
await m.locator('.dot.open').waitFor();
await m.getByRole('toolbar', { name: 'Keys' }).waitFor();
await m.locator('.xterm-helper-textarea').focus();
await m.keyboard.type('ls /; sleep 100\n');
await m.waitForTimeout(400);
await m.getByRole('button', { name: 'Ctrl', exact: true }).click();
await m.keyboard.type('c');
await m.keyboard.type('echo touched\n');
await says(m, 'keys on the screen: Ctrl and c', /^touched/m);
const wide = await m.evaluate(() => document.documentElement.scrollWidth - innerWidth);
check(wide <= 0, 'nothing is wider than a phone');
await shoot(m, 'terminal-phone-light');
await audit(m, 'terminal, phone');
await violations(m, 'phone');

// Without the right, or an instance, it says so.
await m.goto(base + '/terminal?instance=a9-s9-nosuch');
await m.getByText('There is no instance a9-s9-nosuch').waitFor();
await shoot(m, 'terminal-none-phone');
await audit(m, 'no such instance');

for (const f of faults) console.log('fault:', f);
await browser.close();
console.log(failed || faults.length ? `${failed} failed, ${faults.length} faults` : 'all is well');
process.exit(failed || faults.length ? 1 : 0);
