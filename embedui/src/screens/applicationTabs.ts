// The tabs of an application that are screens of their own: fetched when
// somebody opens them, and one line here each. A tab gets the application.
import type { Component } from 'svelte';
import type { Application } from '../lib/api';
import type { IconName } from '../lib/icons';
import { t } from '../lib/text.svelte';

export interface ApplicationTab {
  id: string;
  title: () => string;
  icon: IconName;
  load: () => Promise<{ default: Component<{ app: Application }> }>;
}

export const applicationTabs: ApplicationTab[] = [
  { id: 'people', title: () => t('People'), icon: 'users', load: () => import('./People.svelte') },
  { id: 'graphs', title: () => t('Graphs'), icon: 'graph', load: () => import('../lib/ApplicationGraphs.svelte') },
  { id: 'timeline', title: () => t('Timeline'), icon: 'clock', load: () => import('../lib/ApplicationTimeline.svelte') },
  { id: 'logs', title: () => t('Logs'), icon: 'logs', load: () => import('./Logs.svelte') },
];
