// Logs of the development director: a million lines that are made as they are
// asked for, and go on being written.
const lines = 1_000_000;
const apart = 60; // ms
const written = 400; // ms between lines that are followed
const began = Date.now();
const mostLooked = 400_000;

const pages = ['/', '/products/walnuts', '/cart', '/checkout', '/assets/shop.css', '/api/stock?sku=118', '/login'];
const hostile = ['<img src=x onerror="document.title=\'owned\'">', '"><script>alert(1)</script>', '</span><svg onload=alert(1)>', '{{constructor.constructor("alert(1)")()}}', '\ufffd[31mred\ufffd \ufffd0;title', 'turned \ufffd around', '日本語のログ 🙂 ünïcödé'];

/** The sources of an application, in the order in which they write. */
function sourcesOf(x, a) {
  const list = [{ service: '', instance: 'manager', log: 'manager.log', parts: [], description: 'the manager itself' }];
  for (const s of x.world.services.values()) {
    if (s.application !== a.id || s.state === 'STOPPED' || s.state === 'INIT') continue;
    list.push({ service: s.name, instance: 'manager', log: `service-${s.id}.log`, parts: [], description: 'what the manager did for the service' });
    for (const i of x.world.of(s)) {
      const names = s.kind === 'php' ? [['nginx-proxy-access.log', 'requests of nginx-proxy'], ['php-errors.log', 'errors of PHP pages'], ['agent.log', 'the agent itself']] : s.kind === 'mysql' ? [['mariadbd.log', 'output of mariadbd'], ['slow.log', 'queries that took longer than slow_seconds']] : [['agent.out', 'standard output of all scripts'], ['agent.log', 'the agent itself']];
      for (const [log, description] of names) list.push({ service: s.name, instance: i.id, log, parts: i.parts, description, silent: i.state !== 'ready' && i.state !== 'booting' });
    }
  }
  return list;
}

const mixed = (n) => (Math.imul(n ^ (n >>> 15), 0x2c1b3c6d) >>> 0) % 1000;

function levelOf(n) {
  const m = mixed(n);
  if (n % 40_000 > 39_200) return m < 300 ? 'error' : 'warn'; // bursts
  return m < 6 ? 'error' : m < 40 ? 'warn' : m < 150 ? 'debug' : m < 180 ? '' : 'info';
}

const at = (n) => (n < lines ? began - (lines - n) * apart : began + (n - lines) * written);
const newest = () => lines + Math.floor((Date.now() - began) / written);

function textOf(n, source) {
  const time = new Date(at(n)).toISOString();
  const level = levelOf(n);
  if (n % 211 === 0) return `time=${time} level=${level.toUpperCase() || 'INFO'} msg="name was refused" name=${hostile[(n / 211) % hostile.length]}`;
  if (n % 5003 === 0) return `time=${time} level=INFO msg="long" data=${'abcdefghij'.repeat(800)}`;
  if (source.log.includes('access')) return `10.204.0.${n % 250} - - [${time}] "GET ${pages[n % pages.length]} HTTP/1.1" ${level === 'error' ? 502 : level === 'warn' ? 404 : 200} ${mixed(n) * 24} "-" "Mozilla/5.0" 0.0${n % 90} 10.204.1.${n % 4}:9000 0.0${n % 80}`;
  if (level === '') return '    at org.nutshell.shop.Checkout.pay(Checkout.java:' + (n % 400) + ')';
  const said = { error: 'upstream closed the connection', warn: 'slow request', info: 'agent answers', debug: 'figures measured' }[level];
  return `time=${time} level=${level.toUpperCase()} msg="${said}" request=${n} took=${mixed(n)}ms`;
}

function make(n, list) {
  const s = list[mixed(n * 7) % list.length];
  return { id: `${at(n).toString(36)}~fake~${n.toString(36)}~~${s.instance}~${s.log}`, at: new Date(at(n)).toISOString(), level: levelOf(n) || undefined, service: s.service || undefined, instance: s.instance, log: s.log, text: textOf(n, s) };
}

const rank = { debug: 0, info: 1, '': 1, warn: 2, error: 3 };

function chooser(x, list) {
  const q = (name) => x.query.get(name) ?? '';
  const moment = (text) => {
    const span = /^(\d+)([mhd])$/.exec(text);
    return span ? Date.now() - Number(span[1]) * { m: 6e4, h: 36e5, d: 864e5 }[span[2]] : Date.parse(text);
  };
  const [since, until] = [q('since') ? moment(q('since')) : 0, q('until') ? moment(q('until')) : Infinity];
  const needle = q('search').toLowerCase();
  const re = q('regex') ? new RegExp(q('regex'), 'g') : null;
  const least = q('level') ? rank[q('level')] : 0;
  const takes = list.map((s) => (!q('service') || s.service === q('service')) && (!q('instance') || s.instance === q('instance')) && (!q('log') || s.log === q('log')) && !s.silent);
  return {
    since,
    until,
    wants: (n) => (takes[mixed(n * 7) % list.length] && rank[levelOf(n)] >= least && at(n) >= since && at(n) <= until && (!needle || textOf(n, list[mixed(n * 7) % list.length]).toLowerCase().includes(needle)) && (!re || textOf(n, list[mixed(n * 7) % list.length]).search(re) >= 0)),
    marked(line) {
      const matches = [];
      if (needle) for (let i = line.text.toLowerCase().indexOf(needle); i >= 0 && matches.length < 50; i = line.text.toLowerCase().indexOf(needle, i + needle.length)) matches.push([i, i + needle.length]);
      if (re) for (const m of line.text.matchAll(re)) if (m[0]) matches.push([m.index, m.index + m[0].length]);
      if (line.text.length > 4000) Object.assign(line, { cut: line.text.length - 4000, text: line.text.slice(0, 4000) });
      return matches.length ? { ...line, matches } : line;
    },
  };
}

function placeOf(cursor) {
  if (!cursor.includes('~')) {
    const time = Date.parse(cursor);
    return time >= began ? lines + Math.floor((time - began) / written) : Math.max(-1, Math.floor(lines - (began - time) / apart));
  }
  return cursor.split('~')[1] === 'fake' ? parseInt(cursor.split('~')[2], 36) : -1;
}

const silentOf = (list) => list.filter((s, i) => s.silent && list.findIndex((o) => o.instance === s.instance) === i).map((s) => ({ service: s.service, instance: s.instance, message: 'does not answer' }));

function read(x, a) {
  const list = sourcesOf(x, a);
  const c = chooser(x, list);
  const limit = Number(x.query.get('limit') ?? 200);
  const [before, after, exact] = ['before', 'after', 'at'].map((n) => x.query.get(n) ?? '');
  const found = [];
  let n;
  let looked = 0;
  if (after) {
    for (n = Math.max(0, placeOf(after) + 1); n < newest() && found.length < limit && looked < mostLooked; n++, looked++) if (c.wants(n)) found.push(n);
    const made = found.map((i) => c.marked(make(i, list)));
    return { lines: made, before: made[0]?.id ?? after, after: n < newest() && made.length < limit ? make(n - 1, list).id : (made.at(-1)?.id ?? after), more: n < newest(), scanned: looked * 100, silent: silentOf(list) };
  }
  for (n = exact ? placeOf(exact) : before ? placeOf(before) - 1 : newest() - 1; n >= 0 && at(n) >= c.since && found.length < limit && looked < mostLooked; n--, looked++) if (c.wants(n)) found.unshift(n);
  const made = found.map((i) => c.marked(make(i, list)));
  const more = n >= 0 && at(n) >= c.since;
  return { lines: made, before: more ? (made.length < limit ? make(n + 1, list).id : made[0].id) : undefined, after: made.at(-1)?.id ?? '', more, scanned: looked * 100, silent: silentOf(list) };
}

function counts(x, a) {
  const list = sourcesOf(x, a);
  const c = chooser(x, list);
  const buckets = Number(x.query.get('buckets') ?? 60);
  const [since, until] = [Math.max(c.since, at(0)), Math.min(c.until, Date.now())];
  const out = { since: new Date(since).toISOString(), until: new Date(until).toISOString(), buckets: Array.from({ length: buckets }, (_, i) => ({ at: new Date(since + ((until - since) / buckets) * i).toISOString() })), total: 0, whole: true, scanned: lines * 100, silent: silentOf(list) };
  for (let n = 0; n < newest(); n++) {
    if (!c.wants(n)) continue;
    const b = out.buckets[Math.min(buckets - 1, Math.max(0, Math.floor(((at(n) - since) / (until - since)) * buckets)))];
    const level = levelOf(n) || 'other';
    b[level] = (b[level] ?? 0) + 1;
    out.total++;
  }
  return out;
}

export function logs({ on, withApp }) {
  const L = '/applications/{app}/logs';
  const checked = (f) => withApp((x, a) => {
    if (a.state === 'STOPPED' || a.state === 'INIT') return x.problem(503, 'unavailable', `application ${a.name}: its manager does not run: the application is ${a.state}`, { hint: 'start the application first' });
    try {
      new RegExp(x.query.get('regex') ?? '');
    } catch {
      return x.problem(422, 'invalid', 'regex: missing closing ): `' + x.query.get('regex') + '`', { fields: ['regex'] });
    }
    if (x.query.get('at') && placeOf(x.query.get('at')) < 0) return x.problem(404, 'not_found', 'the log of a1-s1-3fa2 was turned over since, and the line went with its old file', { hint: 'each log keeps its newest lines: one older file beside the present one' });
    return f(x, a);
  });
  on(`GET ${L}`, checked((x, a) => {
    const list = sourcesOf(x, a).filter((s) => !x.query.get('service') || s.service === x.query.get('service'));
    return { json: { sources: list.filter((s) => !s.silent).map(({ silent, ...s }, i) => ({ ...s, bytes: 1_200_000 + i * 731_111, first: new Date(at(0)).toISOString(), last: new Date().toISOString() })), silent: silentOf(list) } };
  }));
  on(`GET ${L}/lines`, checked((x, a) => ({ json: read(x, a) })));
  on(`GET ${L}/counts`, checked((x, a) => ({ json: counts(x, a) })));
  on(`GET ${L}/download`, checked((x, a) => ({ text: read(x, a).lines.map((l) => `${l.at} ${l.instance} ${l.log} ${l.text}`).join('\n') + '\n', headers: { 'Content-Disposition': `attachment; filename="${a.id}.log"` } })));
  on(`GET ${L}/follow`, checked((x, a) => {
    const list = sourcesOf(x, a);
    const c = chooser(x, list);
    x.response.writeHead(200, { 'Content-Type': 'application/x-ndjson', 'Cache-Control': 'no-store' });
    const send = (news) => x.response.write(JSON.stringify(news) + '\n');
    let n = newest() - 2; // some lines of the page come again, as they may
    send({ page: read(x, a) });
    const timer = setInterval(() => {
      const rate = Number(process.env.FAKE_LOG_RATE ?? 1);
      for (; n < newest(); n++) for (let i = 0; i < rate; i++) if (c.wants(n)) send({ line: c.marked({ ...make(n, list), id: make(n, list).id.replace('~fake~', i ? `~fake${i}~` : '~fake~') }) });
    }, 200);
    x.response.on('close', () => clearInterval(timer));
    return null;
  }));
}
