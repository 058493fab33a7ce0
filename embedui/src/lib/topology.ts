// How an application's services hang together, as boxes and lines: visitors,
// the parts of each service in the order in which requests pass them, and
// which service uses what another offers. Pure: the drawing is made elsewhere.
import type { Application, Instance, Kind, Part, Service, State } from './api';

export interface Box {
  id: string;
  service: Service;
  part: string;
  title: string;
  /** place among the parts of its kind, for its colour */
  index: number;
  wanted: number;
  ready: number;
  state: State;
  x: number;
  y: number;
}

export interface Frame {
  service: Service;
  title: string;
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Line {
  id: string;
  from: { x: number; y: number };
  to: { x: number; y: number };
  /** uses: a service has the address and password of another */
  is: 'requests' | 'uses';
  /** requests per second, where they are measured */
  rate?: number;
  live: boolean;
  /** the same in words */
  words: { from: string; to: string };
}

export interface Drawing {
  width: number;
  height: number;
  narrow: boolean;
  box: number;
  visitors?: { x: number; y: number };
  frames: Frame[];
  boxes: Box[];
  lines: Line[];
}

export const high = 48;
const [row, pad, head, visitors] = [12, 14, 44, 104];

/** Measures are what depends on the room that there is. */
interface Measures {
  narrow: boolean;
  box: number;
  gap: number;
  between: number;
}

/** Rates are requests per second by service and part. */
export type Rates = Map<number, Record<string, number>>;

/** uses says which siblings' offers a service is given that it cannot do without: what was chosen, else what it can sign in to. */
export function uses(s: Service, all: Service[], kind: (name: string) => Kind | undefined): Service[] {
  if (!kind(s.kind)?.code.accepts) return [];
  const bind = s.bind ?? ['*'];
  return all.filter((o) => {
    const offers = kind(o.kind)?.offers ?? [];
    if (o.id === s.id || offers.length === 0) return false;
    return bind.includes(o.name) || (bind.includes('*') && offers.some((x) => x.secret));
  });
}

interface Laid {
  service: Service;
  columns: Box[][];
  open: boolean;
  height: number;
  width: number;
}

export function draw(app: Application, services: Service[], instances: Instance[], kind: (name: string) => Kind | undefined, rates: Rates, space: number): Drawing {
  const narrow = space < 700;
  const deep = Math.max(1, ...services.map((s) => layers(s, kind(s.kind)).length));
  const gap = narrow ? 40 : 56;
  const m: Measures = { narrow, gap, between: 84, box: narrow ? Math.min(150, (space - 2 * pad - 2 - gap * (deep - 1)) / deep) : 138 };
  const laid = services.map((s) => inside(m, s, kind(s.kind), instances.filter((i) => i.application === app.id && i.service === s.id)));
  const used = new Set(services.flatMap((s) => uses(s, services, kind).map((o) => o.id)));
  // Services that visitors reach stand first, those that others use behind
  // them, so that lines run from left to right, or from top to bottom.
  const rank = (l: Laid) => (used.has(l.service.id) ? 2 : l.open ? 0 : 1);
  const columns = narrow ? [laid.sort((a, b) => rank(a) - rank(b))] : [laid.filter((l) => rank(l) < 2), laid.filter((l) => rank(l) === 2)].filter((c) => c.length);
  const open = laid.some((l) => l.open);
  const drawing: Drawing = { width: 0, height: 0, narrow, box: m.box, frames: [], boxes: [], lines: [] };
  const top = narrow && open ? 74 : 0;
  let x = !narrow && open ? visitors + m.between : 0;
  for (const column of columns) {
    const width = Math.max(...column.map((l) => l.width));
    // a long list of services stands in several columns beside each other
    const per = narrow ? column.length : Math.max(3, Math.ceil(column.length / Math.max(1, Math.floor(1080 / (width + 24)))));
    for (let from = 0; from < column.length; from += per) {
      let y = top;
      for (const l of column.slice(from, from + per)) {
        place(drawing, m, l, x, y, width, kind(l.service.kind)?.title ?? l.service.kind);
        y += l.height + 18;
      }
      drawing.height = Math.max(drawing.height, y - 18);
      x += width + (from + per < column.length ? 24 : m.between);
    }
    drawing.width = x - m.between;
  }
  // Each column stands in the middle of the height, as far as it is shorter.
  if (!narrow) centre(drawing);
  if (open) drawing.visitors = narrow ? { x: drawing.width / 2, y: 18 } : { x: visitors / 2, y: middle(drawing.boxes.filter((b) => laid.some((l) => l.open && l.columns[0]?.includes(b)))) };
  join(drawing, m, laid, services, kind, rates);
  return drawing;
}

// layers are the parts of a service in columns: those that nobody passes
// requests to first.
function layers(s: Service, kind: Kind | undefined): Part[][] {
  const parts = partsOf(s, kind);
  const depth = new Map<string, number>(parts.map((p) => [p.name, 0]));
  for (let round = 0; round < parts.length; round++) for (const p of parts) for (const next of p.to ?? []) if (depth.has(next)) depth.set(next, Math.max(depth.get(next)!, Math.min(parts.length, depth.get(p.name)! + 1)));
  const columns: Part[][] = [];
  for (const p of parts) (columns[depth.get(p.name)!] ??= []).push(p);
  return columns.filter(Boolean);
}

/** ordered are the parts that a service has, in the order in which requests pass them. */
export const ordered = (s: Service, kind: Kind | undefined): Part[][] => layers(s, kind);

function partsOf(s: Service, kind: Kind | undefined): Part[] {
  const unknown = (name: string): Part => ({ name, title: name, summary: '', default: 1, min: 0, max: 1, fixed: false, ports: [], to: [] });
  return (kind?.parts ?? Object.keys(s.parts).map(unknown)).filter((p) => (s.parts[p.name] ?? 0) > 0);
}

/** open says whether visitors reach a service by a browser. */
export const open = (s: Service, kind: Kind | undefined): boolean =>
  (layers(s, kind)[0] ?? []).some((p) => (p.ports ?? []).some((x) => x.public && /^HTTP/.test(x.use))) || s.urls.some((u) => /^https?:/.test(u));

function inside(m: Measures, s: Service, kind: Kind | undefined, instances: Instance[]): Laid {
  const columns = layers(s, kind).map((column) => column.map((p): Box => ({
    id: `${s.id}.${p.name}`, service: s, part: p.name, title: p.title, index: Math.max(0, kind?.parts.findIndex((k) => k.name === p.name) ?? 0),
    wanted: s.parts[p.name] ?? 0, ready: instances.filter((i) => i.parts.includes(p.name) && i.state === 'ready').length, state: s.state, x: 0, y: 0,
  })));
  const rows = Math.max(1, ...columns.map((c) => c.length));
  return { service: s, columns, open: open(s, kind), width: Math.max(1, columns.length) * (m.box + m.gap) - m.gap + 2 * pad, height: head + rows * (high + row) - row + pad };
}

function place(d: Drawing, m: Measures, l: Laid, x: number, y: number, width: number, title: string): void {
  d.frames.push({ service: l.service, title, x, y, width, height: l.height });
  const free = l.height - head - pad;
  l.columns.forEach((column, c) => {
    const tall = column.length * (high + row) - row;
    column.forEach((b, r) => {
      b.x = x + pad + c * (m.box + m.gap);
      b.y = y + head + (free - tall) / 2 + r * (high + row);
      d.boxes.push(b);
    });
  });
}

function centre(d: Drawing): void {
  for (const x of new Set(d.frames.map((f) => f.x))) {
    const column = d.frames.filter((f) => f.x === x);
    const by = (d.height - Math.max(...column.map((f) => f.y + f.height))) / 2;
    for (const f of column) {
      f.y += by;
      for (const b of d.boxes) if (b.service === f.service) b.y += by;
    }
  }
}

// middle is the height at which visitors stand: that of what they reach.
const middle = (boxes: Box[]): number => boxes.reduce((sum, b) => sum + b.y + high / 2, 0) / Math.max(1, boxes.length);

function join(d: Drawing, m: Measures, laid: Laid[], services: Service[], kind: (name: string) => Kind | undefined, rates: Rates): void {
  const { narrow } = m;
  const left = (b: Box) => ({ x: b.x, y: b.y + high / 2 });
  const right = (b: Box) => ({ x: b.x + m.box, y: b.y + high / 2 });
  for (const l of laid) {
    const s = l.service;
    const rate = (part: string) => rates.get(s.id)?.[part];
    const live = s.state === 'RUNNING' || s.state === 'ADAPTING';
    const boxes = l.columns.flat();
    const frame = d.frames.find((f) => f.service === s)!;
    const name = (b: Box) => `${s.name} ${b.part}`;
    if (l.open && d.visitors) {
      for (const b of l.columns[0] ?? []) {
        const from = narrow ? { x: d.visitors.x, y: d.visitors.y + 17 } : { x: d.visitors.x + 50, y: d.visitors.y };
        const to = narrow ? { x: b.x + m.box / 2, y: b.y } : left(b);
        // on a narrow page only the first frame has visitors right above it
        if (narrow && frame.y > 80) continue;
        d.lines.push({ id: `v.${b.id}`, from, to, is: 'requests', rate: rate(b.part), live, words: { from: '', to: name(b) } });
      }
    }
    for (const b of boxes) {
      for (const next of kind(s.kind)?.parts.find((p) => p.name === b.part)?.to ?? []) {
        const to = boxes.find((o) => o.part === next);
        if (to) d.lines.push({ id: `${b.id}.${next}`, from: right(b), to: left(to), is: 'requests', rate: rate(next), live, words: { from: name(b), to: name(to) } });
      }
    }
    for (const o of uses(s, services, kind)) {
      const target = d.frames.find((f) => f.service.id === o.id)!;
      const from = narrow ? { x: frame.x + frame.width - 26, y: frame.y + frame.height } : { x: frame.x + frame.width, y: frame.y + frame.height / 2 };
      const to = narrow ? { x: target.x + target.width - 26, y: target.y } : { x: target.x, y: target.y + target.height / 2 };
      d.lines.push({ id: `${s.id}>${o.id}`, from, to, is: 'uses', live: live && (o.state === 'RUNNING' || o.state === 'ADAPTING'), words: { from: s.name, to: o.name } });
    }
  }
}

/** path is a line that leaves and arrives straight. */
export function path(l: Line, narrow: boolean): string {
  const { from: a, to: b } = l;
  if (narrow && Math.abs(b.y - a.y) > Math.abs(b.x - a.x)) {
    const k = Math.max(12, (b.y - a.y) / 2);
    return `M${a.x} ${a.y}C${a.x} ${a.y + k} ${b.x} ${b.y - k} ${b.x} ${b.y}`;
  }
  const k = Math.max(18, Math.abs(b.x - a.x) / 2);
  return `M${a.x} ${a.y}C${a.x + k} ${a.y} ${b.x - k} ${b.y} ${b.x} ${b.y}`;
}
