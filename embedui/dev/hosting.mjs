// What web hosting adds to the development director: keys, the repository,
// uploads in pieces, files and differences, variables, shares, host names and
// graphs.
import { clash, note, ofVariables } from './revisions.mjs';
import { createHash, randomBytes } from 'node:crypto';

const hex = (n) => randomBytes(n).toString('hex');
const key = (s) => `${s.application}/${s.id}`;
const kept = (map, k, make) => map.get(k) ?? (map.set(k, make()), map.get(k));

/** hosting adds the routes; tools are what routes.mjs has at hand. */
export function hosting(on, { withApp, withService, busy, store, activate }) {
  const S = '/applications/{app}/services/{service}';

  // ---- keys and the repository ----------------------------------------------
  on('GET /keys', (x) => ({ json: x.world.sshKeys }));
  on('POST /keys', (x) => {
    const { text = '', name } = x.json();
    const lines = text.split('\n').map((l) => l.trim()).filter((l) => l && !l.startsWith('#'));
    if (lines.length === 0) return x.problem(422, 'invalid', 'There is no key in the text.', { fields: ['text'], hint: 'paste the one line of your file id_ed25519.pub' });
    if (/PRIVATE KEY/.test(text)) return x.problem(422, 'invalid', 'This is a private key; nothing of it was kept.', { fields: ['text'], hint: 'paste the file that ends in .pub, and keep the private one to yourself' });
    for (const l of lines) if (!/^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp\d+) [A-Za-z0-9+/=]{40,}/.test(l)) return x.problem(422, 'invalid', 'The line is no public key.', { fields: ['text'], hint: 'paste the one line of your file id_ed25519.pub; ssh-keygen -t ed25519 makes one' });
    for (const l of lines) {
      const [type, blob, ...comment] = l.split(' ');
      x.world.sshKeys.push({ id: hex(4), name: name || comment.join(' ') || 'key', type, fingerprint: 'SHA256:' + createHash('sha256').update(Buffer.from(blob, 'base64')).digest('base64').replace(/=+$/, ''), created: new Date().toISOString() });
    }
    return { status: 201, json: x.world.sshKeys };
  });
  on('DELETE /keys/{id}', (x) => {
    x.world.sshKeys = x.world.sshKeys.filter((k) => k.id !== x.groups[0]);
    return { status: 204 };
  });
  on('GET /applications/{app}/repository', withApp((x, a) => {
    const services = [...x.world.services.values()].filter((s) => s.application === a.id && x.world.versions.has(key(s)));
    const pushed = services.map((s) => x.world.versions.get(key(s)).find((v) => v.id.startsWith('git-'))).find(Boolean);
    const url = `ssh://git@192.168.56.2:2222/${a.owner}/${a.name.replaceAll(' ', '%20')}`;
    return { json: {
      clone: `git clone ${url}`, url, host_key: 'SHA256:uJ1oT8hmlPjqZ4X2W8p6JY0pG4G0JgOZJmYkHnR4x1c', branch: 'main', commit: pushed ? 'e41b0c77f0d9a5c2b8f9a1d06a5e7b0c1d2e3f40' : '', subject: pushed?.description ?? '', pushed: pushed?.created,
      bytes: pushed ? 8_412_113 : 0, branches: pushed ? ['main', 'checkout-rework'] : [],
      folders: services.map((s) => ({ service: s.id, names: [String(s.id), s.name], found: x.world.versions.get(key(s)).some((v) => v.id.startsWith('git-')) ? s.name : '', version: x.world.versions.get(key(s)).find((v) => v.id.startsWith('git-'))?.id ?? '' })),
    } };
  }));

  // ---- uploads in pieces ----------------------------------------------------
  const uploads = new Map();
  const shown = ({ id, filename, offset, bytes, expires }) => ({ id, filename, offset, bytes, expires });
  const upload = (f) => withService((x, s) => (uploads.get(x.groups[2])?.of === key(s) ? f(x, s, uploads.get(x.groups[2])) : x.problem(404, 'not_found', 'There is no such upload.', { hint: 'begin it again' })));
  on(`POST ${S}/uploads`, withService((x, s) => {
    const b = x.json();
    if (!b.bytes) return x.problem(422, 'invalid', `${b.filename} is empty.`, { fields: ['bytes'], hint: 'choose the archive again' });
    if (b.bytes > 2 ** 31) return x.problem(413, 'too_large', `${b.filename} is larger than 2 GB.`, { hint: 'leave out what the service does not need' });
    let u = [...uploads.values()].find((o) => o.of === key(s) && o.filename === b.filename && o.bytes === b.bytes && b.sha256 && o.sha256 === b.sha256);
    if (!u) uploads.set((u = { id: 'up-' + hex(5), of: key(s), filename: b.filename, bytes: b.bytes, sha256: b.sha256, offset: 0, pieces: [] }).id, u);
    Object.assign(u, { strip: !!b.strip, description: b.description ?? '', expires: new Date(Date.now() + 864e5).toISOString() });
    return { status: 201, json: shown(u) };
  }));
  on(`GET ${S}/uploads/{upload}`, upload((x, s, u) => ({ json: shown(u) })));
  on(`DELETE ${S}/uploads/{upload}`, upload((x, s, u) => (uploads.delete(u.id), { status: 204 })));
  on(`PATCH ${S}/uploads/{upload}`, upload((x, s, u) => {
    if (Number(x.query.get('offset')) !== u.offset) return x.problem(409, 'conflict', `The upload is at ${u.offset}.`, { hint: 'ask for its offset and go on from there' });
    u.pieces.push(x.body);
    u.offset += x.body.length;
    return { json: shown(u) };
  }));
  on(`POST ${S}/uploads/{upload}/finish`, upload((x, s, u) => {
    if (u.offset !== u.bytes) return x.problem(409, 'conflict', `${u.bytes - u.offset} bytes are missing.`);
    const body = Buffer.concat(u.pieces);
    if (u.sha256 && createHash('sha256').update(body).digest('hex') !== u.sha256) return x.problem(422, 'invalid', 'The bytes that arrived are not those of the file.', { hint: 'upload it again' });
    const answer = store(x, s, { filename: u.filename, description: u.description, strip: u.strip || x.query.get('strip') === 'true', body });
    if (answer.status === 201) uploads.delete(u.id);
    return answer;
  }));

  // ---- files of versions ----------------------------------------------------
  const word = (n) => ['cart', 'checkout', 'product', 'search', 'account', 'invoice', 'stock', 'mail', 'theme', 'locale'][n % 10];
  const filesOf = (v) => kept(fileLists, v.id, () => {
    const seed = parseInt(v.sha256.slice(0, 4), 16);
    const many = Array.from({ length: Math.min(20_000, 40 + Math.round(v.bytes / 400)) }, (_, n) => ({ path: `${['src', 'public/assets', 'vendor/lib', 'templates'][n % 4]}/${word(n)}/${word(n * 7 + 3)}-${n}.${['php', 'css', 'php', 'html'][n % 4]}`, bytes: 300 + ((n * 7919 + (n % 37 === seed % 37 ? seed : 0)) % 24_000), mode: '-rw-r--r--', sha256: hex(32) }));
    return [{ path: 'index.php', bytes: 812 + (seed % 90), mode: '-rw-r--r--', sha256: hex(32) }, { path: 'bin/migrate.sh', bytes: 1240, mode: '-rwxr-xr-x', sha256: hex(32) }, { path: 'current', bytes: 0, mode: 'lrwxrwxrwx', link: 'src/cart' }, ...many.slice(seed % 12)].sort((a, b) => (a.path < b.path ? -1 : 1));
  });
  const fileLists = new Map();
  const version = (x, s, id) => (x.world.versions.get(key(s)) ?? []).find((v) => v.id === id);
  on(`GET ${S}/versions/{version}/files`, withService((x, s) => {
    const v = version(x, s, x.groups[2]);
    return v ? { json: filesOf(v) } : x.problem(404, 'not_found', 'There is no such version.');
  }));
  on(`GET ${S}/versions/{version}/diff/{from}`, withService((x, s) => {
    const [to, from] = [version(x, s, x.groups[2]), version(x, s, x.groups[3])];
    if (!to || !from) return x.problem(404, 'not_found', 'There is no such version.');
    const a = new Map(filesOf(from).map((f) => [f.path, f]));
    const b = new Map(filesOf(to).map((f) => [f.path, f]));
    const files = [];
    let same = 0;
    for (const path of [...new Set([...a.keys(), ...b.keys()])].sort()) {
      const [was, is] = [a.get(path), b.get(path)];
      if (was && is && was.bytes === is.bytes) same++;
      else files.push({ path, change: !was ? 'added' : !is ? 'removed' : 'changed', before: was?.bytes ?? 0, after: is?.bytes ?? 0 });
    }
    return { json: { from: from.id, to: to.id, files, same, omitted: 0 } };
  }));
  on(`POST ${S}/rollback`, withService((x, s) => {
    const all = x.world.versions.get(key(s)) ?? [];
    const before = all[all.findIndex((v) => v.id === s.version) + 1];
    if (!before) return x.problem(409, 'conflict', 'No version served before.', { hint: 'activate one from the list' });
    return activate(x, s, before.id);
  }));

  // ---- variables ------------------------------------------------------------
  on(`GET ${S}/environment`, withService((x, s) => ({ json: x.world.variables.get(key(s))?.map((v) => (v.secret ? { ...v, value: '' } : v)) ?? [] })));
  on(`PATCH ${S}/environment`, withService((x, s) => {
    if (s.operation) return busy(x, s);
    const { set = [], unset = [] } = x.json();
    for (const v of set) if (!/^[A-Za-z_]\w*$/.test(v.name)) return x.problem(422, 'invalid', `${v.name} cannot be a variable's name.`, { fields: [v.name], hint: 'use letters, digits and _, beginning with a letter' });
    if (set.some((v) => v.name === 'PATH')) return x.problem(422, 'invalid', 'PATH belongs to the instance and cannot be changed.', { fields: ['PATH'], hint: 'choose another name' });
    const faster = clash(x, s, 'environment', [...set.map((v) => v.name), ...unset]);
    if (faster) return faster;
    const before = x.world.variables.get(key(s)) ?? [];
    const change = () => {
      const now = (x.world.variables.get(key(s)) ?? []).filter((v) => !unset.includes(v.name) && !set.some((w) => w.name === v.name));
      const was = new Set((x.world.variables.get(key(s)) ?? []).filter((v) => v.secret).map((v) => v.name));
      x.world.variables.set(key(s), [...now, ...set.map((v) => ({ ...v, ...(v.secret || was.has(v.name) ? { secret: true } : {}) }))].sort((a, b) => (a.name < b.name ? -1 : 1)));
    };
    change();
    note(x, s, 'change variables of', ofVariables(before, x.world.variables.get(key(s))));
    x.world.tell(s, true);
    if (s.state !== 'RUNNING') return { json: s };
    x.world.move(s, 'ADAPTING', 'variables changed by admin', true);
    return { status: 202, json: x.world.operate('service.environment', `Change variables of ${s.name}`, s.application, s.id, [['Tell the instances', 400], ['Reload PHP', 600], ['Check health', 400]], { done: () => x.world.move(s, 'RUNNING', 'everything answers', true) }) };
  }));

  // ---- shares, host names ---------------------------------------------------
  on(`PUT ${S}/weights`, withService((x, s) => {
    if (s.operation) return busy(x, s);
    const { weights } = x.json();
    for (const [id, parts] of Object.entries(weights)) for (const [p, n] of Object.entries(parts)) if (!(n >= 1 && n <= 1000)) return x.problem(422, 'invalid', `The share of ${id} (${p}) is ${n}.`, { fields: ['weights'], hint: 'use 1 to 1000' });
    x.world.move(s, 'ADAPTING', 'shares changed by admin', true);
    return { status: 202, json: x.world.operate('service.weights', `Change shares of ${s.name}`, s.application, s.id, [['Tell the proxies', 500]], { done: () => {
      for (const [id, parts] of Object.entries(weights)) {
        const i = x.world.instances.get(id);
        i.weights = { ...i.weights, ...parts };
        x.world.emit('instance', i.application, i.service, i.id, { ...i });
      }
      x.world.move(s, 'RUNNING', 'everything answers', true);
    } }) };
  }));
  on('GET /edge', (x) => ({ json: x.world.edge }));
  on(`GET ${S}/sites`, withService((x, s) => ({ json: x.world.sites.get(key(s)) ?? [] })));
  on(`POST ${S}/sites`, withService((x, s) => {
    const b = x.json();
    if (!x.world.edge.on) return x.problem(409, 'conflict', 'The edge is off.', { hint: x.world.edge.fallback });
    if (!/^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}$/i.test(b.name)) return x.problem(422, 'invalid', `${b.name} is no host name.`, { fields: ['name'], hint: 'such as www.example.org' });
    const sites = (of) => x.world.sites.get(key(of)) ?? [];
    if ([...x.world.sites].some(([of, all]) => of !== key(s) && all.some((t) => t.name === b.name))) return x.problem(409, 'conflict', `${b.name} belongs to another service.`, { fields: ['name'], hint: 'remove it there first' });
    if (b.certificate === 'file' && !/BEGIN CERTIFICATE/.test(b.chain ?? '')) return x.problem(422, 'invalid', 'There is no certificate in the chain.', { fields: ['chain'], hint: 'give PEM: -----BEGIN CERTIFICATE-----' });
    if (sites(s).some((t) => t.name === b.name)) x.world.sites.set(key(s), sites(s).filter((t) => t.name !== b.name));
    const site = { name: b.name, automatic: false, certificate: b.certificate || 'own', expires: new Date(Date.now() + 90 * 864e5).toISOString(), url: `https://${b.name}/`, ...(b.certificate === 'acme' ? { problem: `No certificate yet: ${b.name} does not lead to this machine. Let its DNS record point to 192.0.2.7, then wait a minute.` } : {}) };
    kept(x.world.sites, key(s), () => []).push(site);
    return { status: 201, json: site };
  }));
  on(`DELETE ${S}/sites/{name}`, withService((x, s) => {
    x.world.sites.set(key(s), (x.world.sites.get(key(s)) ?? []).filter((t) => t.name !== x.groups[2]));
    return { status: 204 };
  }));

  // ---- graphs ---------------------------------------------------------------
  on(`GET ${S}/graphs`, withService((x, s) => ({ json: graphs(x, s) })));
}

const spans = { s: 1, m: 60, h: 3600, d: 86_400 };
function seconds(text, fallback) {
  if (!text) return fallback;
  const match = /^(\d+)([smhd])$/.exec(text);
  return match ? Date.now() / 1000 - Number(match[1]) * spans[match[2]] : Date.parse(text) / 1000;
}
// wave is a figure that looks alive and is the same whenever it is asked for.
const noise = (t, n) => Math.abs(Math.sin(t * 12.9898 + n * 78.233) * 43758.5453) % 1;
const wave = (t, n) => 0.55 + 0.25 * Math.sin(t / 5200 + n) + 0.12 * Math.sin(t / 610 + n * 2) + 0.16 * (noise(Math.floor(t / 15), n) - 0.5);

function graphs(x, s) {
  if (s.state === 'STOPPED' || s.state === 'INIT') return [];
  const until = seconds(x.query.get('until'), Date.now() / 1000);
  const since = seconds(x.query.get('since'), until - 3600);
  const step = Math.max(5, Math.ceil((until - since) / Number(x.query.get('points') ?? 240) / 5) * 5);
  const all = x.world.of(s);
  const born = Math.max(Date.parse(s.created) / 1000, until - 86_400 * 12);
  const hole = [Math.floor(until / 1500) * 1500 - 700, Math.floor(until / 1500) * 1500 - 520]; // the agent was away
  const line = (name, f, n, labels) => {
    const points = [];
    for (let t = Math.ceil(since / step) * step; t <= until; t += step) if (t >= born && !(t > hole[0] && t < hole[1])) points.push([t, f(t, n)]);
    return { name, ...(labels ? { labels } : {}), points };
  };
  const graph = (id, title, unit, series) => ({ id, title, unit, since: new Date(since * 1000).toISOString(), until: new Date(until * 1000).toISOString(), step, series });
  const each = x.query.get('by') === 'instance';
  const usual = (f) => (each ? all.map((i, n) => line(i.id, f, n + 1, { instance: i.id })) : [line('mean', f, 1), line('highest', (t) => f(t, 1) * (1.1 + 0.2 * noise(Math.floor(t / 15), 5)), 2)]);
  const parts = (f) => (each ? all.flatMap((i, n) => i.parts.map((part) => line(`${i.id} ${part}`, f, n + 1, { instance: i.id, part }))) : Object.keys(s.parts).map((part, n) => line(part, (t) => f(t, n) * (4 - n), n, { part })));
  const web = s.kind !== 'generic' && s.kind !== 'helloworld';
  return [
    ...(web ? [
      graph('requests', 'Requests', '/s', parts((t, n) => 46 * wave(t, n))),
      graph('status', 'Answers by status', '/s', [line('2xx', (t) => 182 * wave(t, 1), 1), line('3xx', (t) => 22 * wave(t, 2), 2), line('4xx', (t) => 5 * wave(t, 3), 3), line('5xx', (t) => Math.max(0, 3 * (wave(t, 4) - 0.7)), 4)]),
      graph('latency', 'Time to answer', 's', each ? parts((t, n) => 0.06 + 0.05 * wave(t, n)) : [line('p50', (t) => 0.012 + 0.01 * wave(t, 1), 1), line('p95', (t) => 0.06 + 0.05 * wave(t, 2), 2), line('p99', (t) => 0.12 + 0.22 * wave(t, 3), 3)]),
      graph('errors', 'Errors', '/s', [line('4xx', (t) => 5 * wave(t, 3), 3), line('5xx', (t) => Math.max(0, 3 * (wave(t, 4) - 0.7)), 4)]),
    ] : []),
    graph('cpu', 'CPU', '%', usual((t, n) => 42 * wave(t, n))),
    graph('memory', 'Memory', 'B', usual((t, n) => 260e6 * (0.7 + 0.3 * wave(t, n)))),
    ...(web ? [graph('php', 'PHP processes', '', [line('active', (t) => Math.round(9 * wave(t, 6)), 1), line('idle', (t) => Math.round(11 - 7 * wave(t, 6)), 2), line('waiting requests', (t) => Math.max(0, Math.round(5 * (wave(t, 8) - 0.75))), 3)]), graph('sessions', 'Sessions', '', [line('', (t) => Math.round(300 * wave(t, 7)), 7)])] : []),
  ];
}
