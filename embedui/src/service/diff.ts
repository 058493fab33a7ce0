// What differs between two texts, line by line.

/** Line is one line of a difference; a gap stands for lines that both have. */
export interface Line {
  sign: '+' | '−' | ' ' | '…';
  text: string;
}

const around = 2;
const most = 2_000_000; // cells of the table: what is larger is shown as replaced

/** differences are the lines that change from a to b, with a few around them. */
export function differences(a: string, b: string): Line[] {
  const [x, y] = [lines(a), lines(b)];
  let first = 0;
  while (first < x.length && first < y.length && x[first] === y[first]) first++;
  let last = 0;
  while (last < x.length - first && last < y.length - first && x[x.length - 1 - last] === y[y.length - 1 - last]) last++;
  const same = (text: string): Line => ({ sign: ' ', text });
  return shortened([...x.slice(0, first).map(same), ...middle(x.slice(first, x.length - last), y.slice(first, y.length - last)), ...x.slice(x.length - last).map(same)]);
}

const lines = (text: string): string[] => (text === '' ? [] : text.replace(/\n$/, '').split('\n'));

// The longest common subsequence, from its end.
function middle(x: string[], y: string[]): Line[] {
  const gone = (text: string): Line => ({ sign: '−', text });
  const come = (text: string): Line => ({ sign: '+', text });
  if (x.length * y.length > most) return [...x.map(gone), ...y.map(come)];
  const wide = y.length + 1;
  const table = new Uint32Array((x.length + 1) * wide);
  for (let i = x.length - 1; i >= 0; i--) for (let j = y.length - 1; j >= 0; j--) table[i * wide + j] = x[i] === y[j] ? table[(i + 1) * wide + j + 1] + 1 : Math.max(table[(i + 1) * wide + j], table[i * wide + j + 1]);
  const out: Line[] = [];
  let [i, j] = [0, 0];
  while (i < x.length && j < y.length) {
    if (x[i] === y[j]) out.push({ sign: ' ', text: x[i++] }), j++;
    else if (table[(i + 1) * wide + j] >= table[i * wide + j + 1]) out.push(gone(x[i++]));
    else out.push(come(y[j++]));
  }
  return [...out, ...x.slice(i).map(gone), ...y.slice(j).map(come)];
}

function shortened(all: Line[]): Line[] {
  const near = all.map((_, i) => all.slice(Math.max(0, i - around), i + around + 1).some((l) => l.sign !== ' '));
  return all.flatMap((l, i) => (near[i] ? [l] : i === 0 || near[i - 1] ? [{ sign: '…' as const, text: '' }] : []));
}
