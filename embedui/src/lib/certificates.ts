// Host names whose certificates end soon, or that have a problem.
import { get, list } from './client';
import type { Edge, Site } from './hosting';
import { live } from './live.svelte';
import { serviceApi, servicePath } from './paths';

export interface Ailing {
  site: Site;
  href: string;
}

const soon = 14 * 864e5;
const most = 40;
const season = 90 * 864e5;

/** ending says whether the installation's own authority ends within a season, which takes planning. */
export const ending = (expires: string, now: number): boolean => Date.parse(expires) - now < season;

/** ailing asks the services that run for their names, once. */
export async function ailing(): Promise<Ailing[]> {
  const edge = await get<Edge>('/edge');
  if (!edge.on) return [];
  const services = [...live.services.values()].filter((s) => s.state === 'RUNNING' && s.urls.some((u) => /^https?:/.test(u))).slice(0, most);
  const found: Ailing[] = [];
  for (const s of services) {
    for (const site of await list<Site>(serviceApi(s) + '/sites').catch(() => [])) {
      const ends = site.expires ? Date.parse(site.expires) - Date.now() : Infinity;
      // those that are renewed by themselves are told only when that failed
      if (site.problem || (site.certificate === 'file' && ends < soon)) found.push({ site, href: servicePath(s, 'sites') });
    }
  }
  return found;
}
