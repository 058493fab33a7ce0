// The first run, a second factor and a passkey, against a real director at a
// name, in a browser that trusts its CA and has an authenticator of its own:
//   NUTSHELL_URL=https://localhost:5555 NUTSHELL_PASSWORD=<printed> node e2e/signin.mjs
// None of e2e/all.mjs: development directors have neither TLS, which passkeys
// need, nor a first run; and it needs one whose password nobody changed yet.
import assert from 'node:assert/strict';
import { createHash, createHmac, X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const base = process.env.NUTSHELL_URL;
const printed = process.env.NUTSHELL_PASSWORD;
const own = 'a password of my own';
const ca = await new Promise((done, failed) => request(base + '/api/v1/ca', { rejectUnauthorized: false }, (r) => { let s = ''; r.on('data', (d) => (s += d)); r.on('end', () => done(s)); }).on('error', failed).end());
const spki = createHash('sha256').update(new X509Certificate(ca).publicKey.export({ type: 'spki', format: 'der' })).digest('base64');

/** totp is what an authenticator app with this secret shows. */
function totp(secret, at = Date.now()) {
  const bits = [...secret].map((c) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'.indexOf(c).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from(bits.match(/.{8}/g).map((b) => parseInt(b, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(at / 30_000)));
  const sum = createHmac('sha1', key).update(step).digest();
  return String((sum.readUInt32BE(sum[19] & 15) & 0x7fffffff) % 1e6).padStart(6, '0');
}

const dir = mkdtempSync(join(tmpdir(), 'nutshell-e2e-'));
const browser = await chromium.launchPersistentContext(dir, { executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, reducedMotion: 'reduce', args: ['--no-sandbox', '--disable-gpu', `--ignore-certificate-errors-spki-list=${spki}`] });
let bad = 0;
async function step(name, work) {
  try {
    await work();
    console.log('ok  ', name);
  } catch (e) {
    bad++;
    console.log('FAIL', name, e.message.split('\n').slice(0, 6).join(' / '));
    if (process.env.NUTSHELL_SHOTS) await p.screenshot({ path: `${process.env.NUTSHELL_SHOTS}/signin-fail-${bad}.png` });
  }
}
const p = await browser.newPage();
p.setDefaultTimeout(30_000);
const wire = await browser.newCDPSession(p);
await wire.send('WebAuthn.enable');
await wire.send('WebAuthn.addVirtualAuthenticator', { options: { protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } });
const word = (password) => p.getByLabel('Name', { exact: true }).fill('admin').then(() => p.getByLabel('Password', { exact: true }).fill(password)).then(() => p.getByRole('button', { name: 'Sign in', exact: true }).click());
const out = () => browser.clearCookies().then(() => p.goto(base + '/')).then(() => p.getByLabel('Name', { exact: true }).waitFor());
const overview = () => p.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();

await step('the printed password leads to the first run, where it is replaced', async () => {
  await p.goto(base + '/');
  await word(printed);
  await p.getByRole('heading', { name: 'Welcome to Nutshell' }).waitFor();
  await p.getByLabel('New', { exact: true }).fill(own);
  await p.getByLabel('New, again').fill(own);
  await p.getByRole('button', { name: 'Change password' }).click();
  await p.getByText('It is set.').waitFor();
  if (process.env.NUTSHELL_SHOTS) await p.screenshot({ path: `${process.env.NUTSHELL_SHOTS}/real-welcome.png`, fullPage: true });
  await p.getByRole('button', { name: /Go to the overview|Skip the rest/ }).click();
  await overview();
});

await step('a passkey is made and signs in without a name', async () => {
  await p.goto(base + '/profile/sign-in');
  await p.getByRole('button', { name: 'Add a passkey' }).click();
  await p.getByRole('dialog').getByLabel('Name').fill('virtual');
  await p.getByRole('dialog').getByRole('button', { name: 'Store' }).click();
  await p.getByText('virtual', { exact: true }).waitFor();
  await out();
  await p.getByRole('button', { name: 'Sign in with a passkey' }).click();
  await overview();
});

let recovery = '';
await step('a second factor is turned on, asked for, and turned off with a proof', async () => {
  await p.goto(base + '/profile/sign-in');
  await p.getByRole('button', { name: 'Set up' }).click();
  const dialog = p.getByRole('dialog');
  const secret = (await dialog.locator('.secret code').innerText()).replaceAll(' ', '');
  await dialog.getByLabel(/six digits/).fill(totp(secret, Date.now() - 30_000));
  await dialog.getByRole('button', { name: 'Turn on' }).click();
  recovery = await dialog.locator('.codes code').first().innerText();
  assert.equal(await dialog.locator('.codes code').count(), 10);
  await dialog.getByRole('button', { name: 'I have kept them' }).click();
  await out();
  await word(own);
  await p.getByLabel('Code').fill(totp(secret)); // the last digit sends it
  await overview();
  await out();
  await word(own);
  await p.getByRole('button', { name: 'Use a recovery code' }).click();
  await p.getByLabel('Recovery code').fill(recovery);
  await p.getByRole('button', { name: 'Go on' }).click();
  await overview();
  await p.goto(base + '/profile/sign-in');
  await p.getByText('9 recovery codes are left.').waitFor();
  await p.getByRole('button', { name: 'Turn off' }).click();
  await p.getByRole('dialog').getByRole('button', { name: 'Turn off' }).click();
  await p.getByRole('button', { name: 'Set up' }).waitFor();
});

await step('other sessions are listed and ended', async () => {
  await p.goto(base + '/profile/sessions');
  await p.getByText('this one').waitFor();
  await p.getByRole('button', { name: 'Sign out everywhere else' }).click();
  await p.getByRole('dialog').getByRole('button', { name: 'Sign out' }).click();
  await p.getByText('You are signed out everywhere else.').waitFor();
});

await browser.close();
rmSync(dir, { recursive: true });
process.exit(bad ? 1 : 0);
