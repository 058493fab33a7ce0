// The vocabulary of web hosting: the TypeScript side of roles/api/code.go and
// roles/api/traffic.go.

export interface Key {
  id: string;
  name: string;
  type: string;
  fingerprint: string;
  created: string;
  used?: string;
}

export interface Repository {
  clone: string;
  url: string;
  host_key: string;
  branch: string;
  commit: string;
  subject: string;
  pushed?: string;
  bytes: number;
  branches: string[] | null;
  folders: Folder[] | null;
}

/** Folder is where a service's code lives in the repository. */
export interface Folder {
  service: number;
  names: string[];
  found: string;
  version: string;
}

/** Upload is an upload under way; the next piece begins at offset. */
export interface Upload {
  id: string;
  filename: string;
  offset: number;
  bytes: number;
  expires: string;
}

/** CodeFile is one file of a code version. */
export interface CodeFile {
  path: string;
  bytes: number;
  mode: string;
  link?: string;
  sha256?: string;
}

export interface Difference {
  from: string;
  to: string;
  files: FileChange[] | null;
  same: number;
  omitted: number;
}

export interface FileChange {
  path: string;
  change: 'added' | 'removed' | 'changed';
  before: number;
  after: number;
}

/** Variable is an environment variable; a secret's value is never told. */
export interface Variable {
  name: string;
  value: string;
  secret?: boolean;
}

export interface Site {
  name: string;
  automatic: boolean;
  certificate: string;
  expires?: string;
  url: string;
  problem?: string;
}

export interface Edge {
  on: boolean;
  domain: string;
  https: number;
  http: number;
  acme: boolean;
  fallback?: string;
}

/** Series is a line of a graph: times in seconds since 1970, and values. */
export interface Series {
  name: string;
  labels?: Record<string, string>;
  points: [number, number][] | null;
}

export interface Graph {
  id: string;
  title: string;
  unit: string;
  since: string;
  until: string;
  step: number;
  series: Series[] | null;
}
