// What earlier operations tell about one that is thought of: how long it will
// take. Only those that this page knows are asked.
import type { Operation, Service } from '../lib/api';
import { live } from '../lib/live.svelte';

const length = (o: Operation): number => Date.parse(o.ended ?? '') - Date.parse(o.started ?? o.created);

/** usual is the median length in milliseconds of operations like one on services of a kind, and how many there were. */
export function usual(kind: string, service: Service, like: (o: Operation) => boolean = () => true): { ms: number; of: number } | undefined {
  const found: number[] = [];
  for (const o of live.operations.values()) {
    if (o.kind !== kind || o.state !== 'done' || !like(o)) continue;
    if (live.services.get(`${o.application}/${o.service}`)?.kind !== service.kind) continue;
    const ms = length(o);
    if (ms > 0) found.push(ms);
  }
  found.sort((a, b) => a - b);
  return found.length ? { ms: found[found.length >> 1], of: found.length } : undefined;
}

/** grows says that an operation was asked for more instances. */
export function grows(o: Operation): boolean {
  const r = o.request as { add?: Record<string, number> } | undefined;
  return !r?.add || Object.values(r.add).some((n) => n > 0);
}
