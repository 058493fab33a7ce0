// The bin, the settings of the installation and revisions in the development
// director: what the screens show, without the deleting itself.
import { randomBytes } from 'node:crypto';

const ago = (h) => new Date(Date.now() - h * 36e5).toISOString();
const entry = (kind, name, hours, keep, more) => ({ id: randomBytes(6).toString('hex'), kind, name, application: 90, application_name: name, deleted: ago(hours), by: 'admin', until: ago(hours - keep), bytes: 0, holds: [], ...more });
const first = () => {
  const shop = entry('application', 'old shop', 30, 168, { bytes: 7 * 2 ** 30, holds: [{ what: 'service', count: 2, names: ['php', 'db'] }, { what: 'version', count: 4, bytes: 3 * 2 ** 20 }, { what: 'volume', count: 1, bytes: 5 * 2 ** 30 }, { what: 'secret', count: 2 }, { what: 'repository', count: 1 }] });
  return [
    entry('version', 'code-x7k2p9', 1, 168, { application_name: 'shop', service: 1, service_name: 'php', object: 'code-x7k2p9', bytes: 812_003 }),
    entry('service', '<img src=x onerror=alert(1)>', 160, 168, { application_name: 'shop', service: 3, bytes: 1 * 2 ** 30, holds: [{ what: 'volume', count: 1, names: ['data'], bytes: 1 * 2 ** 30 }, { what: 'variable', count: 3 }] }),
    shop,
    entry('volume', 'photos', 40, 168, { application_name: 'old shop', service: 1, service_name: 'php', object: 'a90-s1-v1', bytes: 2 * 2 ** 30, in: shop.id }),
  ];
};
const settings = () => [
  { key: 'listen', value: '127.0.0.1:5555', origin: 'flag --listen', default: '127.0.0.1:5555', help: 'addresses that the director listens on, host:port', kind: 'text', changeable: false },
  { key: 'upload.max_bytes', value: '2G', origin: 'default', default: '2G', help: 'size of one uploaded archive', kind: 'size', changeable: true },
  { key: 'credit.enforce', value: 'users', origin: '/etc/nutshell/nutshell.yaml:12', default: 'users', help: 'whose applications stop when the credit is used up', kind: 'choice', choices: ['users', 'everybody', 'nobody'], changeable: false },
  { key: 'quota.applications', value: '20', origin: 'here', default: '0', help: 'applications that a user may have, 0 for no bound', kind: 'number', changeable: true, by: 'admin', changed: ago(50) },
  { key: 'bin.keep', value: '168h0m0s', origin: 'default', default: '168h0m0s', help: 'how long what was deleted can be brought back, 0 to delete at once', kind: 'duration', changeable: true },
];

export function bin(on) {
  const of = (x) => (x.world.bin ??= first());
  const find = (x) => of(x).find((b) => b.id === x.groups[0]);
  const drop = (x, b) => {
    x.world.bin = of(x).filter((o) => o !== b);
    x.world.emit('bin.deleted', b.application, b.service ?? 0, b.id, b);
  };
  const missing = (x) => x.problem(404, 'not_found', `The bin has no entry ${x.groups[0]}.`);
  on('GET /bin', (x) => ({ json: of(x) }));
  on('POST /bin/{id}/restore', (x) => {
    const b = find(x);
    if (!b) return missing(x);
    drop(x, b);
    return { json: { kind: b.kind, name: b.name, application: b.application, notes: [] } };
  });
  on('DELETE /bin/{id}', (x) => {
    const b = find(x);
    if (!b) return missing(x);
    drop(x, b);
    return { status: 204 };
  });
  on('GET /settings', (x) => ({ json: (x.world.settings ??= settings()) }));
  on('PATCH /settings', (x) => {
    const all = (x.world.settings ??= settings());
    for (const [key, value] of Object.entries(x.json().set)) {
      const s = all.find((o) => o.key === key);
      if (!s?.changeable || /[<>]/.test(value)) return x.problem(422, 'invalid', `${value} cannot be`, { fields: [key] });
      Object.assign(s, value === '' ? { value: s.default, origin: 'default', by: undefined, changed: undefined } : { value, origin: 'here', by: x.user.name, changed: new Date().toISOString() });
    }
    return { json: all };
  });
}
