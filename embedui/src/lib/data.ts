// The vocabulary of what services keep, offer and cost.
import type { components } from './schema';

type Schemas = components['schemas'];

export type VolumeState = Volume['state'];

export type Member = Schemas['Member'];
export type Volume = Schemas['Volume'];
export type Snapshot = Schemas['Snapshot'];
export type Backup = Schemas['Backup'];
export type RestoreBackup = Schemas['RestoreBackup'];
export type Secret = Schemas['Secret'];
export type Offer = Schemas['Offer'];
export type Binding = Schemas['Binding'];
export type Bindings = Schemas['Bindings'];
export type Quota = Schemas['Quota'];
export type Account = Schemas['Account'];
export type LedgerEntry = Schemas['LedgerEntry'];
export type Template = Schemas['Template'];

/** Checked is what a manifest would make. */
export type Checked = Schemas['ManifestCheck'];
