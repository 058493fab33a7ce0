// The curve of an account: the balance as the ledger has it, and where it goes
// as things are.
import type { Account, LedgerEntry } from './data';
import { clock, never } from './format';
import { t } from './text.svelte';

const [width, height] = [600, 150];

export interface Curve {
  past: string;
  ahead: string;
  area: string;
  nowAt: number;
  top: number;
  from: string;
  to: string;
  label: string;
}

/** balance draws the last two weeks at most, and as much ahead as there is behind. */
export function balance(ledger: LedgerEntry[], account: Account, now: number): Curve | null {
  const entries = [...ledger].sort((a, b) => a.id - b.id).filter((e) => Date.parse(e.time) > now - 14 * 864e5);
  if (entries.length < 2) return null;
  const begin = Date.parse(entries[0].time);
  const past = now - begin;
  const gone = never(account.exhausted) ? 0 : Math.max(0, Date.parse(account.exhausted!) - now);
  const charged = account.per_hour > 0 && account.credit > 0;
  // far enough to see the end when it is near, not so far that the past is a line
  const ahead = charged ? Math.max(past * 0.25, Math.min(gone * 1.08 || past * 0.6, past)) : 0;
  const last = entries.at(-1)!.balance;
  const top = Math.max(...entries.map((e) => e.balance), last, 1);
  const x = (time: number) => (width * (time - begin)) / (past + ahead);
  const y = (b: number) => height - (height * Math.max(0, b)) / (top * 1.06);
  const points: [number, number][] = [];
  // a balance holds until the next entry: steps
  for (const e of entries) {
    const at = x(Date.parse(e.time));
    if (points.length) points.push([at, points.at(-1)![1]]);
    points.push([at, y(e.balance)]);
  }
  points.push([x(now), y(last)]);
  const text = (p: [number, number][]) => p.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`).join(' ');
  const end = now + ahead;
  const ended = last - (account.per_hour * ahead) / 3600_000;
  const zero = ended < 0 ? now + (last * 3600_000) / account.per_hour : end;
  const day = (time: number) => clock(new Date(time).toISOString()).replace(/:\d\d$/, '');
  return {
    past: text(points),
    ahead: charged ? text([[x(now), y(last)], [x(zero), y(Math.max(0, ended))], [x(end), y(Math.max(0, ended))]]) : '',
    area: `0,${height} ${text(points)} ${x(now).toFixed(1)},${height}`,
    nowAt: x(now),
    top,
    from: day(begin),
    to: day(end),
    label: t('Balance: {first} on {day}, {last} now', { first: entries[0].balance, day: day(begin), last }) + (charged && gone ? ', ' + t('used up on {day} as things are', { day: day(now + gone) }) : ''),
  };
}
