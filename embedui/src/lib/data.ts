// The vocabulary of what services keep, offer and cost: the TypeScript side of
// roles/api/volume.go, backup.go and credit.go.
import type { Variable } from './hosting';

export type VolumeState = 'asked' | 'free' | 'attached' | 'leaving' | 'error';

/** Volume is storage that outlives instances. */
export interface Volume {
  id: string;
  application: number;
  service: number;
  name: string;
  /** whose holders get it; missing: a user's */
  part?: string;
  cloud: string;
  bytes: number;
  /** as measured last; 0: not known */
  used: number;
  instance?: string;
  state: VolumeState;
  reason?: string;
  created: string;
  since: string;
  snapshots: Snapshot[] | null;
}

export interface Snapshot {
  name: string;
  bytes: number;
  created: string;
}

/** Backup is a copy of a service's data; it stays when the service goes. */
export interface Backup {
  id: string;
  application: number;
  service: number;
  application_name: string;
  service_name: string;
  kind: string;
  why: string;
  state: 'taking' | 'ready' | 'error';
  problem?: string;
  bytes: number;
  taken: string;
  /** any moment from taken to here can be restored */
  until?: string;
  verified?: string;
  finding?: string;
  operation?: string;
}

export interface RestoreBackup {
  backup: string;
  at?: string;
  new?: string;
}

/** Secret is something that a kind's services need; own ones users may have shown once, and change. */
export interface Secret {
  name: string;
  title: string;
  help: string;
  own: boolean;
  shown: boolean;
  changed?: string;
}

/** Offer is a value that services of a kind offer to their siblings. */
export interface Offer {
  name: string;
  help: string;
  secret: boolean;
}

export interface Binding {
  service: string;
  kind: string;
  values: Record<string, string> | null;
}

export interface Bindings {
  offers: Binding;
  gets: Binding[] | null;
  variables: Variable[] | null;
}

/** Quota bounds what one user may have at a time; 0: no bound. */
export interface Quota {
  applications: number;
  instances: number;
  volume_bytes: number;
}

export interface Account {
  user: string;
  /** what can still be spent, holds taken off */
  credit: number;
  held: number;
  per_hour: number;
  /** when the credit is gone as things are */
  exhausted?: string;
  /** at zero this user's applications are stopped */
  enforced: boolean;
  quota: Quota;
  used: Quota;
}

export interface LedgerEntry {
  id: number;
  time: string;
  amount: number;
  balance: number;
  kind: string;
  reason: string;
  actor: string;
  application?: number;
  service?: number;
  instance?: string;
}

/** Template is a ready-made application. */
export interface Template {
  name: string;
  title: string;
  summary: string;
  kinds: string[] | null;
  /** per hour, manager included */
  credits: number;
  manifest: string;
  problem?: string;
}

/** Checked is what a manifest would make. */
export interface Checked {
  application: string;
  services: { name: string; kind: string; parts: Record<string, number> | null }[] | null;
  credits: number;
  missing: string[] | null;
}
