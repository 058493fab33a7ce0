// Texts that somebody could give to things to break a page that shows them.
export const corpus = [
  '<img src=x onerror="window.broken=1">', '"><svg onload=window.broken=1>', '<script>window.broken=1</script>', '</textarea></title><script>window.broken=1</script>',
  '{@html "<i id=broken>"}', '${window.broken=1}', "'-window.broken=1-'", '<a href="javascript:window.broken=1" id=broken>x</a>', '\u202Etxet drawkcab', '&lt;b&gt;\u0000', '<iframe src="javascript:window.broken=1"></iframe>',
];
const free = new Set(['reason', 'title', 'description', 'filename', 'first_name', 'last_name', 'affiliation', 'email', 'message', 'hint', 'detail', 'undone', 'problem', 'summary', 'help', 'finding', 'subject', 'actor', 'object', 'from', 'by', 'address', 'note', 'serial', 'model']);

/** poison puts them into every free text of a world. */
export function poison(world) {
  let next = 0;
  const seen = new Set();
  const evil = () => corpus[next++ % corpus.length];
  const walk = (v) => {
    if (!v || typeof v !== 'object' || seen.has(v)) return;
    seen.add(v);
    for (const x of v instanceof Map ? v.values() : v instanceof Set ? [] : Object.values(v)) walk(x);
    if (v instanceof Map) return;
    for (const key of Object.keys(v)) {
      if (free.has(key) && typeof v[key] === 'string') v[key] += ' ' + evil();
      if (key === 'log_tail' && Array.isArray(v[key])) v[key].push(...corpus);
    }
    if (Array.isArray(v.urls) && v.urls.length) v.urls.push('javascript:window.broken=1');
  };
  for (const k of ['applications', 'services', 'instances', 'operations', 'versions', 'histories', 'users', 'audits', 'tokens', 'sshKeys', 'volumes', 'backups', 'members', 'sites', 'clouds', 'ledgers', 'nodes']) walk(world[k]);
  world.kinds = structuredClone(world.kinds);
  walk(world.kinds);
}
