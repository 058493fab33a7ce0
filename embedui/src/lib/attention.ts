// What needs somebody's attention, worst first: what failed, why, and what to
// do about it.
import type { Problem } from './api';
import { full } from './format';
import type { IconName } from './icons';
import { live } from './live.svelte';
import { members, nodePath, waiting } from './nodes';
import { applicationPath, servicePath, subject } from './paths';
import { t, tn } from './text.svelte';

export interface Matter {
  id: string;
  tone: 'bad' | 'busy';
  icon: IconName;
  title: string;
  text: string;
  /** what to do */
  hint: string;
  href: string;
  go: string;
  /** since when, RFC 3339 */
  since?: string;
}

const week = 7 * 864e5;

/** matters are those of the installation as this reader sees it. */
export function matters(): Matter[] {
  const list: Matter[] = [];
  const told = new Set<string>();
  const operations = [...live.operations.values()].sort((a, b) => Date.parse(b.created) - Date.parse(a.created));
  const retried = new Set(operations.map((o) => o.retry_of).filter(Boolean));
  const lastFailure = (application: number, service: number): { id: string; error?: Problem; undone?: string } | undefined =>
    operations.find((o) => o.application === application && o.service === service && o.state === 'failed' && !retried.has(o.id));
  for (const s of live.services.values()) {
    if (s.state !== 'ERROR') continue;
    const o = lastFailure(s.application, s.id);
    if (o) told.add(o.id);
    list.push({ id: `s${s.application}.${s.id}`, tone: 'bad', icon: 'bolt', title: subject(s.application, s.id), text: full(s.reason), hint: full(o?.error?.hint ?? ''), href: servicePath(s), go: t('Open the service'), since: s.since });
  }
  for (const a of live.applications.values()) {
    if (a.state !== 'ERROR') continue;
    const o = lastFailure(a.id, 0);
    if (o) told.add(o.id);
    list.push({ id: `a${a.id}`, tone: 'bad', icon: 'applications', title: a.name, text: full(a.reason), hint: full(o?.error?.hint ?? ''), href: applicationPath(a), go: t('Open the application') });
  }
  for (const o of operations) {
    if (o.state !== 'failed' || retried.has(o.id) || told.has(o.id) || live.now - Date.parse(o.created) > week) continue;
    // what was done again with success, or is gone, needs nobody any more
    if (operations.some((n) => n.kind === o.kind && n.application === o.application && n.service === o.service && n.state === 'done' && n.created > o.created)) continue;
    if (!live.applications.has(o.application)) continue;
    list.push({ id: o.id, tone: 'bad', icon: 'operations', title: full(o.title).replace(/\.$/, ''), text: full(o.error?.message ?? ''), hint: full(o.error?.hint ?? o.undone ?? ''), href: '/operations/' + o.id, go: t('See what happened'), since: o.created });
  }
  for (const n of members()) if (n.state === 'lost') list.push({ id: 'n' + n.id, tone: 'bad', icon: 'nodes', title: t('Node {name} does not answer', { name: n.name }), text: full(n.reason ?? ''), hint: t('Its instances are replaced on other machines. Look at its power and its network; it joins again by itself.'), href: nodePath(n), go: t('Look at the node'), since: n.seen });
  const asking = waiting();
  if (asking.length) list.push({ id: 'joining', tone: 'busy', icon: 'nodes', title: tn('{n} machine wants to join', '{n} machines want to join', asking.length), text: asking.slice(0, 3).map((n) => [n.model, n.serial].filter(Boolean).join(', ')).join(' · '), hint: '', href: '/nodes', go: t('Let it join'), since: asking[0].joined });
  for (const a of live.applications.values()) if (a.offered) list.push({ id: `offer${a.id}`, tone: 'busy', icon: 'users', title: t('{owner} wants to hand {app} over to you', { owner: a.owner, app: a.name }), text: t('What it costs would be yours.'), hint: '', href: applicationPath(a) + '/people', go: t('Take it over or decline') });
  for (const c of live.clouds) if (!c.ready) list.push({ id: `c${c.name}`, tone: 'busy', icon: 'cloud', title: t('Cloud {name} cannot start instances', { name: c.name }), text: full(c.problem ?? ''), hint: '', href: '/help/operate', go: t('Read about clouds') });
  const lost = [...live.instances.values()].filter((i) => i.state === 'lost');
  if (lost.length) list.push({ id: 'lost', tone: 'busy', icon: 'instances', title: lost.length === 1 ? t('{id} does not answer', { id: lost[0].id }) : t('{n} instances do not answer', { n: lost.length }), text: full(lost[0].reason ?? ''), hint: t('They are replaced by themselves; services that keep data wait until the data is safe.'), href: '/instances?state=lost', go: t('Look at instances') });
  return list;
}
