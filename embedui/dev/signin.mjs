// Second factors, passkeys, sessions and the first run of the development
// director. maria has a second factor: its code is 123456, a recovery code is
// aaaaa-bbbbb-ccccc. Passkeys are refused, for there is no device.
const ago = (minutes) => new Date(Date.now() - minutes * 60e3).toISOString();
const week = () => new Date(Date.now() + 6 * 864e5).toISOString();
const agents = {
  firefox: 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
  phone: 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1',
  hostile: '<img src=x onerror=alert(1)>/1.0 "><script>alert(2)</script>',
};
const codes = () => Array.from({ length: 10 }, () => Array.from({ length: 3 }, () => Math.random().toString(36).slice(2, 7).padEnd(5, 'x')).join('-'));

/** signing is what the director knows of it, for one run. */
const signing = {
  totp: new Map([['maria', { since: ago(9000), recovery: 2 }]]),
  passkeys: [
    { id: 'k1', name: 'Laptop', host: 'localhost', synced: false, created: ago(30000), used: ago(70) },
    { id: 'k2', name: '<img src=x onerror=alert(1)>', host: 'nutshell.example.org', synced: true, created: ago(90000) },
  ],
  sessions: [
    { id: 's1', this: true, created: ago(3), expires: week(), seen: ago(0), remote: '127.0.0.1', agent: agents.firefox },
    { id: 's2', this: false, created: ago(2000), expires: week(), seen: ago(40), remote: '2001:db8::17', agent: agents.phone },
    { id: 's3', this: false, created: ago(5000), expires: week(), seen: ago(4000), remote: '192.0.2.44', agent: agents.hostile },
  ],
  proved: false,
  setup: process.argv.includes('empty'),
};

/** secondFactor is the problem of a sign-in whose code is missing or wrong, or nothing. */
export function secondFactor(user, code, problem) {
  if (!signing.totp.has(user.name)) return undefined;
  const plain = (code ?? '').replaceAll(/[\s-]/g, '');
  if (plain === '123456' || plain === 'aaaaabbbbbccccc') return undefined;
  const more = { fields: ['code'], factors: ['totp', 'recovery'], hint: 'take it from your authenticator app, or use a recovery code' };
  return problem(401, 'second_factor', code ? 'the code is wrong, or was used already' : 'a code is needed beside the password', more);
}

/** signin adds the routes. */
export function signin(on) {
  const proven = (x) => (signing.proved ? undefined : x.problem(403, 'proof_needed', 'this needs your password or a passkey once more', { factors: ['password'] }));
  const factors = (x) => {
    const totp = signing.totp.get(x.user.name);
    return { passkeys: signing.passkeys, passkey_host: '', passkey_problem: 'browsers have passkeys for names only, and this page was opened by the address 127.0.0.1: open Nutshell by a name, such as https://localhost:5555 on its own machine or https://nutshell.example.org', ...(totp ? { totp } : {}) };
  };
  const asked = (n) => 'M0 0' + Array.from({ length: n * n }, (_, i) => ((i * 7919 + (i % 13) * 31) % 5 < 2 ? `M${i % n} ${Math.floor(i / n)}h1v1h-1z` : '')).join('');
  on('POST /proof', (x) => {
    if (x.json().password !== 'nutshell') return x.problem(403, 'forbidden', 'the password is wrong', { fields: ['password'] });
    signing.proved = true;
    return { status: 204 };
  });
  on('GET /sessions', () => ({ json: signing.sessions }));
  on('DELETE /sessions', () => ((signing.sessions = signing.sessions.filter((s) => s.this)), { status: 204 }));
  on('DELETE /sessions/{id}', (x) => ((signing.sessions = signing.sessions.filter((s) => s.id !== x.groups[0])), { status: 204 }));
  on('GET /factors', (x) => ({ json: factors(x) }));
  on('POST /factors/totp/begin', (x) => proven(x) ?? { json: { secret: 'JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP', uri: 'otpauth://totp/Nutshell:admin?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP', qr: { size: 41, path: asked(41) } } });
  on('POST /factors/totp', (x) => {
    if (proven(x)) return proven(x);
    if (x.json().code !== '123456') return x.problem(422, 'invalid', 'this is not the code that the app shows now', { fields: ['code'], hint: 'wait for the next code; if it goes on, see that the clock of the device is right' });
    signing.totp.set(x.user.name, { since: ago(0), recovery: 10 });
    return { json: { codes: codes() } };
  });
  on('DELETE /factors/totp', (x) => proven(x) ?? (signing.totp.delete(x.user.name), { status: 204 }));
  on('POST /factors/recovery', (x) => proven(x) ?? ((signing.totp.get(x.user.name).recovery = 10), { json: { codes: codes() } }));
  on('POST /passkeys/begin', (x) => proven(x) ?? x.problem(422, 'invalid', 'browsers have passkeys for names only', { hint: 'open Nutshell by a name' }));
  on('PATCH /passkeys/{id}', (x) => ((signing.passkeys.find((k) => k.id === x.groups[0]).name = x.json().name), { status: 204 }));
  on('DELETE /passkeys/{id}', (x) => proven(x) ?? ((signing.passkeys = signing.passkeys.filter((k) => k.id !== x.groups[0])), { status: 204 }));
  on('DELETE /users/{user}/sessions', () => ({ status: 204 }));
  on('DELETE /users/{user}/factors', (x) => proven(x) ?? (signing.totp.delete(x.groups[0]), { status: 204 }));
  on('GET /setup', (x) => ({ json: { needed: signing.setup, password_generated: true, clouds: x.world.clouds, applications: x.world.applications.size, ...(x.world.nodes.size ? { exposure: { interface: 'eth1', network: '192.168.56.0/24', pool: '192.168.56.10-192.168.56.99', outside: [{ address: '203.0.113.9', user: 'admin', seen: new Date().toISOString() }], no_second_factor: x.world.users.filter((u) => u.admin && !u.second_factor).map((u) => u.name) } } : {}) } }));
  on('POST /setup/done', () => ((signing.setup = false), { status: 204 }));
  on('PUT /clouds/{cloud}/default', (x) => {
    for (const c of x.world.clouds) c.default = c.name === x.groups[0];
    return { json: x.world.clouds.find((c) => c.default) };
  });
}
