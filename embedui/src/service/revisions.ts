// What a service was asked to be, and who asked.
import type { Service } from '../lib/api';
import { list } from '../lib/client';
import { serviceApi } from '../lib/paths';
import type { components } from '../lib/schema';

export type Revision = components['schemas']['Revision'];
export type RevisionChange = components['schemas']['RevisionChange'];

/** Made says who changed something, and when. */
export interface Made {
  by: string;
  time: string;
}

export const revisionsOf = (s: Service): Promise<Revision[]> => list<Revision>(serviceApi(s) + '/revisions');

/** madeBy tells who changed each thing of one sort last. Not being told is no harm. */
export async function madeBy(s: Service, what: string): Promise<Record<string, Made>> {
  const made: Record<string, Made> = {};
  for (const r of await revisionsOf(s).catch(() => [])) for (const c of r.changes) if (c.what === what) made[c.name] ??= { by: r.by, time: r.time };
  return made;
}

/** back is what changes when a service goes back to a revision; all are newest first. How many of each part there are stays. */
export function back(all: Revision[], to: number): RevisionChange[] {
  const found = new Map<string, RevisionChange>();
  for (const r of all) {
    if (r.number <= to) break;
    for (const c of r.changes) {
      if (c.what === 'parts') continue;
      const key = c.what + ' ' + c.name;
      const newest = found.get(key);
      found.set(key, { ...c, from: newest ? newest.from : c.to, to: c.from, secret: c.secret || newest?.secret });
    }
  }
  return [...found.values()].filter((c) => c.secret || c.from !== c.to);
}

/** plainly is a value as a revision keeps it, for people: settings are kept as JSON. */
export function plainly(c: RevisionChange, value: string): string {
  if (c.what !== 'settings' || value === '') return value;
  try {
    const v: unknown = JSON.parse(value);
    return typeof v === 'string' ? v : Array.isArray(v) ? v.map(String).join(',') : value;
  } catch {
    return value;
  }
}
