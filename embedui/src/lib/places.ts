// The places that the navigation leads to. One is shown when there is a screen
// at its path for the reader, so a new screen needs a line here and one in
// screens.ts, in whichever order they come.
import { find } from '../screens/screens';
import type { IconName } from './icons';
import { live } from './live.svelte';
import { waiting } from './nodes';
import { t } from './text.svelte';

export interface Place {
  path: string;
  title: () => string;
  icon: IconName;
  /** the letter that goes there after g */
  key: string;
  /** it stands among the administrator's */
  admin?: boolean;
  /** how many things wait there for the reader */
  waiting?: () => number;
  /** it stands at the bottom of narrow windows */
  bar?: boolean;
}

const all: Place[] = [
  { path: '/', title: () => t('Overview'), icon: 'overview', key: 'o', bar: true },
  { path: '/applications', title: () => t('Applications'), icon: 'applications', key: 'a', bar: true },
  { path: '/instances', title: () => t('Instances'), icon: 'instances', key: 'n', bar: true },
  { path: '/operations', title: () => t('Operations'), icon: 'operations', key: 'p', bar: true },
  { path: '/logs', title: () => t('Logs'), icon: 'logs', key: 'l' },
  { path: '/terminal', title: () => t('Terminal'), icon: 'terminal', key: 't' },
  { path: '/backups', title: () => t('Backups'), icon: 'shield', key: 'b' },
  { path: '/bin', title: () => t('Bin'), icon: 'trash', key: 'r' },
  { path: '/nodes', title: () => t('Nodes'), icon: 'nodes', key: 'k', admin: true, waiting: () => waiting().length },
  { path: '/users', title: () => t('Users'), icon: 'users', key: 'u', admin: true },
  { path: '/audit', title: () => t('Audit'), icon: 'audit', key: 'd', admin: true },
  { path: '/settings', title: () => t('Settings'), icon: 'settings', key: 's', admin: true },
  { path: '/help', title: () => t('Help'), icon: 'info', key: 'h' },
];

/** places are those that the reader can go to. */
export function places(): Place[] {
  const admin = live.session?.user.admin ?? false;
  return all.filter((p) => find(p.path.split('/').filter(Boolean), new URLSearchParams(), admin));
}

/** hidden are places reached otherwise, by their letter. */
export const letters: Record<string, string> = { c: '/account', m: '/profile' };

/** isHere says whether a path is the one shown, or leads to it. */
export const isHere = (path: string, now: string): boolean => (path === '/' ? now === '/' : now === path || now.startsWith(path + '/'));
