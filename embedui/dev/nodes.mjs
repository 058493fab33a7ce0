// The machines of the development director's cluster: a shelf of Pis of which
// one is lost and two ask to join, one of them with a name that bites.
import { createHash } from 'node:crypto';

const ago = (minutes) => new Date(Date.now() - minutes * 60_000).toISOString();
const sha = (text) => createHash('sha256').update(text).digest('hex');
const GB = 2 ** 30;

function node(n, state, more = {}) {
  const serial = sha('serial' + n).slice(0, 16);
  return {
    id: 'n' + sha('node' + n).slice(0, 12), name: `pi-${n}`, state, serial, model: 'Raspberry Pi 4 Model B Rev 1.4', fingerprint: sha('key' + n), address: `172.16.0.${10 + n}`,
    ...(state === 'waiting' ? {} : { subnet: `10.${200 + n}.0.0/16` }), arch: 'arm64', version: '1.0.0-dev', cpus: 4, memory: 4 * GB, memory_free: Math.round((3.4 - 0.5 * n) * GB), disk: 29 * GB, disk_free: (24 - 3 * n) * GB,
    load: 0.4 * n, heat: 48 + 3.5 * n, heat_most: 90, instances: 0, layers: state === 'waiting' ? [] : ['base', 'php', 'mysql', 'generic'].slice(0, 1 + (n % 4)).map((l) => 'sha256:' + sha(l)), joined: ago(60 * 24 * n + 5), seen: ago(0), ...more,
  };
}

export function seedNodes(world) {
  for (const n of [
    node(1, 'ready'), node(2, 'ready'), node(3, 'cordoned', { load: 3.9, memory_free: 300 << 20, reason: 'the file system that holds its instances is nearly full', disk_free: 1100 << 20, version: '0.9.4', power_low: true, warnings: ['its supply had too little voltage within the last hour: such a machine works more slowly, stops, or spoils its card. Give it a stronger supply, or a shorter cable'] }),
    node(4, 'lost', { reason: 'it has not been heard for 45 s', seen: ago(7), load: 0 }),
    node(5, 'waiting', { joined: ago(2), name: 'raspberrypi', model: 'Raspberry Pi 5 Model B Rev 1.0' }),
    node(6, 'waiting', { joined: ago(1), name: 'x', model: '<img src=x onerror=alert(1)>"><script>', serial: '\u202Edrawkcab</textarea>' }),
  ]) world.nodes.set(n.id, n);
  const shelf = [...world.nodes.values()];
  const all = [...world.instances.values()].filter((i) => i.service && i.state === 'ready');
  all.slice(0, 7).forEach((i, k) => Object.assign(i, { cloud: 'shelf', node: shelf[[0, 1, 0, 2, 1, 0, 3][k]].name }));
  const web = all.find((i) => i.parts.includes('proxy'));
  if (web) web.public = '192.168.56.10';
  count(world);
}

function count(world) {
  for (const n of world.nodes.values()) n.instances = [...world.instances.values()].filter((i) => i.node === n.name).length;
}

/** nodes adds the routes. */
export function nodes(on) {
  const list = (w) => [...w.nodes.values()].sort((a, b) => Number(b.state === 'waiting') - Number(a.state === 'waiting') || a.name.localeCompare(b.name));
  const find = (x) => x.world.nodes.get(x.groups[0]) ?? list(x.world).find((n) => n.name === x.groups[0]);
  const tell = (x, n) => (count(x.world), x.world.emit('node', 0, 0, n.id, n), n);
  const withNode = (f) => (x) => {
    if (!x.user.admin) return x.problem(403, 'forbidden', 'This is for administrators.');
    const n = find(x);
    return n ? f(x, n) : x.problem(404, 'not_found', `there is no node "${x.groups[0]}"`);
  };
  on('GET /nodes', (x) => (x.user.admin ? { json: list(x.world) } : x.problem(403, 'forbidden', 'This is for administrators.')));
  on('GET /nodes/{node}', withNode((x, n) => ({ json: n })));
  on('POST /nodes/{node}/approve', withNode((x, n) => {
    const { name, fingerprint } = x.json();
    if (fingerprint && fingerprint !== n.fingerprint) return x.problem(409, 'conflict', `its fingerprint is another: ${n.fingerprint}`, { fields: ['fingerprint'], hint: "compare it with what the machine's own screen shows" });
    if (name && !/^[A-Za-z0-9][\w. -]{0,63}$/.test(name)) return x.problem(422, 'invalid', 'the name has a character that is not allowed', { fields: ['name'], hint: "use 1 to 64 letters, digits, '-', '_', '.' or blanks" });
    if (list(x.world).some((o) => o !== n && o.name === name)) return x.problem(409, 'conflict', 'another node has this name', { fields: ['name'] });
    Object.assign(n, { name: name || n.name, state: 'ready', subnet: '10.209.0.0/16', seen: ago(0) });
    x.world.audit('node.approve', n.name);
    return { json: tell(x, n) };
  }));
  for (const [verb, state] of [['cordon', 'cordoned'], ['uncordon', 'ready']]) on(`POST /nodes/{node}/${verb}`, withNode((x, n) => ({ json: tell(x, Object.assign(n, { state })) })));
  on('POST /nodes/{node}/drain', withNode((x, n) => {
    const other = list(x.world).find((o) => o !== n && o.state === 'ready');
    const leaving = [...x.world.instances.values()].filter((i) => i.node === n.name);
    if (!other && leaving.length) return x.problem(409, 'conflict', 'no other node is ready to take its instances', { hint: 'let another node join, or uncordon one' });
    tell(x, Object.assign(n, { state: 'draining' }));
    const moved = (i) => () => {
      x.world.emit('instance', i.application, i.service, i.id, Object.assign(i, { node: other.name, created: ago(0) }));
      tell(x, n), tell(x, other);
    };
    const steps = leaving.length ? leaving.map((i) => [`move ${i.id}`, 900]) : [['look', 200]];
    const o = x.world.operate('node.drain', 'drain node ' + n.name, 0, 0, steps, { at: leaving.map(moved), done: () => tell(x, Object.assign(n, { state: 'cordoned' })) });
    return { status: 202, json: o };
  }));
  on('DELETE /nodes/{node}', withNode((x, n) => {
    count(x.world);
    if (n.instances && x.query.get('force') !== 'true') return x.problem(409, 'conflict', `it has ${n.instances} instances`, { hint: 'drain it first' });
    for (const i of x.world.instances.values()) if (i.node === n.name) x.world.emit('instance', i.application, i.service, i.id, Object.assign(i, { state: 'lost', reason: `its node ${n.name} was removed` }));
    x.world.nodes.delete(n.id);
    x.world.emit('node.deleted', 0, 0, n.id, n);
    return { status: 204 };
  }));
}
