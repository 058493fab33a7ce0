// A small world in memory that behaves like a director's: applications,
// services, instances and operations that take time. For development,
// screenshots and browser tests only; it starts nothing.
import { randomBytes } from 'node:crypto';
import { seedData } from './data.mjs';
import { seedNodes } from './nodes.mjs';
import { seedPeople } from './people.mjs';
import { poison } from './hostile.mjs';
import { kinds } from './kinds.mjs';
import { seedOdd } from './testkind.mjs';

const iso = (ms = Date.now()) => new Date(ms).toISOString();
const ago = (minutes) => iso(Date.now() - minutes * 60_000);
const hex = (n) => randomBytes(n).toString('hex');
const sleep = (ms) => new Promise((r) => setTimeout(r, ms));

export class World {
  events = [];
  /** id of the first event: none of a former director's can be taken for one of these */
  first = Date.now();
  listeners = new Set();
  applications = new Map();
  services = new Map();
  instances = new Map();
  operations = new Map();
  versions = new Map();
  histories = new Map();
  scripts = new Map();
  blobs = new Map();
  scriptRuns = new Map();
  audits = [];
  tokens = [];
  sshKeys = [];
  variables = new Map();
  sites = new Map();
  volumes = [];
  backups = [];
  databases = new Map();
  shownSecrets = new Map();
  ledgers = new Map();
  members = new Map();
  nodes = new Map();
  quotas = new Map();
  edge = { on: true, domain: 'apps.example.org', https: 443, http: 80, acme: true };
  speed = Number(process.env.FAKE_SPEED ?? 1);
  kinds = kinds;
  clouds = [
    { name: 'local', driver: 'lxc', default: true, ready: true, instances: 0 },
    { name: 'shelf', driver: 'nodes', default: false, ready: true, instances: 0 },
    { name: 'campus', driver: 'openstack', default: false, ready: false, problem: 'The credentials were refused. Renew them in /etc/nutshell/nutshell.yaml, key clouds[2].options.', instances: 0 },
  ];
  users = [
    { id: 1, name: 'admin', email: 'admin@example.org', first_name: 'Ada', last_name: 'Okoro', affiliation: 'Operations', admin: true, credit: 1240, created: ago(60 * 24 * 90), second_factor: false },
    { id: 2, name: 'maria', email: 'maria@example.org', first_name: 'Maria', last_name: 'Lind', affiliation: 'Institute of Botany', admin: false, credit: 310, created: ago(60 * 24 * 12), second_factor: false },
    { id: 3, name: 'jonas', email: 'jonas@example.org', first_name: 'Jonas', last_name: 'Weber', affiliation: '', admin: false, credit: 0, created: ago(60 * 24 * 3), second_factor: false },
  ];

  constructor(scenario) {
    if (scenario === 'empty') {
      this.edge = { on: false, domain: '', https: 0, http: 0, acme: false, fallback: 'Set edge.domain and edge.https in /etc/nutshell/nutshell.yaml, or begin with: nutshell up --edge-domain apps.example.org' };
      return;
    }
    this.seed();
    if (scenario === 'odd') seedOdd(this);
    if (scenario === 'hostile') poison(this);
    if (scenario === 'many') this.addService(this.addApplication('farm', 'RUNNING', 200), 'generic', 'render', 'RUNNING', 190, { node: 800 });
    if (scenario === 'many') for (let i = 0; i < 200; i++) this.addApplication(`load-${String(i).padStart(3, '0')}`, i % 9 ? 'RUNNING' : 'STOPPED', 30 + i, 1);
    setInterval(() => this.drift(), 2000).unref();
  }

  emit(type, application, service, object, data) {
    const e = { id: this.first + this.events.length, time: iso(), type, application, service, object: String(object), data };
    this.events.push(e);
    for (const l of this.listeners) l(e);
  }

  // ---- things ----------------------------------------------------------------

  addApplication(name, state = 'INIT', minutes = 0, services = 0) {
    const id = this.applications.size + 1;
    const a = { id, name, owner: 'admin', access: 'owner', state, desired: state === 'RUNNING' ? 'started' : 'stopped', cloud: 'local', reason: state === 'RUNNING' ? 'its manager answers' : '', created: ago(minutes + 1) };
    this.applications.set(id, a);
    this.history(id, 0, 'INIT', 'created', minutes + 1);
    if (state === 'RUNNING') {
      a.manager = this.addInstance(a, null, [], minutes);
      this.history(id, 0, 'PROLOGUE', 'started by admin', minutes + 0.1);
      this.history(id, 0, 'RUNNING', 'its manager answers', minutes);
    }
    for (let i = 0; i < services; i++) this.addService(a, 'helloworld', `hello${i + 1}`, state === 'RUNNING' ? 'RUNNING' : 'INIT', minutes);
    return a;
  }

  addService(a, kind, name, state = 'INIT', minutes = 0, parts = {}) {
    const k = this.kinds.find((x) => x.name === kind);
    const id = [...this.services.values()].filter((s) => s.application === a.id).reduce((m, s) => Math.max(m, s.id), 0) + 1;
    const s = {
      id, application: a.id, name, kind, state, desired: state === 'RUNNING' ? 'started' : 'stopped', reason: state === 'RUNNING' ? 'everything answers' : '', cloud: 'local',
      parts: { ...Object.fromEntries(k.parts.map((p) => [p.name, p.default])), ...parts },
      auto_deploy: true, keep_versions: 0, bind: ['*'], revision: 1,
      settings: Object.fromEntries(k.settings.map((x) => [x.name, x.default])), urls: [], created: ago(minutes + 1), since: ago(minutes),
    };
    this.services.set(`${a.id}/${id}`, s);
    this.history(a.id, id, 'INIT', 'created', minutes + 1);
    if (k.code.accepts) {
      s.version = 'code-default';
      this.versions.set(`${a.id}/${id}`, [this.version('code-default', 'default.tar.gz', 'The welcome page that comes with the kind', 2_140, minutes + 1, 'admin')]);
    }
    if (state === 'RUNNING') {
      this.place(s, k).forEach((p) => this.addInstance(a, s, p, minutes));
      this.settle(s);
      this.history(a.id, id, 'PROLOGUE', 'started by admin', minutes + 0.05);
      this.history(a.id, id, 'RUNNING', 'everything answers', minutes);
    }
    return s;
  }

  version(id, filename, description, size, minutes, by) {
    return { id, filename, description, format: filename.replace(/^[^.]+\./, ''), strip: '', bytes: size, sha256: hex(32), files: 3 + Math.round(size / 9000), by, created: ago(minutes), current: false };
  }

  place(s, k) {
    const sets = [[]];
    for (const p of k.parts) {
      if (k.name === 'php' && s.parts[p.name] === 1) sets[0].push(p.name);
      else for (let i = 0; i < s.parts[p.name]; i++) if (k.name !== 'php' && i === 0 && sets[0].length === 0) sets[0].push(p.name); else sets.push([p.name]);
    }
    return sets.filter((x) => x.length);
  }

  addInstance(a, s, parts, minutes = 0, state = 'ready') {
    const id = `a${a.id}-${s ? `s${s.id}` : 'm'}-${hex(3)}`;
    const i = { id, application: a.id, service: s?.id ?? 0, cloud: 'local', address: state === 'ready' ? this.address(a) : '', parts, state, created: ago(minutes) };
    if (state === 'ready') i.figures = this.figures(s ? 512 : 256, s ? 0.4 : 0.2);
    this.instances.set(id, i);
    return i;
  }

  address(a) {
    return `10.204.${a.id}.${9 + this.instances.size}`;
  }

  figures(limit, share) {
    const limitBytes = limit * 1024 * 1024;
    return { at: iso(), cpu_percent: share * 60 * Math.random(), memory_bytes: Math.round(limitBytes * (share * 0.7 + Math.random() * 0.2)), memory_limit: limitBytes, disk_bytes: Math.round((20 + Math.random() * 160) * 1e6), processes: 3 + Math.round(Math.random() * 9) };
  }

  drift() {
    for (const i of this.instances.values()) {
      if (!i.figures) continue;
      const f = i.figures;
      const walk = (v, by, low, high) => Math.min(high, Math.max(low, v + (Math.random() - 0.5) * by));
      i.figures = { ...f, at: iso(), cpu_percent: walk(f.cpu_percent, 22, 0.4, 96), memory_bytes: Math.round(walk(f.memory_bytes, f.memory_limit * 0.03, f.memory_limit * 0.1, f.memory_limit * 0.93)) };
    }
    for (const c of this.clouds) c.instances = [...this.instances.values()].filter((i) => i.cloud === c.name).length;
  }

  history(application, service, state, reason, minutes = 0) {
    const key = `${application}/${service}`;
    const h = this.histories.get(key) ?? [];
    h.unshift({ time: ago(minutes), state, reason });
    this.histories.set(key, h);
  }

  volume(s, i, name, bytes, used, minutes, more = {}) {
    const v = { id: `v-${hex(4)}`, application: s.application, service: s.id, name, cloud: 'local', bytes, used: Math.round(used), instance: i?.id, state: i ? 'attached' : 'free', created: ago(minutes), since: ago(minutes), snapshots: [], ...more };
    this.volumes.push(v);
    return v;
  }

  backup(s, why, minutes = 0, more = {}) {
    const b = { id: `b-${hex(4)}`, application: s.application, service: s.id, application_name: this.applications.get(s.application)?.name ?? '', service_name: s.name, kind: s.kind, why, state: 'ready', bytes: 48_100_000 + Math.round(Math.random() * 4e6), taken: ago(minutes), ...more };
    this.backups.unshift(b);
    this.emit('backup', s.application, s.id, b.id, b);
    return b;
  }

  of(s) {
    return [...this.instances.values()].filter((i) => i.application === s.application && i.service === s.id);
  }

  settle(s) {
    s.serving = s.version;
    const first = this.of(s).find((i) => i.parts.includes('proxy'));
    s.urls = first?.address ? [`http://${first.address}/`] : [];
  }

  move(thing, state, reason, isService) {
    thing.state = state;
    thing.reason = reason;
    if (isService) thing.since = iso();
    this.history(isService ? thing.application : thing.id, isService ? thing.id : 0, state, reason);
    this.tell(thing, isService);
  }

  tell(thing, isService) {
    if (isService) this.emit('service', thing.application, thing.id, thing.id, { ...thing });
    else this.emit('application', thing.id, 0, thing.id, { ...thing });
  }

  audit(action, object, result = 'ok', actor = 'admin') {
    this.audits.unshift({ id: this.audits.length + 1, time: iso(), actor, from: '192.168.56.1', action, object, result });
  }

  // ---- operations ------------------------------------------------------------

  operate(kind, title, application, service, steps, work, request = {}) {
    const thing = (service ? this.services.get(`${application}/${service}`) : this.applications.get(application)) ?? {}; // {}: of the installation
    const o = { id: `op-${hex(5)}`, kind, title, actor: 'admin', application, service, state: 'running', steps: steps.map((s) => ({ name: s[0], state: 'pending' })), progress: 0, request, cancellable: true, created: iso(), started: iso(), deadline: iso(Date.now() + 600_000), expected_ms: Math.round(steps.reduce((n, s) => n + s[1], 0) * this.speed) };
    this.operations.set(o.id, o);
    thing.operation = o.id;
    if (application) this.tell(thing, !!service);
    void this.drive(o, thing, steps, work);
    return o;
  }

  async drive(o, thing, steps, work) {
    const tell = () => this.emit('operation', o.application, o.service, o.id, structuredClone(o));
    tell();
    for (const [i, [, ms, detail]] of steps.entries()) {
      Object.assign(o.steps[i], { state: 'running', started: iso(), detail });
      const ticks = Math.max(1, Math.round((ms * this.speed) / 250));
      for (let t = 0; t < ticks; t++) {
        o.progress = (i + t / ticks) / steps.length;
        tell();
        await sleep(Math.min(250, ms * this.speed));
      }
      if (o.cancelling) {
        Object.assign(o.steps[i], { state: 'cancelled', ended: iso() });
        return this.finish(o, thing, 'cancelled', { undone: 'Everything was put back as it was.' }, tell);
      }
      const failure = work.at?.[i]?.();
      if (failure) {
        Object.assign(o.steps[i], { state: 'failed', ended: iso() });
        return this.finish(o, thing, 'failed', { error: failure, undone: 'The former settings serve again.' }, tell, work.failed);
      }
      Object.assign(o.steps[i], { state: 'done', ended: iso() });
    }
    o.progress = 1;
    this.finish(o, thing, 'done', {}, tell, work.done);
  }

  finish(o, thing, state, more, tell, done) {
    Object.assign(o, { state, ended: iso(), cancellable: false, ...more });
    delete thing.operation;
    if (done) done();
    else if (o.service) this.move(thing, state === 'cancelled' ? 'STOPPED' : 'ERROR', more.error?.message ?? 'cancelled', true);
    tell();
    this.audit(o.kind, o.title, state === 'done' ? 'ok' : state);
  }

  past(kind, title, application, service, minutes, seconds, steps, more = {}) {
    const start = Date.now() - minutes * 60_000;
    const each = (seconds * 1000) / steps.length;
    const o = {
      id: `op-${hex(5)}`, kind, title, actor: 'admin', application, service, state: 'done', progress: 1, cancellable: false, created: iso(start), started: iso(start), ended: iso(start + seconds * 1000), deadline: iso(start + 600_000),
      steps: steps.map((name, i) => ({ name, state: 'done', started: iso(start + i * each), ended: iso(start + (i + 1) * each) })), ...more,
    };
    if (o.state === 'failed') Object.assign(o.steps.at(-1), { state: 'failed' });
    o.expected_ms = Math.round(seconds * 1100);
    this.operations.set(o.id, o);
    this.audits.push({ id: 1000 - this.audits.length, time: o.created, actor: 'admin', from: '192.168.56.1', action: kind, object: title.replace(/^\w+ /, ''), result: o.state === 'done' ? 'ok' : o.error?.code ?? o.state });
    return o;
  }

  // ---- the data to look at ---------------------------------------------------

  seed() {
    const shop = this.addApplication('shop', 'RUNNING', 60 * 26);
    const php = this.addService(shop, 'php', 'php', 'RUNNING', 60 * 25, { backend: 3 });
    this.addService(shop, 'generic', 'importer', 'RUNNING', 60 * 4, { node: 2 });
    this.addService(shop, 'helloworld', 'canary', 'STOPPED', 60 * 2);
    this.versions.get(`${shop.id}/${php.id}`).unshift(
      this.version('code-8f2c1d', 'shop-2.4.1.tar.gz', 'Checkout: mend rounding of VAT', 3_482_113, 38, 'admin'),
      this.version('git-e41b0c7', 'php-e41b0c7.tar', 'Show stock on the product page', 3_480_110, 60 * 7, 'maria'),
      this.version('code-51ae77', 'shop-2.4.0.tar.gz', 'New checkout', 3_479_020, 60 * 25, 'maria'),
      this.version('code-0c93be', 'shop-2.3.7.zip', '', 3_204_551, 60 * 24 * 6, 'admin'),
    );
    php.version = 'code-8f2c1d';
    php.keep_versions = 20;
    this.variables.set(`${shop.id}/${php.id}`, [{ name: 'APP_ENV', value: 'production' }, { name: 'DATABASE_URL', value: 'secret', secret: true }, { name: 'MAIL_FROM', value: 'shop@example.org' }, { name: 'STRIPE_KEY', value: 'secret', secret: true }]);
    this.sites.set(`${shop.id}/${php.id}`, [
      { name: 'shop.apps.example.org', automatic: true, certificate: 'own', expires: iso(Date.now() + 300 * 864e5), url: 'https://shop.apps.example.org/' },
      { name: 'www.walnuts.example', automatic: false, certificate: 'acme', expires: iso(Date.now() + 61 * 864e5), url: 'https://www.walnuts.example/' },
      { name: 'old.walnuts.example', automatic: false, certificate: 'file', expires: iso(Date.now() + 5 * 864e5), url: 'https://old.walnuts.example/', problem: 'The certificate from a file ends in 5 days. Give a new one, or choose ACME.' },
    ]);
    this.sshKeys.push({ id: 'k1', name: 'ada@thinkpad', type: 'ssh-ed25519', fingerprint: 'SHA256:2nVHsFJGDyZ8H6m3Y0hCv0Qm9vVt1m2zqkqEwz3zq7E', created: ago(60 * 24 * 40), used: ago(60 * 7) }, { id: 'k2', name: 'build server', type: 'ecdsa-sha2-nistp256', fingerprint: 'SHA256:Zk8H6m3Y0hCv0Qm9vVt1m2zqkqEwz3zq7E2nVHsFJGD', created: ago(60 * 24 * 9) });
    this.settle(php);
    seedData(this, shop);
    seedPeople(this);
    seedNodes(this);
    const wiki = this.addApplication('wiki', 'RUNNING', 60 * 24 * 9);
    this.addService(wiki, 'php', 'dokuwiki', 'RUNNING', 60 * 24 * 9);
    const lab = this.addApplication('protein folding', 'RUNNING', 190);
    const gen = this.addService(lab, 'generic', 'simulation', 'ERROR', 12, { node: 3 });
    gen.desired = 'started';
    gen.reason = 'init.sh ended with status 1 on 1 of 4 instances';
    this.addApplication('blog', 'STOPPED', 60 * 24 * 20, 1);
    const steps = ['Check credit', 'Start instances', 'Join', 'Apply configuration', 'Check health'];
    this.past('service.scale', 'Scale shop/php: backend +2', shop.id, php.id, 9, 3.4, steps);
    this.past('service.activate', 'Activate code-8f2c1d on shop/php', shop.id, php.id, 36, 2.1, ['Unpack on 4 instances', 'Check health of the new version', 'Switch the proxy', 'Drain the old version']);
    this.past('service.start', 'Start protein folding/simulation', lab.id, gen.id, 12, 8.2, ['Start instances', 'Join', 'Run init.sh'], {
      state: 'failed', progress: 0.66, undone: 'The instances were kept for a look; nothing else was changed.',
      error: { code: 'unavailable', op: 'start', object: 'service protein folding/simulation', message: 'init.sh ended with status 1 on 1 of 4 instances', hint: 'read the log agent.err of the instance below, upload a corrected version, then retry', log_tail: ['+ ./configure --with-gromacs', 'checking for fftw3… no', 'configure: error: cannot find FFTW 3, which is needed for PME', 'init.sh: line 14: exit status 1'] },
    });
    const whole = this.past('application.deploy', 'Deploy shop', shop.id, 0, 60 * 25, 21, ['Make the services', 'Start them in order'], { progress: 1 });
    this.past('service.start', 'Start shop/php', shop.id, php.id, 60 * 25, 12, steps, { parent: whole.id });
    this.past('service.start', 'Start shop/importer', shop.id, 2, 60 * 24.9, 8, steps, { parent: whole.id });
    this.past('application.start', 'Start wiki', wiki.id, 0, 60 * 24 * 9, 0.9, ['Launch the manager', 'Wait for its report']);
    this.past('service.configure', 'Change settings of shop/php', shop.id, php.id, 60 * 3, 1.6, ['Write configuration', 'Reload php-fpm', 'Check health']);
    this.addInstance(lab, gen, ['master'], 12);
    this.addInstance(lab, gen, ['node'], 12);
    const lost = this.addInstance(lab, gen, ['node'], 12);
    Object.assign(lost, { state: 'lost', reason: 'no answer for 14 s', figures: undefined });
    this.addInstance(lab, gen, ['node'], 12);
    for (const a of this.applications.values()) this.history(a.id, 0, a.state, a.reason || 'as asked', 5);
    this.tokens.push({ id: 't1', name: 'deploy from the build server', scope: 'write', created: ago(60 * 24 * 20), expires: iso(Date.now() + 70 * 864e5), used: ago(38) });
  }
}
