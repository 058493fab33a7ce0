// Graphs as they are drawn: one grid of times for all lines, holes where
// nothing was measured, and figures as people read them.
import { bytes } from '../lib/format';
import type { Graph, Series } from '../lib/hosting';

/** Columns are what uPlot draws: times, then each line's values; null is a hole. */
export type Columns = [number[], ...(number | null)[][]];

/** lines are what is worth drawing: answers of class 1xx hardly ever are. */
export function lines(g: Graph, parts: string[]): Series[] {
  const order = (s: Series) => (s.labels?.instance ? 0 : parts.indexOf(s.labels?.part ?? ''));
  return (g.series ?? []).filter((s) => s.name !== '1xx' || (s.points ?? []).some(([, v]) => v > 0)).sort((a, b) => order(a) - order(b));
}

/** ticks are steps of an axis that read well: powers of two where bytes are counted. */
export const ticks = (unit: string): number[] | undefined => (unit.startsWith('B') ? Array.from({ length: 44 }, (_, n) => 2 ** n) : undefined);

export function columns(g: Graph, series: Series[]): Columns {
  const times = new Set<number>();
  for (const s of series) for (const [t] of s.points ?? []) times.add(t);
  return onGrid(g, series, [...times].sort((a, b) => a - b));
}

function onGrid(g: Graph, series: Series[], grid: number[]): Columns {
  // A hole in all lines has no times at all: without one it would be bridged.
  const xs: number[] = [];
  for (const t of grid) {
    const last = xs.at(-1);
    if (last !== undefined && t - last > g.step * 1.6) xs.push(last + g.step);
    xs.push(t);
  }
  const at = new Map(xs.map((t, i) => [t, i]));
  const lines = series.map((s) => {
    const values: (number | null)[] = new Array<number | null>(xs.length).fill(null);
    for (const [t, v] of s.points ?? []) values[at.get(t)!] = v;
    return values;
  });
  return [xs, ...lines];
}

/** value is a figure with its unit, as short as it can be said. */
export function value(v: number | null | undefined, unit: string): string {
  if (v === null || v === undefined || !Number.isFinite(v)) return '–';
  switch (unit) {
    case 's':
      return v === 0 ? '0 ms' : v < 0.001 ? `${short(v * 1e6)} µs` : v < 1 ? `${short(v * 1000)} ms` : `${short(v)} s`;
    case 'B':
      return bytes(v);
    case 'B/s':
      return bytes(v) + '/s';
    case '%':
      return `${short(v)} %`;
    case '/s':
      return `${short(v)}/s`;
    default:
      return short(v) + (unit ? ' ' + unit : '');
  }
}

function short(v: number): string {
  const a = Math.abs(v);
  if (a === 0) return '0';
  if (a >= 1000) return Math.round(v).toLocaleString('en');
  return String(Number(a >= 100 ? v.toFixed(0) : a >= 10 ? v.toFixed(1) : v.toPrecision(2)));
}

const byName: Record<string, string> = {
  '2xx': '--good', '3xx': '--part-4', '4xx': '--busy', '5xx': '--bad', '1xx': '--idle',
  p50: '--part-1', p95: '--part-0', p99: '--part-5', mean: '--part-1', highest: '--part-0',
  active: '--part-0', busy: '--part-0', idle: '--part-1', used: '--part-0', limit: '--idle',
};
const palette = ['--part-0', '--part-1', '--part-4', '--part-5', '--part-2', '--part-3'];

/** colour is the name of a line's colour: a part has the one it has everywhere. */
export function colour(s: Series, index: number, parts: string[]): string {
  const part = parts.indexOf(s.labels?.part ?? '');
  if (part >= 0 && !s.labels?.instance) return `--part-${part % 6}`;
  return byName[s.name] ?? palette[index % palette.length];
}

/** title of a line; one that stands for all has no name. */
export const titleOf = (s: Series): string => s.name || 'all';

/** when is a time as precise as the range needs it. */
export function when(seconds: number, range: number): string {
  const d = new Date(seconds * 1000);
  return range > 86_400 * 1.5
    ? d.toLocaleString('en-GB', { day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' })
    : d.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit', second: range > 7200 ? undefined : '2-digit' });
}

/** marks are the times at an axis; of days, where all of them begin one. */
export function marks(at: number[], range: number): string[] {
  const days = range > 86_400 * 1.5 && at.every((s) => new Date(s * 1000).getHours() === 0);
  return at.map((s) => (days ? new Date(s * 1000).toLocaleDateString('en-GB', { day: 'numeric', month: 'short' }) : when(s, Math.max(range, 7300))));
}

/** Line is one line of a drawing. */
export interface Line {
  name: string;
  colour: string;
  series: Series;
  /** it is of an earlier time, moved to this one */
  earlier: boolean;
}

/** Only says which lines are wanted: those of one part, or of one instance. */
export interface Only {
  part?: string;
  instance?: string;
  /** which instances hold the part now */
  holders?: string[];
}

const wanted = (s: Series, only: Only): boolean =>
  only.instance ? s.labels?.instance === only.instance : !only.part || (s.labels?.part ? s.labels.part === only.part : !s.labels?.instance || !!only.holders?.includes(s.labels.instance));

/** drawn are the lines of a graph, with those of an earlier one moved by so many seconds. */
export function drawn(g: Graph, parts: string[], only: Only, before: Graph | undefined, moved: number, then: string): Line[] {
  const now = lines(g, parts).filter((s) => wanted(s, only)).map((s, i): Line => ({ name: titleOf(s), colour: colour(s, i, parts), series: s, earlier: false }));
  if (!before) return now;
  // The two are measured at times that do not meet after the move, so the
  // earlier ones are put to the nearest of now's steps.
  const first = now.find((l) => l.series.points?.length)?.series.points?.[0][0] ?? 0;
  const at = (t: number) => first + Math.round((t + moved - first) / g.step) * g.step;
  const earlier = lines(before, parts).filter((s) => wanted(s, only)).map((s, i): Line => ({ name: `${titleOf(s)}, ${then}`, colour: colour(s, i, parts), series: { ...s, points: (s.points ?? []).map(([t, v]): [number, number] => [at(t), v]) }, earlier: true }));
  return [...now, ...earlier];
}

/** csv is what a drawing shows as a file for other programs: figures as they are, in the unit of the graph. */
export function csv(unit: string, names: string[], [times, ...values]: Columns): string {
  const cell = (text: string) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const head = ['time', ...names.map((n) => (unit ? `${n} (${unit})` : n))].map(cell).join(',');
  return [head, ...times.map((t, i) => [new Date(t * 1000).toISOString(), ...values.map((v) => v[i] ?? '')].join(','))].join('\n') + '\n';
}

/** save hands a text to the browser as a file. */
export function save(name: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: 'text/csv' }));
  const a = document.createElement('a');
  [a.href, a.download] = [url, name];
  a.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** ranges are those that can be chosen by name: for the API, for people, in seconds. */
export const ranges = [['15m', '15 min', 900], ['1h', '1 h', 3600], ['6h', '6 h', 21_600], ['24h', '24 h', 86_400], ['7d', '7 d', 604_800], ['30d', '30 d', 2_592_000]] as const;
