// The tabs of a service's page, as its kind's description makes them.
import type { Kind, Service } from '../lib/api';
import type { IconName } from '../lib/icons';
import { servicePath } from '../lib/paths';
import { t } from '../lib/text.svelte';
import { panelsOf } from '../panels/panels';
import { holds } from './actions';

/** Pages are what stands below one tab: the last word of the address, and a title. */
export type Pages = [string, string][];

export interface Tab {
  id: string;
  title: string;
  icon: IconName;
  note: string;
  href: string;
}

/** Has says what a service has to show, beside what its kind tells. */
export interface Has {
  /** it answers HTTP to the world */
  open: boolean;
  /** it is reached by address, account and password */
  access: boolean;
  volumes: boolean;
  /** actions that no other page shows */
  rest: boolean;
  instances: number;
}

const only = (pages: [string, string, boolean][]): Pages => pages.filter(([, , yes]) => yes).map(([id, title]) => [id, title]);

/** tabsOf are the tabs of a service, and the pages that some have below them. */
export function tabsOf(s: Service, kind: Kind | undefined, has: Has): { groups: Record<string, Pages>; tabs: Tab[] } {
  const groups: Record<string, Pages> = {
    settings: only([['settings', t('Settings'), !!kind?.settings.length], ['environment', t('Variables'), !!kind?.code.accepts], ['bindings', t('Bindings'), true], ['script', t('Startup script'), true], ['revisions', t('Changes'), true]]),
    data: only([['data', t('Contents'), !!kind && holds(kind)], ['backups', t('Backups'), !!kind?.backups], ['volumes', t('Volumes'), has.volumes]]),
  };
  const row = (id: string, title: string, icon: IconName, yes: unknown = true, note = ''): Tab[] => (yes ? [{ id, title, icon, note, href: servicePath(s, groups[id]?.[0]?.[0] ?? id) }] : []);
  const tabs = [
    ...row('', t('Overview'), 'overview'),
    ...row('code', t('Code'), 'code', kind?.code.accepts),
    ...panelsOf(s.kind).flatMap((p) => row(p.tab, p.title(), p.icon)),
    ...row('access', t('Access'), 'key', has.access),
    ...row('data', groups.data.length > 1 ? t('Data') : (groups.data[0]?.[1] ?? ''), groups.data[0]?.[0] === 'data' ? 'database' : 'disk', groups.data.length),
    ...row('graphs', t('Graphs'), 'operations'),
    ...row('settings', t('Settings'), 'settings'),
    ...row('sites', t('Addresses'), 'external', has.open),
    ...row('instances', t('Instances'), 'instances', true, String(has.instances || '')),
    ...row('logs', t('Logs'), 'logs'),
    ...row('actions', t('Actions'), 'bolt', has.rest),
    ...row('history', t('History'), 'clock'),
  ];
  return { groups, tabs };
}
