// Weighs the built pages: what comes before the overview can be seen, and each
// other file, as they are sent.
//   node dev/budget.mjs
import { readFileSync, readdirSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const most = 150_000; // bytes of script before the overview is there, gzipped
const dist = new URL('../dist/', import.meta.url);
const weigh = (name) => gzipSync(readFileSync(new URL(name, dist))).length;
const text = (name) => readFileSync(new URL(name, dist), 'utf8');

// What a file imports at once; what it imports later is in calls of import().
const imports = (name) => [...text(name).matchAll(/(?:from|import)\s*"(\.\/[^"]+\.js)"/g)].map((m) => 'assets/' + m[1].slice(2));
function gather(name, all = new Set()) {
  if (!all.has(name)) {
    all.add(name);
    imports(name).forEach((i) => gather(i, all));
  }
  return all;
}
const entry = [...text('index.html').matchAll(/src="\/(assets\/[^"]+\.js)"/g)].map((m) => m[1]);
const overview = readdirSync(new URL('assets/', dist)).find((f) => /^Overview-.*\.js$/.test(f));
if (!entry.length || !overview) throw new Error('the pages are not built: npm run build');
const first = new Set([...entry, 'assets/' + overview].flatMap((f) => [...gather(f)]));
const sum = [...first].reduce((n, f) => n + weigh(f), 0);
const all = readdirSync(new URL('assets/', dist)).map((f) => ['assets/' + f, weigh('assets/' + f)]).sort((a, b) => b[1] - a[1]);
for (const [name, n] of all.filter(([f]) => f.endsWith('.js')).slice(0, 12)) console.log(`${String(n).padStart(7)}  ${name}${first.has(name) ? '  (first load)' : ''}`);
console.log(`first load: ${sum} bytes of script in ${first.size} files, at most ${most}; all files: ${all.reduce((n, [, w]) => n + w, 0)} bytes`);
process.exit(sum < most ? 0 : 1);
