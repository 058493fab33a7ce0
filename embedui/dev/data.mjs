// What services keep, offer and cost, for the development director: volumes,
// secrets, bindings, databases, streams, backups, manifests and credits.
import { randomBytes } from 'node:crypto';

const iso = (ms = Date.now()) => new Date(ms).toISOString();
const key = (s) => `${s.application}/${s.id}`;
const GB = 2 ** 30;
const secretText = () => randomBytes(18).toString('base64url').replaceAll(/[-_]/g, 'x');

/** seedData fills the first application with a database and its past. */
export function seedData(world, shop) {
  const db = world.addService(shop, 'mysql', 'db', 'RUNNING', 60 * 25, { mysql: 2, glb: 1 });
  db.bind = ['*'];
  for (const i of world.of(db)) if (i.parts.includes('mysql')) world.volume(db, i, 'data', 4 * GB, (1.1 + Math.random()) * GB, 60 * 25, { part: 'mysql' });
  world.volume(db, null, 'data', 4 * GB, 1.9 * GB, 60 * 40, { part: 'mysql', instance: 'a1-s4-0c44d1' });
  const importer = [...world.services.values()].find((s) => s.name === 'importer');
  const [first] = world.of(importer);
  const scratch = world.volume(importer, first, 'scratch', 2 * GB, 1.93 * GB, 60 * 4);
  scratch.snapshots.push({ name: 'before-import', bytes: 21_000_000, created: iso(Date.now() - 3 * 36e5) });
  world.volume(importer, null, 'archive', 10 * GB, 3.4 * GB, 60 * 24 * 3, { instance: 'a1-s2-77ab10' });
  world.databases.set(key(db), { databases: [{ name: 'app', tables: 14, bytes: 1_180_000_000 }, { name: 'stats', tables: 3, bytes: 24_117_248 }], users: [{ name: 'mysqldb', host: '%', databases: [] }, { name: 'reports', host: '%', databases: ['stats'] }] });
  const day = 60 * 24;
  world.backup(db, 'scheduled', day * 3, { verified: iso(Date.now() - 3 * 864e5), finding: '17 tables in 2 databases are whole', until: iso(Date.now() - 2 * 864e5) });
  world.backup(db, 'scheduled', day * 2, { state: 'error', problem: 'the disk of the director was full; nothing of it was kept', bytes: 0 });
  world.backup(db, 'asked', day + 40);
  world.backup(db, 'scheduled', 260, { until: iso(Date.now() - 40_000) });
  world.backup({ application: 99, id: 1, kind: 'mysql', name: 'db' }, 'last', day * 12, { application_name: 'intranet', service_name: 'db', bytes: 310_000_000 });
  world.quotas.set(1, { applications: 20, instances: 60, volume_bytes: 100 * GB });
  const entries = [];
  let balance = 0;
  const put = (hours, amount, kind, reason, more = {}) => entries.push({ id: entries.length + 1, time: iso(Date.now() - hours * 36e5), amount, balance: (balance += amount), kind, reason, actor: kind === 'grant' ? 'admin' : '', ...more });
  put(120, 2000, 'grant', 'for the autumn term');
  for (let h = 100; h > 26; h -= 4) put(h, -16, 'charge', '4 hours of 4 instances', { application: 2, service: 1 });
  put(25.1, -3, 'hold', 'start db', { application: shop.id, service: db.id });
  put(25, 3, 'refund', 'started', { application: shop.id, service: db.id });
  for (let h = 25; h >= 1; h--) put(h, -19, 'charge', 'one hour of 19 instances', { application: shop.id });
  world.ledgers.set(1, entries);
  world.users[0].credit = balance;
}

const values = (x, s) => {
  const node = x.world.of(s).find((i) => i.parts.includes('glb')) ?? x.world.of(s)[0];
  if (s.kind === 'mysql' && s.state === 'RUNNING') return { host: node?.address ?? '', port: '3306', user: 'mysqldb', password: '', database: s.settings.database, url: '' };
  return s.kind === 'php' && s.urls[0] ? { url: s.urls[0] } : {};
};

/** sql answers the actions of a database. */
export function sql(x, s, all) {
  const kept = x.world.databases.get(key(s)) ?? { databases: [{ name: 'app', tables: 0, bytes: 0 }], users: [{ name: 'mysqldb', host: '%', databases: [] }] };
  x.world.databases.set(key(s), kept);
  const { name = '', database = '', password = '' } = x.json().args ?? {};
  switch (x.groups[2]) {
    case 'list_databases': return { json: { text: kept.databases.map((d) => d.name).join('\n'), result: kept.databases } };
    case 'list_users': return { json: { text: kept.users.map((u) => u.name).join('\n'), result: kept.users } };
    case 'create_database':
      if (kept.databases.some((d) => d.name === name)) return x.problem(409, 'conflict', 'there is such a database already', { op: 'create', object: 'database ' + name, fields: ['name'] });
      kept.databases.push({ name, tables: 0, bytes: 0 });
      return { json: { text: `database ${name} is there` } };
    case 'delete_database': kept.databases = kept.databases.filter((d) => d.name !== name); return { json: { text: `database ${name} is gone` } };
    case 'create_user':
      kept.users.push({ name, host: '%', databases: database ? [database] : [] });
      return { json: { text: password ? `user ${name} is there` : `user ${name} is there\npassword: ${secretText()}` } };
    case 'delete_user': kept.users = kept.users.filter((u) => u.name !== name); return { json: { text: `user ${name} is gone` } };
    case 'set_user_password': return { json: { text: password ? 'the password was changed' : `password: ${secretText()}` } };
    case 'connect': return { json: { text: `mysql -h ${values(x, s).host} -P 3306 -u mysqldb -p ${s.settings.database}\n\nIt asks for the password. With --ssl-ca=ca.pem it checks whom it talks to: get_ca gives that file.` } };
    case 'status': {
      const t = Date.now() / 1000;
      const nodes = all.filter((i) => i.parts.includes('mysql')).map((i, n) => ({ node: i.id, role: n === 0 ? 'writer' : 'reader', state: 'Synced', synced: true, queries: 130 + 40 * Math.sin(t / 9 + n), selects: Math.round(t * 90 + 300 * Math.sin(t / 9)), inserts: n ? 0 : Math.round(t * 14 + 60 * Math.sin(t / 13)), updates: n ? 0 : Math.round(t * 9 + 40 * Math.sin(t / 7)), deletes: n ? 0 : Math.round(t * 2), connections: n ? 4 : 21, queue: n ? 0.9 + 0.3 * Math.sin(t / 11) : 0.01, paused: n ? 0 : 0.02, data_bytes: 1.4 * GB, disk_bytes: 4 * GB, hit_ratio: 0.997 }));
      return { json: { text: nodes.map((n) => n.node).join('\n'), result: { nodes } } };
    }
    case 'get_ca': return { json: { text: '-----BEGIN CERTIFICATE-----\nMIIBfake\n-----END CERTIFICATE-----' } };
    default: return null;
  }
}

const schema = {
  title: 'Nutshell manifest', type: 'object', required: ['Services'], additionalProperties: false,
  properties: {
    Application: { type: 'string', description: 'name of the application; where it is taken, a number is added' }, Description: { type: 'string', description: 'what it is, for people' }, Cloud: { type: 'string', description: 'cloud of the application’s manager' },
    Services: { type: 'array', description: 'the services, in any order', items: { type: 'object', required: ['Type'], properties: {
      Type: { type: 'string', enum: ['generic', 'helloworld', 'mysql', 'php'], description: 'kind of the service' }, ServiceName: { type: 'string', description: 'name of the service, once in a manifest' }, Start: { enum: [0, 1, false, true], description: '0: it is made but not started' },
      StartupInstances: { type: 'object', additionalProperties: { type: 'integer' }, description: 'how many instances hold each role' }, Archive: { type: 'string', description: 'code: a URL, a file beside the manifest, or debian:PACKAGE' }, Dump: { type: 'string', description: 'SQL that is loaded when the service runs' }, Password: { type: 'string', description: 'password of the service’s own user' },
      Settings: { type: 'object', description: 'settings of the kind' }, Environment: { type: 'object', description: 'environment variables' }, Bind: { type: 'array', items: { type: 'string' }, description: 'names of the services whose offers it gets' },
    }, allOf: [
      { if: { properties: { Type: { const: 'mysql' } }, required: ['Type'] }, then: { properties: { StartupInstances: { properties: { mysql: { type: 'integer' }, glb: { type: 'integer' } } }, Settings: { properties: { volume_size: { type: 'string', description: 'of each node’s data' }, routing: { enum: ['single_writer', 'read_write_split', 'spread'] } } } } } },
      { if: { properties: { Type: { const: 'php' } }, required: ['Type'] }, then: { properties: { StartupInstances: { properties: { proxy: { type: 'integer' }, web: { type: 'integer' }, backend: { type: 'integer' } } }, Settings: { properties: { memory_limit: { type: 'string' } } } } } },
    ] } },
  },
};
const templates = [
  { name: 'wordpress', title: 'WordPress', summary: 'a blog with its database, from Debian’s package', kinds: ['mysql', 'php'], credits: 3, manifest: 'Application: wordpress\nDescription: WordPress\nServices:\n  - Type: mysql\n    ServiceName: db\n    Settings:\n      database: wordpress\n  - Type: php\n    ServiceName: site\n    Archive: debian:wordpress\n' },
  { name: 'mediawiki', title: 'MediaWiki', summary: 'a wiki with its database, from Debian’s package', kinds: ['mysql', 'php'], credits: 3, manifest: 'Application: mediawiki\nServices:\n  - Type: mysql\n  - Type: php\n    Archive: debian:mediawiki\n' },
  { name: 'sudoku', title: 'Sudoku', summary: 'a small game on one PHP instance', kinds: ['php'], credits: 2, manifest: 'Application: sudoku\nServices:\n  - Type: php\n', problem: 'this machine has no apt to fetch the package with' },
];

function readManifest(x) {
  const text = x.body.toString();
  const lines = text.split('\n');
  const known = Object.keys(schema.properties.Services.items.properties).concat(Object.keys(schema.properties));
  for (const [n, l] of lines.entries()) {
    const field = /^( {4}|  - |)([A-Z]\w*):/.exec(l)?.[2];
    if (field && !known.includes(field)) return { wrong: x.problem(422, 'invalid', `a service has no field ${field}`, { op: 'read', object: `line ${n + 1}: ${field}`, hint: 'perhaps Archive is meant', fields: [field] }) };
  }
  if (!/^Services:/m.test(text)) return { wrong: x.problem(422, 'invalid', 'a manifest is a set of fields, such as Application and Services', { object: 'line 1', hint: 'begin with Services:' }) };
  const all = [...text.matchAll(/^ *- Type: *(\w+)((?:\n {4}.*)*)/gm)].map(([, kind, rest]) => ({ kind, name: /ServiceName: *(\S+)/.exec(rest)?.[1] ?? kind, archive: /Archive: *(\S+)/.exec(rest)?.[1], counts: Object.fromEntries([...(/StartupInstances: *\{([^}]*)\}/.exec(rest)?.[1] ?? '').matchAll(/"?(\w+)"?: *(\d+)/g)].map(([, p, n]) => [p, Number(n)])) }));
  for (const s of all) if (!x.world.kinds.some((k) => k.name === s.kind)) return { wrong: x.problem(422, 'invalid', `there is no kind ${s.kind}`, { object: `line ${lines.findIndex((l) => l.includes(s.kind)) + 1}: Type`, hint: 'one of: generic, helloworld, mysql, php' }) };
  return { application: /^Application: *(.+)$/m.exec(text)?.[1] ?? 'application', all };
}

/** data adds the routes. */
export function data(on, { withApp, withService, busy }) {
  const S = '/applications/{app}/services/{service}';
  const changed = (x, type, thing) => x.world.emit(type, thing.application, thing.service, thing.id, thing);

  // ---- volumes --------------------------------------------------------------
  on('GET /applications/{app}/volumes', withApp((x, a) => ({ json: x.world.volumes.filter((v) => v.application === a.id) })));
  on(`GET ${S}/volumes`, withService((x, s) => ({ json: x.world.volumes.filter((v) => v.application === s.application && v.service === s.id) })));
  const order = (x, s, kind, title, done) => busy(x, s) || { status: 202, json: x.world.operate(kind, title, s.application, s.id, [['Ask the cloud', 500], ['Tell the instance', 400]], { done }) };
  const volume = (f) => withService((x, s) => {
    const v = x.world.volumes.find((v) => v.application === s.application && v.service === s.id && (v.id === x.groups[2] || v.name === x.groups[2]));
    return v ? f(x, s, v) : x.problem(404, 'not_found', 'There is no such volume.');
  });
  on(`POST ${S}/volumes`, withService((x, s) => {
    const b = x.json();
    if (x.world.volumes.some((v) => v.application === s.application && v.name === b.name)) return x.problem(409, 'conflict', `the application has a volume ${b.name} already`, { fields: ['name'], hint: 'choose another name' });
    if (b.bytes > 200 * GB) return x.problem(422, 'invalid', 'the disk has room for 61.2 GB', { fields: ['bytes'], hint: 'ask for less, or add a disk' });
    return order(x, s, 'service.volume', `Create volume ${b.name}`, () => changed(x, 'volume', x.world.volume(s, x.world.instances.get(b.instance), b.name, b.bytes, 0, 0)));
  }));
  on(`PATCH ${S}/volumes/{volume}`, volume((x, s, v) => order(x, s, 'service.volume', `Grow volume ${v.name}`, () => changed(x, 'volume', Object.assign(v, { bytes: x.json().bytes })))));
  on(`DELETE ${S}/volumes/{volume}`, volume((x, s, v) => order(x, s, 'service.volume', `Delete volume ${v.name}`, () => { x.world.volumes = x.world.volumes.filter((o) => o !== v); x.world.emit('volume.deleted', v.application, v.service, v.id, null); })));
  on(`POST ${S}/volumes/{volume}/attach`, volume((x, s, v) => order(x, s, 'service.volume', `Attach volume ${v.name}`, () => changed(x, 'volume', Object.assign(v, { state: 'attached', instance: x.json().instance })))));
  on(`POST ${S}/volumes/{volume}/detach`, volume((x, s, v) => order(x, s, 'service.volume', `Detach volume ${v.name}`, () => changed(x, 'volume', Object.assign(v, { state: 'free' })))));
  on(`POST ${S}/volumes/{volume}/snapshots`, volume((x, s, v) => order(x, s, 'service.volume', `Snapshot of ${v.name}`, () => { v.snapshots.push({ name: x.json().name || iso().slice(0, 19), bytes: 0, created: iso() }); changed(x, 'volume', v); })));
  on(`DELETE ${S}/volumes/{volume}/snapshots/{snapshot}`, volume((x, s, v) => order(x, s, 'service.volume', 'Delete a snapshot', () => { v.snapshots = v.snapshots.filter((t) => t.name !== x.groups[3]); changed(x, 'volume', v); })));
  on(`POST ${S}/volumes/{volume}/snapshots/{snapshot}/restore`, volume((x, s, v) => order(x, s, 'service.volume', `Put ${v.name} back`, () => changed(x, 'volume', v))));

  // ---- secrets and bindings -------------------------------------------------
  const secrets = (x, s) => (x.world.kinds.find((k) => k.name === s.kind).secrets ?? []).map((t) => ({ ...t, ...(x.world.shownSecrets.get(key(s) + t.name) ?? { shown: false }) }));
  on(`GET ${S}/secrets`, withService((x, s) => ({ json: secrets(x, s) })));
  on(`PUT ${S}/secrets/{secret}`, withService((x, s) => {
    const { value } = x.json();
    if (value !== undefined && value.length < 8) return x.problem(422, 'invalid', 'the password is too short', { fields: ['value'], hint: 'use 8 characters or more' });
    const set = () => x.world.shownSecrets.set(key(s) + x.groups[2], { shown: value !== undefined, changed: iso() });
    if (s.state !== 'RUNNING') return (set(), { json: s });
    return busy(x, s) || { status: 202, json: x.world.operate('service.secret', `Change ${x.groups[2]} of ${s.name}`, s.application, s.id, [['Tell the nodes', 500], ['Tell siblings', 400]], { done: () => { set(); x.world.move(s, 'RUNNING', 'everything answers', true); } }) };
  }));
  on(`POST ${S}/secrets/{secret}/show`, withService((x, s) => {
    const k = key(s) + x.groups[2];
    if (x.world.shownSecrets.get(k)?.shown) return x.problem(409, 'conflict', 'it was shown already', { hint: 'set another' });
    x.world.shownSecrets.set(k, { ...x.world.shownSecrets.get(k), shown: true });
    return { json: { value: secretText() } };
  }));
  on(`GET ${S}/bindings`, withService((x, s) => {
    const others = [...x.world.services.values()].filter((o) => o.application === s.application && o.id !== s.id && (!s.bind || s.bind.includes('*') || s.bind.includes(o.name)));
    const gets = others.map((o) => ({ service: o.name, kind: o.kind, values: values(x, o) })).filter((b) => Object.keys(b.values).length);
    const variables = gets.flatMap((b) => Object.entries(b.values).map(([n, v]) => ({ name: `${b.service}_${n}`.toUpperCase(), value: v, ...(v ? {} : { secret: true }) }))).concat(gets.some((b) => b.kind === 'mysql') ? [{ name: 'MYSQL_IP', value: gets.find((b) => b.kind === 'mysql').values.host }] : []);
    return { json: { offers: { service: s.name, kind: s.kind, values: values(x, s) }, gets, variables } };
  }));

  // ---- streams --------------------------------------------------------------
  on(`POST ${S}/streams/{action}`, withService((x, s) => {
    const text = x.body.subarray(0, 4096).toString();
    if (!/^\s*(--|CREATE|INSERT|DROP|SET|USE|\/\*)/i.test(text)) return x.problem(422, 'invalid', 'this is no SQL dump', { op: 'load', object: `service ${s.name}`, hint: 'choose a file that mysqldump made, as it is or packed with gzip or zstd' });
    const bad = x.body.toString('latin1').split('\n').findIndex((l) => /SYNTAX ERROR/.test(l));
    if (bad >= 0) return x.problem(422, 'invalid', "You have an error in your SQL syntax near 'SYNTAX ERROR' at line 1 (error 1064)", { op: 'load dump', object: `line ${bad + 1}`, hint: 'mend the line and load the dump again; what stands before it is loaded' });
    return { json: { text: `${x.body.toString('latin1').split(';').length - 1} statements were run` } };
  }));
  on(`GET ${S}/streams/{action}`, withService((x) => ({ text: '-- a dump\nCREATE TABLE t (a int);\n', headers: { 'Content-Type': 'application/sql', 'Content-Disposition': 'attachment; filename="dump.sql"' } })));

  // ---- backups --------------------------------------------------------------
  const backup = (f) => (x) => {
    const b = x.world.backups.find((b) => b.id === x.groups[0]);
    return b ? f(x, b) : x.problem(404, 'not_found', 'There is no such backup.');
  };
  on('GET /backups', (x) => ({ json: x.world.backups }));
  on('DELETE /backups/{id}', backup((x, b) => { x.world.backups = x.world.backups.filter((o) => o !== b); x.world.emit('backup.deleted', b.application, b.service, b.id, null); return { status: 204 }; }));
  on('POST /backups/{id}/verify', backup((x, b) => ({ status: 202, json: x.world.operate('service.verify', 'Try a backup', b.application, b.service, [['Unpack', 500], ['Check tables', 700]], { done: () => changed(x, 'backup', Object.assign(b, { verified: iso(), finding: '17 tables in 2 databases are whole' })) }) })));
  on(`GET ${S}/backups`, withService((x, s) => ({ json: x.world.backups.filter((b) => b.application === s.application && b.service === s.id) })));
  on(`POST ${S}/backups`, withService((x, s) => busy(x, s) || ({ status: 202, json: x.world.operate('service.backup', `Back up ${s.name}`, s.application, s.id, [['Copy', 900, '31.2 of 48.1 MB'], ['Encrypt and store', 400]], { done: () => x.world.backup(s, 'asked', 0, x.json().verify ? { verified: iso(), finding: '17 tables in 2 databases are whole' } : {}) }) })));
  on(`POST ${S}/restore`, withService((x, s) => busy(x, s) || ({ status: 202, json: x.world.operate('service.restore', `Restore ${s.name}`, s.application, s.id, [['Fetch', 500], ['Put the data in place', 800], ['Repeat changes', 500], ['Check health', 400]], { done: () => x.world.move(s, 'RUNNING', 'everything answers', true) }) })));
  on('POST /applications/{app}/restore', withApp((x, a) => {
    const s = x.world.addService(a, 'mysql', x.json().new);
    x.world.tell(s, true);
    return { status: 202, json: x.world.operate('service.restore', `Restore into ${s.name}`, a.id, s.id, [['Start', 800], ['Put the data in place', 800]], { done: () => x.world.move(s, 'RUNNING', 'everything answers', true) }) };
  }));

  // ---- manifests ------------------------------------------------------------
  on('GET /manifests/schema', () => ({ json: schema }));
  on('GET /templates', () => ({ json: templates }));
  on('POST /manifests/check', (x) => {
    const m = readManifest(x);
    if (m.wrong) return m.wrong;
    const files = m.all.map((s) => s.archive).filter((f) => f && !/^(https?|debian):/.test(f));
    const services = m.all.map((s) => ({ name: s.name, kind: s.kind, started: true, parts: { ...Object.fromEntries(x.world.kinds.find((k) => k.name === s.kind).parts.map((p) => [p.name, p.default])), ...s.counts } }));
    return { json: { application: m.application, services, credits: 1 + services.reduce((n, s) => n + x.world.place(s, x.world.kinds.find((k) => k.name === s.kind)).length, 0), notes: [], missing: files } };
  });
  on('POST /manifests', (x) => {
    const tar = x.body.subarray(257, 262).toString() === 'ustar';
    const m = readManifest(tar ? { ...x, body: x.body.subarray(512, 512 + parseInt(x.body.subarray(124, 135).toString(), 8)) } : x);
    if (m.wrong) return m.wrong;
    let name = x.query.get('application') || m.application;
    for (let n = 2; [...x.world.applications.values()].some((a) => a.name === name); n++) name = `${m.application}-${n}`;
    const a = x.world.addApplication(name);
    x.world.tell(a, false);
    return { status: 202, json: x.world.operate('application.manifest', `Make ${name} of a manifest`, a.id, 0, [['Fetch what it names', 500], ['Create services', 500], ['Start the application', 700], ['Start services', 1200, 'db, site'], ['Load data', 400]], { done: () => {
      a.manager = x.world.addInstance(a, null, []);
      a.desired = 'started';
      x.world.move(a, 'RUNNING', 'its manager answers', false);
      for (const s of m.all) x.world.tell(x.world.addService(a, s.kind, s.name, 'RUNNING'), true);
    } }) };
  });
  on('GET /applications/{app}/manifest', withApp((x, a) => ({ text: `Application: ${a.name}\nServices: []\n`, headers: { 'Content-Disposition': `attachment; filename="${a.name}.yaml"` } })));

  // ---- credits --------------------------------------------------------------
  const user = (f) => (x) => {
    const u = x.world.users.find((v) => v.name === x.groups[0] || String(v.id) === x.groups[0]);
    return u ? f(x, u) : x.problem(404, 'not_found', 'There is no such user.');
  };
  const account = (x, u) => {
    const mine = u.id === 1;
    const per = mine ? x.world.instances.size : 0;
    return { user: u.name, credit: u.credit, held: mine ? 2 : 0, per_hour: per, ...(per ? { exhausted: iso(Date.now() + (u.credit / per) * 36e5) } : {}), enforced: !u.admin || !!process.env.FAKE_ENFORCED, quota: x.world.quotas.get(u.id) ?? { applications: 0, instances: 0, volume_bytes: 0 }, used: mine ? { applications: x.world.applications.size, instances: per, volume_bytes: x.world.volumes.reduce((n, v) => n + v.bytes, 0) } : { applications: 0, instances: 0, volume_bytes: 0 } };
  };
  on('GET /users/{user}/account', user((x, u) => ({ json: account(x, u) })));
  on('GET /users/{user}/ledger', user((x, u) => {
    const before = Number(x.query.get('before') ?? Infinity);
    return { json: (x.world.ledgers.get(u.id) ?? []).filter((e) => e.id < before).toReversed().slice(0, Number(x.query.get('limit') ?? 100)) };
  }));
  on('POST /users/{user}/credit', user((x, u) => {
    const { amount, reason = '' } = x.json();
    if (u.credit + amount < 0) return x.problem(422, 'invalid', `${u.name} has ${u.credit} credits`, { fields: ['amount'], hint: 'take less' });
    u.credit += amount;
    const l = x.world.ledgers.get(u.id) ?? [];
    x.world.ledgers.set(u.id, [...l, { id: (l.at(-1)?.id ?? 0) + 1, time: iso(), amount, balance: u.credit, kind: 'grant', reason, actor: x.user.name }]);
    x.world.emit('user', 0, 0, u.id, u);
    return { json: account(x, u) };
  }));
  on('PUT /users/{user}/quota', user((x, u) => {
    x.world.quotas.set(u.id, x.json());
    return { json: account(x, u) };
  }));
}
