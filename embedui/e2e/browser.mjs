// Opens Debian's Chromium with a fresh profile and nothing that talks to the
// world, and keeps count of everything that must not happen.
import { mkdirSync } from 'node:fs';
import { chromium } from 'playwright-core';

export const base = process.env.NUTSHELL_URL ?? 'http://127.0.0.1:5599';
export const user = process.env.NUTSHELL_USER ?? 'admin';
export const password = process.env.NUTSHELL_PASSWORD ?? 'nutshell';
export const shots = process.env.NUTSHELL_SHOTS ?? '';

export const sizes = { desktop: { width: 1440, height: 900 }, phone: { width: 390, height: 844 } };

export async function open() {
  if (shots) mkdirSync(shots, { recursive: true });
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
}

/** page opens a tab of a size and a theme; its faults are gathered. */
export async function page(browser, size, theme, faults) {
  const context = await browser.newContext({ viewport: sizes[size], colorScheme: theme, ignoreHTTPSErrors: true, isMobile: size === 'phone', hasTouch: size === 'phone', reducedMotion: 'reduce' });
  const p = await context.newPage();
  p.setDefaultTimeout(60_000); // other tests keep the machine busy
  p.on('console', (m) => {
    // a refused request is written to the console by the browser itself
    if (m.type() === 'error' && !/status of 4\d\d|status of 5\d\d|ERR_(CONNECTION|INTERNET|INCOMPLETE|EMPTY|NETWORK|SOCKET)/.test(m.text())) faults.push(`console: ${m.text()}`);
  });
  // Chromium says so in the console, too, but not of everything.
  await p.addInitScript(() => document.addEventListener('securitypolicyviolation', (e) => console.error(`policy: ${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`)));
  p.on('pageerror', (e) => faults.push(`page: ${e.message}`));
  p.on('request', (r) => {
    if (!r.url().startsWith(base) && !/^(data|blob|about):/.test(r.url())) faults.push(`request to another host: ${r.url()}`);
  });
  // Requests under way. A page that is left takes its requests along without a word, and a stream that is followed never ends.
  p.asked = new Set();
  p.on('request', (r) => {
    if (r.isNavigationRequest() && r.frame() === p.mainFrame()) p.asked.clear();
    if (r.resourceType() !== 'eventsource') p.asked.add(r);
  });
  for (const end of ['requestfinished', 'requestfailed']) p.on(end, (r) => p.asked.delete(r));
  p.on('response', (r) => /ndjson|event-stream/.test(r.headers()['content-type'] ?? '') && p.asked.delete(r.request()));
  return p;
}

/** settled waits until a page has what it asked for. */
export async function settled(p) {
  const until = Date.now() + 5000; // a page may ask again and again
  for (let quiet = 0; quiet < 3 && Date.now() < until; await p.waitForTimeout(50)) quiet = p.asked.size ? 0 : quiet + 1;
}

/**
 * costs tells what frames cost the page's main thread, in milliseconds of
 * processor time and in order: other programs that keep the machine busy make
 * them later, not dearer. frame is run before each of them.
 */
export async function costs(p, frame, frames = 100) {
  const wire = await p.context().newCDPSession(p);
  await wire.send('Performance.enable', { timeDomain: 'threadTicks' });
  const spent = async () => (await wire.send('Performance.getMetrics')).metrics.find((m) => m.name === 'TaskDuration').value * 1000;
  const drawn = () => p.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  const all = [];
  for (let n = 0, was = await spent(); n < frames; n++) {
    await frame();
    await drawn();
    const now = await spent();
    all.push(now - was);
    was = now;
  }
  await wire.detach();
  return all.sort((a, b) => a - b);
}

/** at is what a share of an ordered list is below. */
export const at = (share, list) => list[Math.min(list.length - 1, Math.floor(list.length * share))];

export async function signIn(p) {
  await p.goto(base + '/');
  await p.getByLabel('Name', { exact: true }).fill(user);
  await p.getByLabel('Password', { exact: true }).fill(password);
  await p.getByRole('button', { name: 'Sign in' }).click();
  const welcome = p.getByRole('heading', { name: 'Welcome to Nutshell', level: 1 });
  const overview = p.getByRole('heading', { name: 'Overview', level: 1 });
  await overview.or(welcome).first().waitFor();
  if (await welcome.isVisible()) await p.getByRole('button', { name: 'Skip', exact: true }).click(); // a first run
  await overview.waitFor();
}

export async function shoot(p, name, full = false) {
  if (shots) await p.screenshot({ path: `${shots}/${name}.png`, fullPage: full });
}
