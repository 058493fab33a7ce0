// What a kind shows beside what its description makes of itself. A new kind
// needs no line here; one that has more to show adds a panel, which is fetched
// when it is looked at.
import type { Component } from 'svelte';
import type { Instance, Kind, Service } from '../lib/api';
import type { IconName } from '../lib/icons';
import { t } from '../lib/text.svelte';

export interface PanelProps {
  service: Service;
  kind: Kind;
  instances: Instance[];
}

export interface Panel {
  /** the last word of its address */
  tab: string;
  title: () => string;
  icon: IconName;
  /** actions that it shows, so that nobody else does */
  covers: string[];
  load: () => Promise<{ default: Component<PanelProps> }>;
}

const panels: Record<string, Panel[]> = {
  mysql: [{ tab: 'monitor', title: () => t('Cluster'), icon: 'database', covers: ['status', 'get_performance'], load: () => import('./mysql/Cluster.svelte') }],
  generic: [{ tab: 'scripts', title: () => t('Scripts'), icon: 'script', covers: ['run', 'interrupt', 'cleanup', 'get_script_status'], load: () => import('./generic/Scripts.svelte') }],
};

type Connect = Component<{ service: Service; values: Record<string, string> }>;

/** connects are lines for programs, by kind; values are what a service offers. */
const connects: Record<string, () => Promise<{ default: Connect }>> = {
  mysql: () => import('./mysql/Connect.svelte'),
};

/** connectOf loads what a kind says about connecting to it from a program. */
export const connectOf = (kind: string): (() => Promise<{ default: Connect }>) | undefined => connects[kind];

/** panelsOf are a kind's own panels. */
export const panelsOf = (kind: string): Panel[] => panels[kind] ?? [];

/** covered are the actions that a kind's own panels show. */
export const covered = (kind: string): Set<string> => new Set(panelsOf(kind).flatMap((p) => p.covers));
