// The routes of the development director, as in docs/develop/api.md.
import { randomBytes } from 'node:crypto';
import { bin } from './bin.mjs';
import { data, sql } from './data.mjs';
import { hosting } from './hosting.mjs';
import { nodes } from './nodes.mjs';
import { accessOf, people, seen } from './people.mjs';
import { clash, note, numbered, ofScript, ofSettings, revisions } from './revisions.mjs';
import { signin } from './signin.mjs';
import { nuts } from './testkind.mjs';
import { logs as logLines } from './logs.mjs';

const list = [];
const on = (methodAndPath, handle) => {
  const [method, path] = methodAndPath.split(' ');
  list.push([method, new RegExp('^' + path.replaceAll(/\{\w+\}/g, '([^/]+)') + '$'), handle]);
};
export const routes = list;

const app = (x) => [...x.world.applications.values()].find((a) => String(a.id) === x.groups[0] || a.name === x.groups[0]);
const service = (x) => [...x.world.services.values()].find((s) => s.application === app(x)?.id && (String(s.id) === x.groups[1] || s.name === x.groups[1]));
const withApp = (f) => (x) => (app(x) ? f(x, app(x)) : x.problem(404, 'not_found', `There is no application ${x.groups[0]}.`));
const withService = (f) => (x) => (service(x) ? f(x, service(x), app(x)) : x.problem(404, 'not_found', `There is no service ${x.groups[1]}.`));
const busy = (x, thing) => thing.operation && x.problem(409, 'conflict', 'Another operation is under way on it.', { hint: 'wait for it or cancel it', related: thing.operation });
const checkName = (x, name) => (!/^[A-Za-z0-9][\w. -]{0,63}$/.test(name ?? '') || /^\d+$/.test(name) ? x.problem(422, 'invalid', 'The name has a character that is not allowed.', { fields: ['name'], hint: "use 1 to 64 letters, digits, '-', '_', '.' or blanks, beginning with a letter or digit" }) : null);

on('GET /users', (x) => ({ json: x.world.users }));
on('POST /users', (x) => {
  const b = x.json();
  const bad = checkName(x, b.name);
  if (bad) return bad;
  const u = { id: x.world.users.length + 1, first_name: '', last_name: '', affiliation: '', admin: false, second_factor: false, created: new Date().toISOString(), ...b, credit: b.credit ?? 50 };
  delete u.password;
  x.world.users.push(u);
  x.world.audit('user.create', u.name);
  return { json: u };
});
on('GET /users/{user}', (x) => ({ json: x.world.users.find((u) => u.name === x.groups[0] || String(u.id) === x.groups[0]) }));
on('PATCH /users/{user}', (x) => {
  const u = x.world.users.find((v) => v.name === x.groups[0] || String(v.id) === x.groups[0]);
  const { password, current, add_credit: add, ...rest } = x.json();
  if (password !== undefined && u.id === x.user.id && current !== 'nutshell') return x.problem(403, 'forbidden', 'The current password is wrong.', { fields: ['current'] });
  Object.assign(u, rest);
  u.credit += add ?? 0;
  x.world.emit('user', 0, 0, u.id, u);
  return { json: u };
});
on('DELETE /users/{user}', (x) => {
  x.world.users = x.world.users.filter((u) => String(u.id) !== x.groups[0] && u.name !== x.groups[0]);
  return { status: 204 };
});
on('GET /tokens', (x) => ({ json: x.world.tokens }));
on('POST /tokens', (x) => {
  const b = x.json();
  const token = { id: randomBytes(4).toString('hex'), name: b.name, scope: b.scope ?? 'write', created: new Date().toISOString(), expires: new Date(Date.now() + (b.days ?? 90) * 864e5).toISOString() };
  x.world.tokens.push(token);
  return { json: { token, secret: 'nst_' + randomBytes(24).toString('base64url') } };
});
on('DELETE /tokens/{id}', (x) => {
  x.world.tokens = x.world.tokens.filter((t) => t.id !== x.groups[0]);
  return { status: 204 };
});
on('GET /clouds', (x) => ({ json: x.world.clouds }));
on('GET /kinds', (x) => ({ json: x.world.kinds }));
on('GET /resources', (x) => ({ json: [...x.world.instances.values()] }));
on('GET /services', (x) => (numbered(x.world), { json: [...x.world.services.values()] }));
on('GET /operations/{id}', (x) => (x.world.operations.has(x.groups[0]) ? { json: x.world.operations.get(x.groups[0]) } : x.problem(404, 'not_found', 'There is no such operation.')));
on('POST /operations/{id}/cancel', (x) => {
  const o = x.world.operations.get(x.groups[0]);
  o.cancelling = true;
  return { json: o };
});
on('POST /operations/{id}/retry', (x) => {
  const o = x.world.operations.get(x.groups[0]);
  const again = o.service ? start(x, x.world.services.get(`${o.application}/${o.service}`)) : startApp(x, x.world.applications.get(o.application));
  again.json.retry_of = o.id;
  return again;
});

on('GET /applications', (x) => ({ json: seen(x) }));
on('POST /applications', (x) => {
  const b = x.json();
  const bad = checkName(x, b.name);
  if (bad) return bad;
  if ([...x.world.applications.values()].some((a) => a.name === b.name)) return x.problem(409, 'conflict', `There is an application "${b.name}" already.`, { fields: ['name'], hint: 'choose another name' });
  const a = x.world.addApplication(b.name);
  x.world.tell(a, false);
  x.world.audit('application.create', b.name);
  return { status: 201, json: a };
});
on('GET /applications/{app}', withApp((x, a) => ({ json: { ...a, access: accessOf(x.world, x.user, a), services: [...x.world.services.values()].filter((s) => s.application === a.id) } })));
on('PATCH /applications/{app}', withApp((x, a) => {
  const bad = checkName(x, x.json().name);
  if (bad) return bad;
  a.name = x.json().name;
  x.world.tell(a, false);
  return { json: a };
}));
function startApp(x, a) {
  x.world.move(a, 'PROLOGUE', 'started by admin', false);
  return {
    status: 202,
    json: x.world.operate('application.start', `Start ${a.name}`, a.id, 0, [['Launch the manager', 900], ['Wait for its report', 700]], {
      done: () => {
        a.manager = x.world.addInstance(a, null, []);
        a.desired = 'started';
        x.world.move(a, 'RUNNING', 'its manager answers', false);
      },
    }),
  };
}
on('POST /applications/{app}/start', withApp((x, a) => busy(x, a) || startApp(x, a)));
on('POST /applications/{app}/stop', withApp((x, a) => {
  x.world.move(a, 'EPILOGUE', 'stopped by admin', false);
  return { status: 202, json: x.world.operate('application.stop', `Stop ${a.name}`, a.id, 0, [['Stop its services', 1200], ['Stop the manager', 500]], { done: () => { delete a.manager; a.desired = 'stopped'; for (const i of x.world.instances.values()) if (i.application === a.id) gone(x, i); for (const s of x.world.services.values()) if (s.application === a.id && s.state !== 'INIT') { s.urls = []; x.world.move(s, 'STOPPED', 'the application was stopped', true); } x.world.move(a, 'STOPPED', 'stopped by admin', false); } }) };
}));
on('DELETE /applications/{app}', withApp((x, a) => ({ status: 202, json: x.world.operate('application.delete', `Delete ${a.name}`, a.id, 0, [['Stop what runs', 700], ['Delete code and settings', 300]], { done: () => { x.world.applications.delete(a.id); x.world.emit('application.deleted', a.id, 0, a.id, null); } }) })));
on('GET /applications/{app}/history', withApp((x, a) => ({ json: x.world.histories.get(`${a.id}/0`) ?? [] })));
on('GET /applications/{app}/log', withApp((x) => logs(x, 'manager')));

on('POST /applications/{app}/services', withApp((x, a) => {
  const b = x.json();
  const taken = [...x.world.services.values()].filter((s) => s.application === a.id).map((s) => s.name);
  let name = b.name || b.kind;
  if (b.name && taken.includes(name)) return x.problem(409, 'conflict', `The application has a service "${name}" already.`, { fields: ['name'] });
  for (let n = 2; taken.includes(name); n++) name = b.kind + n;
  const s = x.world.addService(a, b.kind, name);
  x.world.tell(s, true);
  return { status: 201, json: s };
}));
const S = '/applications/{app}/services/{service}';
on(`GET ${S}`, withService((x, s) => ({ json: { ...s, instances: x.world.of(s) } })));
on(`PATCH ${S}`, withService((x, s) => {
  const { name, auto_deploy: auto, keep_versions: keep, bind } = x.json();
  const bad = name !== undefined && checkName(x, name);
  if (bad) return bad;
  if (keep !== undefined && !(keep >= 0 && keep <= 1000)) return x.problem(422, 'invalid', 'The number of versions to keep is out of range.', { fields: ['keep_versions'], hint: '0 keeps all' });
  Object.assign(s, name === undefined ? {} : { name }, auto === undefined ? {} : { auto_deploy: auto }, keep === undefined ? {} : { keep_versions: keep }, bind === undefined ? {} : { bind });
  x.world.tell(s, true);
  return { json: s };
}));
on(`DELETE ${S}`, withService((x, s) => busy(x, s) || ({ status: 202, json: x.world.operate('service.delete', `Delete ${s.name}`, s.application, s.id, [...(x.query.get('backup') ? [['Take a last backup', 900]] : []), ['Stop', 600], ['Delete code and settings', 300]], { done: () => { if (x.query.get('backup')) x.world.backup(s, 'last'); x.world.volumes = x.world.volumes.filter((v) => v.application !== s.application || v.service !== s.id); x.world.of(s).forEach((i) => gone(x, i)); x.world.services.delete(`${s.application}/${s.id}`); x.world.emit('service.deleted', s.application, s.id, s.id, null); } }) })));

function gone(x, i) {
  x.world.instances.delete(i.id);
  x.world.emit('instance.deleted', i.application, i.service, i.id, null);
}
// reshape makes the instances of a service what its parts want.
function reshape(x, s, remove = []) {
  const kind = x.world.kinds.find((k) => k.name === s.kind);
  const wanted = x.world.place(s, kind);
  const have = x.world.of(s).sort((a, b) => remove.includes(a.id) - remove.includes(b.id));
  wanted.forEach((parts, n) => {
    const i = have[n] ?? x.world.addInstance(x.world.applications.get(s.application), s, parts);
    i.parts = parts;
    i.state = 'ready';
    x.world.emit('instance', s.application, s.id, i.id, { ...i });
  });
  have.slice(wanted.length).forEach((i) => gone(x, i));
  x.world.settle(s);
}
function start(x, s) {
  const a = x.world.applications.get(s.application);
  if (a.state !== 'RUNNING') return x.problem(409, 'conflict', `The application ${a.name} is not running.`, { hint: 'start the application first' });
  x.world.move(s, 'PROLOGUE', 'started by admin', true);
  return { status: 202, json: x.world.operate('service.start', `Start ${a.name}/${s.name}`, a.id, s.id, [['Check credit', 300], ['Prepare the image', 1400, 'nginx-light, php-fpm: 31 of 44 packages'], ['Start instances', 900], ['Join', 500], ['Apply configuration', 600], ['Check health', 500]], { done: () => { s.desired = 'started'; reshape(x, s); x.world.move(s, 'RUNNING', 'everything answers', true); } }) };
}
on(`POST ${S}/start`, withService((x, s) => busy(x, s) || start(x, s)));
on(`POST ${S}/stop`, withService((x, s) => {
  if (s.operation) return busy(x, s);
  x.world.move(s, 'EPILOGUE', 'stopped by admin', true);
  return { status: 202, json: x.world.operate('service.stop', `Stop ${s.name}`, s.application, s.id, [['Drain', 600], ['Stop instances', 700]], { done: () => { s.desired = 'stopped'; s.urls = []; delete s.serving; x.world.of(s).forEach((i) => gone(x, i)); x.world.move(s, 'STOPPED', 'stopped by admin', true); } }) };
}));
function wanted(x, s) {
  const b = x.json();
  const parts = { ...s.parts };
  for (const [p, n] of Object.entries(b.add ?? {})) parts[p] += n;
  for (const [p, n] of Object.entries(b.set ?? {})) parts[p] = n;
  return parts;
}
on(`POST ${S}/preview`, withService((x, s) => {
  const parts = wanted(x, s);
  const kind = x.world.kinds.find((k) => k.name === s.kind);
  const { remove = [] } = x.json();
  const have = x.world.of(s);
  const next = x.world.place({ ...s, parts }, kind);
  have.sort((a, b) => remove.includes(a.id) - remove.includes(b.id));
  const change = have.slice(0, next.length).flatMap((i, n) => (i.parts.join() === next[n].join() ? [] : [`${i.id} becomes ${next[n].join(', ')} (now ${i.parts.join(', ')})`]));
  const launch = next.slice(have.length);
  const leave = have.slice(next.length).map((i) => i.id);
  return { json: { parts, launch, leave, change, credits: launch.length - leave.length } };
}));
on(`POST ${S}/scale`, withService((x, s) => {
  if (s.operation) return busy(x, s);
  const parts = wanted(x, s);
  if (s.state === 'INIT' || s.state === 'STOPPED') {
    return { status: 202, json: x.world.operate('service.scale', `Scale ${s.name}`, s.application, s.id, [['Keep the counts', 50]], { done: () => { s.parts = parts; x.world.tell(s, true); } }, x.json()) };
  }
  x.world.move(s, 'ADAPTING', 'scaled by admin', true);
  return { status: 202, json: x.world.operate('service.scale', `Scale ${s.name}`, s.application, s.id, [['Check credit', 250], ['Start instances', 1200], ['Join', 600], ['Apply configuration', 600], ['Check health', 500]], { done: () => { s.parts = parts; reshape(x, s, x.json().remove); x.world.move(s, 'RUNNING', 'everything answers', true); } }, x.json()) };
}));
on(`GET ${S}/settings`, withService((x, s) => ({ json: s.settings })));
on(`PATCH ${S}/settings`, withService((x, s) => {
  const b = x.json();
  if (b.health_path === '/broken') return x.problem(422, 'invalid', 'The health page does not answer.', { fields: ['health_path'], hint: 'choose a page of the application' });
  if (/bogus/.test(b.nginx_snippet ?? '')) return x.problem(422, 'invalid', 'nginx refuses the lines: unknown directive "bogus" in line 2', { op: 'check', object: 'nginx_snippet', fields: ['nginx_snippet'], hint: 'mend line 2 or take it out' });
  const faster = clash(x, s, 'settings', Object.keys(b));
  if (faster) return faster;
  note(x, s, 'change settings of', ofSettings(s.settings, b));
  if (s.state !== 'RUNNING') {
    Object.assign(s.settings, b);
    x.world.tell(s, true);
    return { json: s };
  }
  x.world.move(s, 'ADAPTING', 'settings changed by admin', true);
  return { status: 202, json: x.world.operate('service.configure', `Change settings of ${s.name}`, s.application, s.id, [['Write configuration', 500], ['Reload php-fpm', 700], ['Check health', 400]], { done: () => { s.settings = { ...s.settings, ...b }; x.world.move(s, 'RUNNING', 'everything answers', true); } }, b) };
}));
on(`GET ${S}/instances`, withService((x, s) => ({ json: x.world.of(s) })));
on(`GET ${S}/instances/{id}`, withService((x, s) => {
  const i = x.world.instances.get(x.groups[2]);
  if (!i || i.state !== 'ready') return x.problem(503, 'unavailable', 'The instance does not answer.', { hint: 'it is replaced when it stays away' });
  const names = s.kind === 'php' ? ['nginx-proxy', 'nginx-web', 'php-fpm'] : [`${s.kind}-agent`];
  return { json: { instance: i.id, booted: i.created, ready: true, processes: names.map((name, n) => ({ name, state: 'running', pid: 120 + n * 14, restarts: n === 2 ? 1 : 0, since: i.created, message: n === 2 ? 'signal: killed' : '' })), logs: logNames(s), figures: i.figures } };
}));
const logNames = (s) => (s.kind === 'php' ? [['access.log', 'Requests that the proxy answered', 81_234], ['error.log', 'What nginx complained of', 3_120], ['php-fpm.log', 'What PHP complained of', 12_400], ['agent.log', 'The agent', 22_010]] : [['agent.out', 'What the scripts printed', 40_212], ['agent.err', 'What the scripts complained of', 1_204], ['agent.log', 'The agent', 8_100]]).map(([name, description, bytes]) => ({ name, description, bytes }));
on(`GET ${S}/instances/{id}/logs`, withService((x, s) => ({ json: logNames(s) })));
on(`GET ${S}/instances/{id}/logs/{log}`, withService((x) => logs(x, x.groups[3])));
on(`GET ${S}/log`, withService((x) => logs(x, 'manager')));

const pages = ['/', '/products/walnuts', '/cart', '/checkout', '/assets/shop.css', '/api/stock?sku=118', '/login'];
function line(name, t) {
  const at = new Date(t).toISOString();
  if (name.startsWith('access')) return `10.204.0.1 - - [${at}] "GET ${pages[Math.floor(Math.random() * pages.length)]} HTTP/1.1" ${Math.random() < 0.05 ? 502 : Math.random() < 0.1 ? 304 : 200} ${Math.round(Math.random() * 24000)} ${(Math.random() * 0.09).toFixed(3)}`;
  const kinds = [['INFO', 'agent answers', 'took=3ms'], ['INFO', 'configuration applied', 'revision=118'], ['DEBUG', 'figures measured', 'cpu_percent=3.1'], ['WARN', 'slow request', 'took=1.204s path=/checkout'], ['ERROR', 'upstream closed the connection', 'backend=10.204.1.14:9000']];
  const [level, message, more] = kinds[Math.random() < 0.08 ? 4 : Math.random() < 0.12 ? 3 : Math.floor(Math.random() * 3)];
  return `time=${at} level=${level} msg="${message}" op=converge instance=a1-s1-3fa2 ${more}`;
}
function logs(x, name) {
  const tail = Number(x.query.get('tail') ?? 200) || 2000;
  const text = Array.from({ length: Math.min(tail, 400) }, (_, n) => line(name, Date.now() - (400 - n) * 900)).join('\n') + '\n';
  if (!x.query.get('follow')) return { text };
  x.response.writeHead(200, { 'Content-Type': 'text/plain; charset=utf-8', 'Cache-Control': 'no-store' });
  x.response.write(text);
  const timer = setInterval(() => x.response.write(line(name, Date.now()) + '\n'), 400);
  x.request.on('close', () => clearInterval(timer));
  x.response.on('close', () => clearInterval(timer));
  return null;
}

on(`GET ${S}/history`, withService((x, s) => ({ json: x.world.histories.get(`${s.application}/${s.id}`) ?? [] })));
const versions = (x, s) => x.world.versions.get(`${s.application}/${s.id}`) ?? [];
on(`GET ${S}/versions`, withService((x, s) => ({ json: versions(x, s).map((v) => ({ ...v, current: v.id === s.version })) })));
// store makes a version of an archive that has arrived, or says why not.
function store(x, s, { filename, description, strip, body }) {
  if (!/\.(tar|tgz|zip|war|tar\.\w+)$/.test(filename)) return x.problem(422, 'invalid', `${filename} is not an archive.`, { op: 'read archive', hint: 'upload a .tar.gz, .tar.xz, .zip or another archive' });
  if (filename.includes('sub') && !strip) return x.problem(422, 'invalid', 'Everything in the archive stands in one sub-directory, "shop-2.5.0/".', { fields: ['strip'], hint: 'upload it with --strip to take that directory off' });
  const v = { ...x.world.version('code-' + randomBytes(3).toString('hex'), filename, description, body.length, 0, x.user.name), strip: strip ? 'shop-2.5.0' : '' };
  x.world.blobs.set(v.id, body);
  versions(x, s).unshift(v);
  x.world.emit('version', s.application, s.id, v.id, v);
  return { status: 201, json: v };
}
on(`POST ${S}/versions`, withService((x, s) => store(x, s, { filename: x.query.get('filename') || 'upload', description: x.query.get('description') ?? '', strip: x.query.get('strip') === 'true', body: x.body })));
on(`DELETE ${S}/versions/{version}`, withService((x, s) => {
  if (s.version === x.groups[2]) return x.problem(409, 'conflict', 'The version is the current one.', { hint: 'activate another version first' });
  x.world.versions.set(`${s.application}/${s.id}`, versions(x, s).filter((v) => v.id !== x.groups[2]));
  x.world.emit('version.deleted', s.application, s.id, x.groups[2], null);
  return { status: 204 };
}));
on(`GET ${S}/versions/{version}/download`, withService((x) => ({ text: x.world.blobs.get(x.groups[2]) ?? 'archive', headers: { 'Content-Type': 'application/octet-stream', 'Content-Disposition': 'attachment; filename="code.tar"' } })));
const broken = (x, s, id) => (versions(x, s).find((v) => v.id === id)?.filename.includes('broken') ? { code: 'invalid', op: 'check', object: 'version ' + id, message: `${id} answered 500 to GET / on a1-s1-3fa2c1 and never got a request`, hint: 'mend the page or choose another health page in the settings, then upload it again', log_tail: ['[22-Nov-2026 10:14:03] PHP Fatal error:  Uncaught Error: Call to undefined function shop_init() in /srv/code/index.php:14', 'Stack trace:', '#0 {main}', '  thrown in /srv/code/index.php on line 14'] } : undefined);
function activate(x, s, version) {
  if (s.operation) return busy(x, s);
  const set = () => { s.version = version; x.world.emit('version', s.application, s.id, version, { ...versions(x, s).find((v) => v.id === version), current: true }); };
  if (s.state !== 'RUNNING') { set(); x.world.tell(s, true); return { json: s }; }
  x.world.move(s, 'ADAPTING', `activating ${version}`, true);
  return { status: 202, json: x.world.operate('service.activate', `Activate ${version} on ${s.name}`, s.application, s.id, [['Unpack on every instance', 900], ['Check version', 700, 'GET / on every backend'], ['Switch the proxy', 300], ['Drain the old version', 800]], {
    at: [null, () => broken(x, s, version)],
    failed: () => x.world.move(s, 'RUNNING', `${s.serving} serves as before`, true),
    done: () => { set(); s.serving = version; x.world.move(s, 'RUNNING', 'everything answers', true); },
  }) };
}
on(`POST ${S}/activate`, withService((x, s) => activate(x, s, x.json().version)));
on(`POST ${S}/actions/{action}`, withService((x, s) => {
  const all = x.world.of(s).filter((i) => i.state === 'ready');
  const runs = x.world.scriptRuns;
  const running = all.some((i) => runs.get(i.id)?.until > Date.now());
  const told = (s.kind === 'mysql' && sql(x, s, all)) || (s.kind === 'testkind' && nuts(x, s));
  if (told) return told;
  switch (x.groups[2]) {
    case 'get_helloworld': return { json: { text: all.map((i) => `Received hello world from ${i.id}`).join('\n') } };
    case 'get_script_status': {
      const state = (i, script) => {
        const r = runs.get(i.id);
        if (script === 'init.sh') return 'STOPPED (return code 0)';
        if (r?.script !== script) return 'NEVER STARTED';
        return r.until > Date.now() ? 'RUNNING' : `STOPPED (return code ${r.code})`;
      };
      const agents = Object.fromEntries(all.map((i) => [i.id, Object.fromEntries(['init.sh', 'notify.sh', 'run.sh', 'interrupt.sh', 'cleanup.sh'].map((n) => [n, state(i, n)]))]));
      const times = Object.fromEntries(all.flatMap((i) => { const r = runs.get(i.id); return r ? [[i.id, { [r.script]: { started: new Date(r.began).toISOString(), ...(r.until > Date.now() ? {} : { ended: new Date(r.until || r.began + 4200).toISOString() }) } }]] : []; }));
      return { json: { text: 'see result', result: { agents, times } } };
    }
    case 'run':
    case 'cleanup':
      if (running) return x.problem(409, 'conflict', 'A script runs already.', { hint: 'wait or interrupt it' });
      all.forEach((i, n) => runs.set(i.id, { script: x.groups[2] + '.sh', began: Date.now(), until: Date.now() + 9000 + n * 1500, code: n === 2 ? 1 : 0 }));
      return { json: { text: `${x.groups[2]}.sh was started on ${all.length} instances.` } };
    case 'interrupt':
      if (!running) return x.problem(409, 'conflict', 'Nothing runs.');
      all.forEach((i) => Object.assign(runs.get(i.id), { until: 0, code: -15 }));
      return { json: { text: 'Interrupted.' } };
    default: return { json: { text: 'memory_limit = 128M\nmax_execution_time = 30\nopcache.enable = 1\npm.max_children = 12' } };
  }
}));
on(`GET ${S}/script`, withService((x, s) => ({ json: { text: x.world.scripts.get(`${s.application}/${s.id}`) ?? '' } })));
on(`PUT ${S}/script`, withService((x, s) => {
  const id = `${s.application}/${s.id}`;
  const faster = clash(x, s, 'script', ['startup.sh']);
  if (faster) return faster;
  note(x, s, 'change the startup script of', ofScript(x.world.scripts.get(id) ?? '', x.json().text));
  x.world.scripts.set(id, x.json().text);
  x.world.tell(s, true);
  return { status: 204 };
}));

hosting(on, { withApp, withService, busy, store, activate });
nodes(on);
people(on, { withApp });
bin(on);
revisions(on, { withService });
signin(on);
data(on, { withApp, withService, busy, gone });
logLines({ on, withApp });
