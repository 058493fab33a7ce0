// Measures how quick the pages are; prints figures, judges nothing:
//   node e2e/speed.mjs
const { browser, end, faults, start, stop } = await import('./stage.mjs');
const { base, page, settled, signIn } = await import('./browser.mjs');

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
const [frames, slow, worst, nodes] = await p.evaluate(() => new Promise((done) => {
  const gaps = [];
  let last = performance.now();
  const frame = (now) => {
    gaps.push(now - last);
    last = now;
    scrollBy(0, 60);
    if (gaps.length < 240) requestAnimationFrame(frame);
    else done([gaps.length, gaps.filter((g) => g > 34).length, Math.max(...gaps), document.querySelectorAll('*').length]);
  };
  requestAnimationFrame(frame);
}));
console.log(`a thousand instances scrolled: ${frames} frames, ${slow} slower than 34 ms, the slowest ${worst.toFixed(0)} ms; ${nodes} elements on the page`);
await end();
