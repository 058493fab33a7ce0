// Measures how quick the pages are; prints figures, judges nothing:
//   node e2e/speed.mjs
// So it is none of e2e/all.mjs. What must hold on any machine is judged there:
// logs.mjs scrolls a million lines, services.mjs a thousand instances.
const { browser, end, faults, start, stop } = await import('./stage.mjs');
const { at, base, costs, page, settled, signIn } = await import('./browser.mjs');

const p = await page(browser, 'desktop', 'light', faults);
await signIn(p);
const wire = await p.context().newCDPSession(p);
for (const rate of [1, 4]) {
  await wire.send('Emulation.setCPUThrottlingRate', { rate });
  for (const [cached, what] of [[false, 'first visit'], [true, 'again']]) {
    await wire.send('Network.setCacheDisabled', { cacheDisabled: !cached });
    await p.goto(base + '/');
    await p.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
    const [paint, shown] = await p.evaluate(() => [performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN, performance.now()]);
    console.log(`processor ${rate === 1 ? 'as it is' : rate + ' times slower'}, ${what}: first paint after ${paint.toFixed(0)} ms, overview after ${shown.toFixed(0)} ms`);
  }
}
await wire.send('Emulation.setCPUThrottlingRate', { rate: 1 });

await stop();
await start('many');
await p.goto(base + '/instances');
await p.getByRole('heading', { level: 1 }).waitFor();
await settled(p);
const nodes = () => p.evaluate(() => document.querySelectorAll('*').length);
const tell = async (what, frame) => {
  for (const rate of [1, 4]) {
    const all = (await costs(p, frame, 240)).map((ms) => rate * ms);
    console.log(`${what} scrolled, processor ${rate === 1 ? 'as it is' : rate + ' times slower'}: 240 frames, median ${at(0.5, all).toFixed(1)} ms of processor time, 95 % below ${at(0.95, all).toFixed(1)} ms, the dearest ${at(1, all).toFixed(0)} ms; ${await nodes()} elements on the page`);
  }
};
await tell('a thousand instances', () => p.evaluate(() => scrollBy(0, 60)));

await stop();
await start();
await p.goto(base + '/applications/shop/services/php/logs');
await p.locator('.page-head').waitFor();
const lines = p.getByRole('listbox', { name: /^Lines of logs/ });
await lines.getByRole('option').first().waitFor();
await settled(p);
await tell('a million lines of logs', () => lines.evaluate((box) => void (box.scrollTop -= 400)));
await end();
