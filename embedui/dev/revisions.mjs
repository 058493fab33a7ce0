// Revisions of services, If-Match, and what lists of operations and audit are
// asked for, in the development director.
const S = '/applications/{app}/services/{service}';
const key = (s) => `${s.application}/${s.id}`;
const ago = (minutes) => new Date(Date.now() - minutes * 6e4).toISOString();

const first = (x, s) => {
  const own = s.name === 'php' && x.world.applications.get(s.application)?.name === 'shop';
  const past = own ? [
    { by: 'maria', why: 'change settings of', time: ago(60 * 26), changes: [{ what: 'settings', name: 'memory_limit', from: '"128M"', to: '"192M"' }] },
    { by: 'jonas', why: 'change variables of', time: ago(60 * 9), changes: [{ what: 'environment', name: 'MAIL_FROM', from: '<img src=x onerror=alert(1)>', to: 'shop@example.org' }, { what: 'environment', name: 'STRIPE_KEY', from: '', to: '********', secret: true }] },
    { by: 'admin', why: 'scale', time: ago(60 * 3), changes: [{ what: 'parts', name: 'backend', from: '2', to: '3' }] },
    { by: 'maria', why: 'change the startup script of', time: ago(50), changes: [{ what: 'script', name: 'startup.sh', from: '#!/bin/sh\nset -e\napt-get install -y php-gd\n', to: '' }] },
  ] : [];
  return [{ by: '', why: '', time: s.created, changes: [] }, ...past].map((r, i) => ({ ...r, number: i + 1 }));
};

/** revisionsOf are the revisions of a service, oldest first. */
export function revisionsOf(x, s) {
  const kept = (x.world.revisions ??= new Map());
  if (!kept.has(key(s))) kept.set(key(s), first(x, s));
  s.revision = kept.get(key(s)).at(-1).number;
  return kept.get(key(s));
}

/** note keeps a change as a revision. */
export function note(x, s, why, changes) {
  const all = revisionsOf(x, s);
  const real = changes.filter((c) => c.secret || c.from !== c.to);
  if (real.length) all.push({ number: (s.revision += 1), time: new Date().toISOString(), by: x.user.name, why, changes: real });
}

/** clash refuses a change of what others have changed since its asker looked. */
export function clash(x, s, what, names) {
  const seen = Number(x.request.headers['if-match'] ?? 0);
  const all = revisionsOf(x, s);
  if (!seen || seen === s.revision) return undefined;
  const since = all.filter((r) => r.number > seen);
  const fields = [...new Set(since.flatMap((r) => r.changes.filter((c) => c.what === what && names.includes(c.name)).map((c) => c.name)))];
  return fields.length ? x.problem(409, 'conflict', `somebody else was faster (${all.at(-1).by} was last): ${fields.join(', ')} was changed`, { fields, hint: `look at what is there now, revision ${s.revision}, and send what you still want` }) : undefined;
}

export const ofSettings = (before, after) => Object.keys(after).map((name) => ({ what: 'settings', name, from: JSON.stringify(before[name]) ?? '', to: JSON.stringify(after[name]) }));
const hidden = (v) => (v ? '********' : '');
export const ofVariables = (before, after) => [...new Set([...before, ...after].map((v) => v.name))].flatMap((name) => {
  const [a, b] = [before.find((v) => v.name === name), after.find((v) => v.name === name)];
  if (a?.value === b?.value && !!a?.secret === !!b?.secret) return [];
  const secret = a?.secret || b?.secret;
  return [{ what: 'environment', name, from: secret ? hidden(a?.value) : (a?.value ?? ''), to: secret ? hidden(b?.value) : (b?.value ?? ''), ...(secret ? { secret: true } : {}) }];
});
export const ofScript = (from, to) => [{ what: 'script', name: 'startup.sh', from, to }];

/** numbered keeps numbers of revisions in services that nobody has changed. */
export const numbered = (world) => { for (const s of world.services.values()) revisionsOf({ world }, s); };

export function revisions(on, { withService }) {
  on(`GET ${S}/revisions`, withService((x, s) => ({ json: revisionsOf(x, s).toReversed() })));
  on(`POST ${S}/revisions/{revision}/revert`, withService((x, s) => {
    const all = revisionsOf(x, s);
    const to = Number(x.groups[2]);
    if (!all.some((r) => r.number === to)) return x.problem(404, 'not_found', `there is no revision ${to}`, { hint: 'list its revisions to see which there are' });
    const undone = [];
    for (const r of all.filter((o) => o.number > to).toReversed()) {
      for (const c of r.changes) {
        if (c.what === 'settings') s.settings = { ...s.settings, [c.name]: JSON.parse(c.from) };
        if (c.what === 'script') x.world.scripts.set(key(s), c.from);
        if (c.what === 'environment') {
          const rest = (x.world.variables.get(key(s)) ?? []).filter((v) => v.name !== c.name);
          x.world.variables.set(key(s), c.from ? [...rest, { name: c.name, value: c.from, ...(c.secret ? { secret: true } : {}) }] : rest);
        }
        const known = undone.find((u) => u.what === c.what && u.name === c.name);
        if (known) known.to = c.from;
        else if (c.what !== 'parts') undone.push({ ...c, from: c.to, to: c.from });
      }
    }
    if (!undone.length) return x.problem(409, 'conflict', `all is as revision ${to} has it`);
    note(x, s, `go back to revision ${to} of`, undone);
    x.world.tell(s, true);
    return { json: s };
  }));
  on('GET /operations', (x) => {
    const q = (name) => x.query.get(name);
    const fits = (o) => (!q('application') || String(o.application) === q('application')) && (!q('service') || String(o.service) === q('service')) && (!q('kind') || o.kind === q('kind')) && (!q('actor') || o.actor === q('actor')) && (!q('parent') || o.parent === q('parent')) && (!q('state') || (q('state') === 'active' ? ['running', 'pending'].includes(o.state) : o.state === q('state')));
    const all = [...x.world.operations.values()].filter(fits).sort((a, b) => (a.created < b.created ? 1 : -1));
    const before = all.findIndex((o) => o.id === q('before'));
    return { json: all.slice(before + 1, before + 1 + Number(q('limit') ?? 1000)) };
  });
  on('GET /audit', (x) => {
    const q = (name) => x.query.get(name);
    const hours = /^(\d+)h$/.exec(q('since') ?? '');
    const fits = (e) => (!q('actor') || e.actor === q('actor')) && (!q('action') || e.action.startsWith(q('action'))) && (!q('object') || e.object.includes(q('object'))) && (!q('result') || (q('result') === 'refused' ? e.result !== 'ok' : e.result === q('result'))) && (!hours || Date.now() - Date.parse(e.time) < hours[1] * 36e5) && (!q('before') || e.id < Number(q('before')));
    return { json: x.world.audits.filter(fits).slice(0, Number(q('limit') ?? 1000)) };
  });
  on('PUT /clouds/{cloud}/default', (x) => {
    const c = x.world.clouds.find((o) => o.name === x.groups[0]);
    if (!c) return x.problem(404, 'not_found', `There is no cloud ${x.groups[0]}.`);
    if (!c.ready) return x.problem(409, 'conflict', `The cloud ${c.name} does not answer.`, { hint: 'mend it first, or choose another' });
    for (const o of x.world.clouds) o.default = o === c;
    return { json: c };
  });
}
