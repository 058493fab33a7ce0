// The vocabulary of web hosting.
import type { components } from './schema';

type Schemas = components['schemas'];

export type Key = Schemas['Key'];
export type Repository = Schemas['Repository'];
export type Folder = Schemas['Folder'];
export type Upload = Schemas['Upload'];

/** CodeFile is one file of a code version. */
export type CodeFile = Schemas['File'];
export type Difference = Schemas['Difference'];
export type FileChange = Schemas['FileChange'];
export type Variable = Schemas['Variable'];
export type Site = Schemas['Site'];
export type Edge = Schemas['Edge'];
export type Series = Schemas['Series'];
export type Graph = Schemas['Graph'];
