// What the reader may do, as the director would decide it. Screens hide or
// disable what is refused and give the reason; the director refuses all the same.
import type { Application } from './api';
import { t, text } from './text.svelte';

const rank = { viewer: 0, developer: 1, owner: 2 };
export type Access = keyof typeof rank;

/** accesses are the roles that people have in an application, from the least on. */
export const accesses: { id: Access; title: string; may: string }[] = [
  { id: 'viewer', title: text('Viewer'), may: text('Sees everything but secrets, downloads the code, fetches by git.') },
  { id: 'developer', title: text('Developer'), may: text('Also changes what runs: code, settings, variables, scale, data. Opens terminals, sees secrets, pushes by git.') },
  { id: 'owner', title: text('Owner'), may: text('Also lets people in, and deletes services and backups for good.') },
];

/** roleOf is the name of what somebody is to an application. */
export const roleOf = (access: string): string => t(accesses.find((a) => a.id === access)?.title ?? access);

/** may says whether the reader is at least this to an application. */
export const may = (a: Application | undefined, least: Access): boolean => rank[a?.access || 'owner'] >= rank[least];

/** refusal is why the reader may not, for what is disabled because of it; empty if they may. */
export function refusal(a: Application | undefined, least: Access): string {
  if (!a || may(a, least)) return '';
  const values = { owner: a.owner };
  if (least === 'developer') return t('You are a viewer here. Ask {owner} to make you a developer.', values);
  return a.access === 'viewer' ? t('You are a viewer here. Ask {owner} to make you an owner.', values) : t('You are a developer here. Ask {owner} to make you an owner.', values);
}
