// What the monitor of a database cluster makes of the answers to "status":
// rates of counters, means over the nodes, and what looks wrong.
import type { ActResult, Instance, Json } from '../../lib/api';
import { percent } from '../../lib/format';
import { t } from '../../lib/text.svelte';
import { rows } from '../../service/actions';

export const kindsOfQueries = ['selects', 'inserts', 'updates', 'deletes'] as const;

/** Node is one row of the table. */
export interface Node {
  id: string;
  role: string;
  state: string;
  /** it answers and has all that was committed */
  synced: boolean;
  problem: string;
  queries: number;
  counters: Record<string, number>;
  connections: number;
  /** mean length of the queue of changes from other nodes */
  queue: number;
  /** share of the time that replication stood still, 0 to 1 */
  paused: number;
  data: number;
  disk: number;
  hits: number;
}

const num = (v: Json | undefined): number => (typeof v === 'number' && Number.isFinite(v) ? v : 0);
const str = (v: Json | undefined): string => (typeof v === 'string' ? v : '');

/** nodes reads the answer of the action; figures may stand in a field of their own. */
export function nodes(answer: ActResult): Node[] {
  return rows(answer).map((row) => {
    const figures = row.figures && typeof row.figures === 'object' && !Array.isArray(row.figures) ? row.figures : {};
    const r: Record<string, Json> = { ...row, ...figures };
    const state = str(r.state);
    return {
      id: str(r.node) || str(r.instance) || str(r.id) || str(r.name), role: str(r.role), state, problem: str(r.problem),
      synced: typeof r.synced === 'boolean' ? r.synced : /^synced$/i.test(state),
      queries: num(r.queries), counters: Object.fromEntries(kindsOfQueries.map((k) => [k, num(r[k])])),
      connections: num(r.connections), queue: num(r.queue) || num(r.misalignment), paused: num(r.paused), data: num(r.data_bytes), disk: num(r.disk_bytes), hits: num(r.hit_ratio),
    };
  });
}

/** Sample is one look: queries per second by kind, and the mean misalignment; null where nothing is known. */
export interface Sample {
  at: number;
  rates: Record<string, number | null>;
  misalignment: number | null;
}

/** sample compares two looks. A counter that fell is that of a server that was started again. */
export function sample(before: { at: number; all: Node[] } | null, now: { at: number; all: Node[] }): Sample {
  const seconds = before ? (now.at - before.at) / 1000 : 0;
  const rates: Record<string, number | null> = {};
  for (const k of kindsOfQueries) {
    let sum = 0;
    let known = false;
    for (const n of now.all) {
      const old = before?.all.find((o) => o.id === n.id);
      if (!old || n.counters[k] < old.counters[k]) continue;
      known = true;
      sum += n.counters[k] - old.counters[k];
    }
    rates[k] = known && seconds > 0 ? sum / seconds : null;
  }
  const queues = now.all.filter((n) => n.state || n.synced).map((n) => n.queue);
  return { at: now.at, rates, misalignment: queues.length ? queues.reduce((a, b) => a + b, 0) / queues.length : null };
}

/** Doubt is a figure that looks wrong, and what it may mean. */
export interface Doubt {
  node: string;
  field: 'state' | 'cpu' | 'memory' | 'disk' | 'queue' | 'paused';
  bad: boolean;
  text: string;
}

/** doubts finds what is conspicuous on a node. */
export function doubts(n: Node, i: Instance | undefined): Doubt[] {
  const found: Doubt[] = [];
  const say = (field: Doubt['field'], bad: boolean, text: string) => found.push({ node: n.id, field, bad, text });
  if (n.problem) say('state', true, n.problem);
  else if (!n.synced && n.role !== 'glb') say('state', !/join|donor|start/i.test(n.state), t('It does not have all data now ({state}), so it gets no queries.', { state: n.state || t('no answer') }));
  const f = i?.figures;
  if (f && f.cpu_percent > 85) say('cpu', f.cpu_percent > 95, t('Its processor is nearly used up: queries wait. More nodes help reads; for writes a larger machine does.'));
  if (f && f.memory_limit && percent(f.memory_bytes, f.memory_limit) > 75) say('memory', percent(f.memory_bytes, f.memory_limit) > 90, t('Little memory is left; the system may end the server.'));
  if (n.disk && percent(n.data, n.disk) > 85) say('disk', percent(n.data, n.disk) > 95, t('Its volume is nearly full. Grow it before writes fail.'));
  if (n.queue > 0.5) say('queue', n.queue > 5, t('Changes of other nodes wait to be applied: the node is behind, or overloaded.'));
  if (n.paused > 0.1) say('paused', n.paused > 0.3, t('Writes of the whole cluster were held back so that slow nodes could follow.'));
  return found;
}
