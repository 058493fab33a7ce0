// Everything that can be gone to and done, for the palette.
import type { Application, Operation, Service } from './api';
import { del, post } from './client';
import { sentence } from './format';
import type { IconName } from './icons';
import { live } from './live.svelte';
import { nodePath, sorted } from './nodes';
import { may } from './may';
import { applicationApi, applicationPath, serviceApi, servicePath, subject, underWay } from './paths';
import { places } from './places';
import { router } from './router.svelte';
import { wordOf } from './StateTag.svelte';
import { tell } from './tell.svelte';
import { languages, t, texts, type Language } from './text.svelte';
import { themes } from './theme.svelte';

export interface Doing {
  /** stays the same from day to day, for what was used last */
  id: string;
  icon: IconName;
  title: string;
  note: string;
  group: 'places' | 'applications' | 'services' | 'do' | 'others' | 'help';
  /** found only when something is typed */
  typed?: boolean;
  /** what it means, when it must be said a second time */
  sure?: string;
  run: () => void;
}

const go = (to: string) => () => router.go(to);

export function doings(titles: [string, string][], shortcuts: () => void): Doing[] {
  const list: Doing[] = places().map((p) => ({ id: p.path, icon: p.icon, title: p.title(), note: `g ${p.key}`, group: 'places', run: go(p.path) }));
  const terminal = list.some((d) => d.id === '/terminal');
  const put = (id: string, icon: IconName, group: Doing['group'], title: string, run: () => void, more: Partial<Doing> = {}) => list.push({ id, icon, group, title, note: '', run, ...more });
  put('/account', 'coin', 'places', t('Credits and ledger'), go('/account'), { note: 'g c' });
  put('/profile', 'user', 'places', t('Profile, sign-in, tokens and SSH keys'), go('/profile'), { note: 'g m' });
  put('new', 'plus', 'do', t('Create an application'), go('/applications?new'));
  put('template', 'applications', 'do', t('Start a ready-made application'), go('/applications?new=template'));
  put('manifest', 'script', 'do', t('Make an application of a manifest'), go('/applications?new=manifest'));
  for (const a of live.applications.values()) ofApplication(a, put);
  for (const s of live.services.values()) ofService(s, put, terminal);
  for (const i of live.instances.values()) {
    const where = i.service ? subject(i.application, i.service) : t('{name}, manager', { name: subject(i.application, 0) });
    put('i ' + i.id, 'instances', 'others', i.id, go(`/instances?search=${encodeURIComponent(i.id)}`), { note: [where, i.address].filter(Boolean).join(' · '), typed: true });
    if (terminal && i.service && i.state === 'ready' && may(live.applications.get(i.application), 'developer')) put('t ' + i.id, 'terminal', 'do', t('Terminal in {name}', { name: i.id }), go(`/terminal?instance=${encodeURIComponent(i.id)}`), { note: where, typed: true });
  }
  for (const n of sorted(live.nodes.values())) put('n ' + n.id, 'nodes', 'others', n.name || n.model, go(nodePath(n)), { note: [t('node'), wordOf(n.state), n.address].join(' · '), typed: true });
  for (const o of live.operations.values()) put('o ' + o.id, 'operations', 'others', sentence(o.title), go('/operations/' + o.id), { note: `${o.id} · ${o.state}`, typed: true });
  for (const [path, title] of titles) put('h ' + path, 'help', 'help', title, go('/help/' + path), { note: t('manual'), typed: true });
  put('api', 'code', 'help', t('Explore the API'), go('/help/api'), { typed: true });
  put('keys', 'keyboard', 'do', t('Keyboard shortcuts'), shortcuts, { note: '?' });
  put('light', 'sun', 'do', t('Theme: light'), () => themes.choose('light'));
  put('dark', 'moon', 'do', t('Theme: dark'), () => themes.choose('dark'));
  put('system', 'screen', 'do', t('Theme: as the system'), () => themes.choose('system'));
  for (const [id, name] of Object.entries(languages) as [Language, string][]) put(id, 'edit', 'do', t('Language: {name}', { name }), () => void texts.use(id));
  put('out', 'out', 'do', t('Sign out'), () => void del('/session').catch(() => undefined).then(() => live.forget()), { typed: true });
  return list;
}

type Put = (id: string, icon: IconName, group: Doing['group'], title: string, run: () => void, more?: Partial<Doing>) => void;

function ofApplication(a: Application, put: Put): void {
  const path = applicationPath(a);
  const id = `a${a.id}`;
  put(id, 'applications', 'applications', a.name, go(path), { note: t('application') });
  for (const [tab, icon, title] of [['graphs', 'graph', t('{name}: graphs', { name: a.name })], ['logs', 'logs', t('{name}: logs', { name: a.name })], ['people', 'people', t('{name}: people', { name: a.name })], ['timeline', 'clock', t('{name}: timeline', { name: a.name })]] as [string, IconName, string][]) put(id + tab, icon, 'applications', title, go(`${path}/${tab}`), { typed: true });
  if (!may(a, 'developer')) return;
  put(id + 'add', 'plus', 'do', t('Add a service to {name}', { name: a.name }), go(path + '/add'), { typed: true });
  if (underWay(a.id, 0)) return;
  if (['INIT', 'STOPPED', 'ERROR'].includes(a.state)) put(id + 'start', 'play', 'do', t('Start {name}', { name: a.name }), () => void tell.begin(() => post<Operation>(applicationApi(a) + '/start'), t('{name} runs.', { name: a.name })), { typed: true });
  else put(id + 'stop', 'stop', 'do', t('Stop {name}', { name: a.name }), () => void tell.begin(() => post<Operation>(applicationApi(a) + '/stop'), t('{name} is stopped; everything is kept.', { name: a.name })), { typed: true, sure: t('All services of {name} stop answering; everything is kept.', { name: a.name }) });
}

function ofService(s: Service, put: Put, terminal: boolean): void {
  const a = live.applications.get(s.application);
  const kind = live.kind(s.kind);
  const name = `${a?.name ?? s.application} / ${s.name}`;
  const id = `s${s.application}.${s.id}`;
  const tab = (word: string, icon: IconName, title: string) => put(id + word, icon, 'services', title, go(servicePath(s, word)), { typed: true });
  put(id, 'bolt', 'services', name, go(servicePath(s)), { note: kind?.title ?? s.kind });
  tab('logs', 'logs', t('{name}: logs', { name }));
  tab('graphs', 'graph', t('{name}: graphs', { name }));
  tab('settings', 'settings', t('{name}: settings', { name }));
  if (kind?.offers?.length) tab('access', 'key', t('{name}: access and password', { name }));
  if (kind?.backups) tab('backups', 'shield', t('{name}: backups', { name }));
  if (kind?.volumes) tab('volumes', 'disk', t('{name}: volumes', { name }));
  if (kind?.code.accepts) {
    tab('code', 'code', t('{name}: code versions and git', { name }));
    tab('environment', 'key', t('{name}: variables and secrets', { name }));
  }
  if (!may(a, 'developer')) return;
  if (kind?.parts.some((p) => p.max > p.min && !p.fixed)) put(id + 'scale', 'scale', 'do', t('Scale {name}', { name }), go(servicePath(s)), { typed: true });
  const first = terminal && [...live.instances.values()].find((i) => i.application === s.application && i.service === s.id && i.state === 'ready');
  if (first) put(id + 'terminal', 'terminal', 'do', t('Terminal in {name}', { name }), go(`/terminal?instance=${encodeURIComponent(first.id)}`), { typed: true });
  if (underWay(s.application, s.id) || a?.state !== 'RUNNING') return;
  if (['INIT', 'STOPPED', 'ERROR'].includes(s.state)) put(id + 'start', 'play', 'do', t('Start {name}', { name }), () => void tell.begin(() => post<Operation>(serviceApi(s) + '/start'), t('{name} runs.', { name: s.name })), { typed: true });
  else put(id + 'stop', 'stop', 'do', t('Stop {name}', { name }), () => void tell.begin(() => post<Operation>(serviceApi(s) + '/stop'), t('{name} is stopped; everything is kept.', { name: s.name })), { typed: true, sure: t('{name} stops answering; everything is kept.', { name }) });
}
