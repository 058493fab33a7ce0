// Which instances may be chosen to go, and the request that makes them go.
import type { Instance, Kind, Operation, Service } from '../lib/api';
import { post } from '../lib/client';
import { ofService, type Line } from '../lib/command';
import { live } from '../lib/live.svelte';
import { serviceApi, subject, underWay } from '../lib/paths';
import { t, tn } from '../lib/text.svelte';
import { tell } from '../lib/tell.svelte';
import { changeable } from './allowed';

const serviceOf = (i: Instance): Service | undefined => live.services.get(`${i.application}/${i.service}`);

// how many of each part are there when some have gone
function left(s: Service, going: Instance[]): Record<string, number> {
  const rest = { ...s.parts };
  for (const i of going) for (const p of i.parts) rest[p] = (rest[p] ?? 0) - 1;
  return rest;
}

/** keeps is why an instance has to stay, or nothing. going are those that go already. */
export function keeps(i: Instance, going: Instance[] = []): string {
  const s = serviceOf(i);
  if (!s) return t('the manager stays as long as its application runs');
  if (!changeable(s)) return t('your role in this application is to look');
  if (i.state !== 'ready' || i.parts.length === 0) return t('it is not ready');
  if (underWay(s.application, s.id)) return t('an operation is under way on its service');
  const kind: Kind | undefined = live.kind(s.kind);
  const rest = left(s, [...going.filter((o) => o.id !== i.id && o.application === i.application && o.service === i.service), i]);
  // What it holds may shrink; what there has to be of the rest moves to others.
  const shrinks = i.parts.some((p) => {
    const part = kind?.parts.find((x) => x.name === p);
    return part && !part.fixed && rest[p] >= part.min;
  });
  return shrinks ? '' : t('there must be one {parts}', { parts: i.parts.join(', ') });
}

/** Removal is the request by which instances of one service go. */
export interface Removal {
  service: Service;
  where: string;
  ids: string[];
  line: Line;
}

/** removals sort what was chosen by service: each makes one operation. */
export function removals(chosen: Instance[]): Removal[] {
  const found = new Map<string, Removal>();
  for (const i of chosen) {
    const s = serviceOf(i);
    if (!s) continue;
    const key = `${s.application}/${s.id}`;
    const r = found.get(key) ?? { service: s, where: subject(s.application, s.id), ids: [], line: ofService(s, 'scale', []) };
    r.ids.push(i.id);
    r.line = ofService(s, 'scale', ['--agent-id', r.ids.join(',')], { body: { remove: r.ids } });
    found.set(key, r);
  }
  return [...found.values()];
}

/** run begins all of them; what is refused is told. */
export async function run(all: Removal[]): Promise<void> {
  await Promise.all(all.map((r) => tell.begin(() => post<Operation>(serviceApi(r.service) + '/scale', { remove: r.ids }), tn('{n} instance of {where} has left.', '{n} instances of {where} have left.', r.ids.length, { where: r.where }))));
}
