// Who may use which application of the development director. maria and jonas
// sign in with the password nutshell, too: a developer and a viewer of shop.
const rank = { '': 0, viewer: 1, developer: 2, owner: 3 };
const ago = (days) => new Date(Date.now() - days * 864e5).toISOString();

export function seedPeople(world) {
  world.users.push({ id: 4, name: 'hostile', email: '', first_name: '<img src=x onerror=alert(1)>', last_name: '"><script>', affiliation: '', admin: false, credit: 3, created: ago(2), second_factor: false });
  const shop = [...world.applications.values()].find((a) => a.name === 'shop');
  if (!shop) return;
  world.members.set(shop.id, [
    { user: 'hostile', name: '<img src=x onerror=alert(1)> "><script>', access: 'viewer', since: ago(1), by: 'maria' },
    { user: 'jonas', name: 'Jonas Weber', access: 'viewer', since: ago(2), by: 'admin' },
    { user: 'maria', name: 'Maria Lind', access: 'developer', since: ago(9), by: 'admin' },
  ]);
}

const membersOf = (world, a) => world.members?.get(a.id) ?? [];
const fullName = (u) => [u?.first_name, u?.last_name].filter(Boolean).join(' ');

/** accessOf is what a user is to an application; empty: nothing. */
export function accessOf(world, user, a) {
  if (user.admin || a.owner === user.name) return 'owner';
  return membersOf(world, a).find((m) => m.user === user.name)?.access ?? '';
}

/** seen are the applications that the asker may see, each with what they are to it. */
export const seen = (x) => [...x.world.applications.values()].map((a) => ({ ...a, access: accessOf(x.world, x.user, a), ...(membersOf(x.world, a).some((m) => m.user === x.user.name && m.offered) ? { offered: true } : {}) })).filter((a) => a.access);

/** refused is the problem of a request that its user is too little for. */
export function refused(x, path, method) {
  const app = /^\/applications\/([^/]+)/.exec(path)?.[1];
  const a = app && [...x.world.applications.values()].find((o) => String(o.id) === app || o.name === decodeURIComponent(app));
  if (!a) return undefined;
  const is = accessOf(x.world, x.user, a);
  // who may look may also have a kind tell what it only reads
  const act = /\/services\/([^/]+)\/actions\/(\w+)$/.exec(path);
  const s = act && [...x.world.services.values()].find((o) => o.application === a.id && (String(o.id) === act[1] || o.name === decodeURIComponent(act[1])));
  const reads = s && x.world.kinds.find((k) => k.name === s.kind).actions.find((o) => o.name === act[2])?.reads;
  const least = method === 'GET' || reads || /\/(preview|owner)$/.test(path) || path.endsWith('/members/' + x.user.name) ? 'viewer' : /\/members\//.test(path) || (method === 'PATCH' && /^\/applications\/[^/]+$/.test(path)) || (method === 'DELETE' && /^\/applications\/[^/]+(\/services\/[^/]+)?$/.test(path)) ? 'owner' : 'developer';
  if (!is) return x.problem(404, 'not_found', `There is no application ${app}.`);
  if (rank[is] < rank[least]) return x.problem(403, 'forbidden', `you are a ${is} there, and this is for ${least === 'owner' ? 'an owner' : 'a developer'}`, { hint: `ask ${a.owner}, who owns the application, to make you that` });
  return undefined;
}

/** people adds the routes; tools are what routes.mjs has at hand. */
export function people(on, { withApp }) {
  const listed = (x, a) => {
    const owner = x.world.users.find((u) => u.name === a.owner);
    return [{ user: a.owner, name: fullName(owner), access: 'owner', pays: true, since: a.created }, ...membersOf(x.world, a)];
  };
  const tell = (x, a, m, type = 'member') => x.world.emit(type, a.id, 0, m.user, m);
  const person = (x, name) => x.world.users.find((u) => u.name === name || String(u.id) === name);
  const put = (x, a, u, more) => {
    const all = membersOf(x.world, a);
    let m = all.find((o) => o.user === u.name);
    if (!m) {
      m = { user: u.name, name: fullName(u), access: 'viewer', since: new Date().toISOString(), by: x.user.name };
      x.world.members.set(a.id, [...all, m].sort((p, q) => (p.user < q.user ? -1 : 1)));
    }
    Object.assign(m, more);
    tell(x, a, m);
    return m;
  };
  const drop = (x, a, name) => {
    const m = membersOf(x.world, a).find((o) => o.user === name);
    if (m) x.world.members.set(a.id, membersOf(x.world, a).filter((o) => o !== m));
    if (m) tell(x, a, m, 'member.deleted');
    return m;
  };
  const give = (x, a, u, stay) => {
    const old = a.owner;
    drop(x, a, u.name);
    a.owner = u.name;
    if (stay) put(x, a, person(x, old), { access: stay });
    x.world.tell(a, false);
    tell(x, a, { user: u.name });
  };
  const A = '/applications/{app}';
  on(`GET ${A}/members`, withApp((x, a) => ({ json: listed(x, a) })));
  on(`PUT ${A}/members/{user}`, withApp((x, a) => {
    const u = person(x, x.groups[1]);
    if (!u) return x.problem(404, 'not_found', `there is no user "${x.groups[1]}"`);
    if (u.name === a.owner) return x.problem(409, 'conflict', `it is ${u.name}'s own application`, { hint: 'hand it over to somebody else first' });
    return { json: put(x, a, u, { access: x.json().access }) };
  }));
  on(`DELETE ${A}/members/{user}`, withApp((x, a) => (drop(x, a, x.groups[1]) ? { status: 204 } : x.problem(404, 'not_found', `application ${a.name} has no member "${x.groups[1]}"`))));
  on(`PUT ${A}/owner`, withApp((x, a) => {
    const { user, stay } = x.json();
    const u = person(x, user);
    if (!u) return x.problem(404, 'not_found', `there is no user "${user}"`);
    if (u.name === a.owner) return x.problem(409, 'conflict', `it is ${u.name}'s already`, { fields: ['user'] });
    if (u.credit <= 0) return x.problem(409, 'quota', '3 credits are needed, 0 left', { hint: 'ask an administrator for credits, or stop something that is not needed: each started instance costs one credit for each hour that begins' });
    if (x.user.admin) {
      give(x, a, u, stay);
      return { json: { ...listed(x, a)[0] } };
    }
    for (const m of membersOf(x.world, a)) delete m.offered;
    x.world.stays ??= new Map();
    x.world.stays.set(a.id, stay);
    return { json: put(x, a, u, { offered: true }) };
  }));
  on(`POST ${A}/owner`, withApp((x, a) => {
    if (!membersOf(x.world, a).find((m) => m.user === x.user.name)?.offered) return x.problem(409, 'conflict', 'it is not offered to you', { hint: `ask ${a.owner} to hand it over` });
    give(x, a, x.user, x.world.stays?.get(a.id));
    return { json: { ...a, access: 'owner' } };
  }));
  on(`DELETE ${A}/owner`, withApp((x, a) => {
    for (const m of membersOf(x.world, a)) if (m.offered) tell(x, a, (delete m.offered, m));
    return { status: 204 };
  }));
  on('DELETE /users/{user}/sessions', () => ({ status: 204 }));
  on('DELETE /users/{user}/factors', () => ({ status: 204 }));
}
