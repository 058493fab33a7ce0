// Lines of logs as the director gives them, and where they stand in a window
// that is drawn: pure functions, without the page.
import type { components } from './schema';

type Schemas = components['schemas'];

export type LogLine = Schemas['LogLine'];
export type LogPage = Schemas['LogPage'];
export type LogSource = Schemas['LogSource'];
export type LogSilent = Schemas['LogSilent'];
export type LogCounts = Schemas['LogCounts'];

/** LogNews is one line of a stream that is followed. Where nothing is set, the stream only lives. */
export interface LogNews {
  page?: LogPage;
  line?: LogLine;
  silent?: LogSilent;
}

export const levels = ['error', 'warn', 'info', 'debug', 'other'] as const;

/** Filter chooses lines; empty fields choose all. */
export interface Filter {
  service: string;
  instance: string;
  log: string;
  search: string;
  regex: string;
  level: string;
  since: string;
  until: string;
}

const fields = ['service', 'instance', 'log', 'search', 'regex', 'level', 'since', 'until'] as const;

/** filterOf reads a filter from an address. */
export const filterOf = (query: URLSearchParams): Filter => Object.fromEntries(fields.map((f) => [f, query.get(f) ?? ''])) as unknown as Filter;

/** queryOf makes the query of a filter, with more of the same. */
export function queryOf(filter: Partial<Filter>, more: Record<string, string> = {}): string {
  const q = new URLSearchParams();
  for (const f of fields) if (filter[f]) q.set(f, filter[f]);
  for (const [name, value] of Object.entries(more)) if (value) q.set(name, value);
  const s = q.toString();
  return s && '?' + s;
}

/** placeOf is where a line stands, without the time by which it was merged: the same line always has the same. */
export const placeOf = (id: string): string => id.slice(id.indexOf('~') + 1);

/** Piece is a stretch of a line that was searched for, or was not. */
export interface Piece {
  text: string;
  hit: boolean;
}

/** piecesOf cuts a line's text where it has what was searched for. */
export function piecesOf(line: LogLine): Piece[] {
  if (!line.matches?.length) return [{ text: line.text || ' ', hit: false }];
  const pieces: Piece[] = [];
  let at = 0;
  for (const [from = 0, to = 0] of line.matches as unknown as [number, number][]) {
    if (from > at) pieces.push({ text: line.text.slice(at, from), hit: false });
    pieces.push({ text: line.text.slice(from, to), hit: true });
    at = to;
  }
  if (at < line.text.length) pieces.push({ text: line.text.slice(at), hit: false });
  return pieces;
}

const two = (n: number) => String(n).padStart(2, '0');

/** timeOf is the time of a line as it stands before it: the day only where it is not today. */
export function timeOf(line: LogLine, today: string): string {
  if (!line.at) return '–';
  const d = new Date(line.at);
  const clock = `${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}.${String(d.getMilliseconds()).padStart(3, '0')}`;
  return d.toDateString() === today ? clock : `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${clock.slice(0, 8)}`;
}

/** colourOf gives each writer one of six colours, always the same. */
export function colourOf(line: { instance: string }): number {
  let h = 0;
  for (let i = 0; i < line.instance.length; i++) h = (h * 31 + line.instance.charCodeAt(i)) >>> 0;
  return h % 6;
}

const writerLetters = 22;

/** writerOf is who wrote a line and in which log, cut to fit before its text. */
export function writerOf(line: LogLine): [string, string] {
  const who = (line.service ? line.service + ' ' : '') + line.instance.replace(/^a\d+-s\d+-/, '') + ' ';
  const log = line.log.replace(/\.log$/, '');
  if (who.length + log.length <= writerLetters) return [who, log];
  return who.length < writerLetters ? [who, log.slice(0, writerLetters - 1 - who.length) + '…'] : [who.slice(0, writerLetters - 1) + '…', ''];
}

const tabWidth = 4;

/**
 * Rows knows how high each line is, in rows. Where lines are not wrapped, each
 * is one; else their letters are counted, which is exact for letters of one
 * width. What is measured otherwise on the page is told by correct.
 */
export class Rows {
  #ends: number[] = [];
  #measured = new Map<string, number>();
  #columns = 0; // 0: not wrapped

  /** reset counts anew: columns is how many letters a row has, 0 for lines that are not wrapped. */
  reset(lines: LogLine[], columns: number): void {
    if (columns !== this.#columns) this.#measured.clear();
    this.#columns = columns;
    this.#ends = [];
    this.grow(lines);
  }

  /** grow counts lines that were added at the end. */
  grow(lines: LogLine[]): void {
    if (!this.#columns) return;
    if (this.#ends.length > lines.length) this.#ends = []; // others stand there now
    let end = this.#ends.at(-1) ?? 0;
    for (let i = this.#ends.length; i < lines.length; i++) this.#ends.push((end += this.#rowsOf(lines[i]!)));
  }

  #rowsOf(line: LogLine): number {
    const measured = this.#measured.get(line.id);
    if (measured) return measured;
    let letters = line.text.length;
    if (line.text.includes('\t')) {
      letters = 0;
      for (const c of line.text) letters += c === '\t' ? tabWidth - (letters % tabWidth) : 1;
    }
    return Math.max(1, Math.ceil(letters / this.#columns));
  }

  /** correct says that a line has another height than was counted; true if that is news. */
  correct(lines: LogLine[], i: number, rows: number): boolean {
    const line = lines[i];
    if (!this.#columns || !line || rows < 1 || this.high(i) === rows) return false;
    this.#measured.set(line.id, rows);
    return true;
  }

  /** top is where line i begins. */
  top(i: number): number {
    if (!this.#columns) return i;
    return i <= 0 ? 0 : (this.#ends[Math.min(i, this.#ends.length) - 1] ?? 0);
  }

  high(i: number): number {
    return this.top(i + 1) - this.top(i);
  }

  /** at is the line at a row. */
  at(row: number, lines: number): number {
    if (!this.#columns) return Math.max(0, Math.min(lines - 1, Math.floor(row)));
    let [lo, hi] = [0, Math.max(0, lines - 1)];
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if ((this.#ends[mid] ?? 0) > row) hi = mid;
      else lo = mid + 1;
    }
    return lo;
  }
}
