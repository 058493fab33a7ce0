// The vocabulary of the API, as the director sends it: the TypeScript side of
// roles/api. Written by hand in the shape that a generator would give it, so
// that it can be replaced by types made from /api/v1/openapi.json.
import type { Offer, Secret } from './data';

export type State = 'INIT' | 'PROLOGUE' | 'RUNNING' | 'ADAPTING' | 'EPILOGUE' | 'STOPPED' | 'ERROR';
export type Goal = 'started' | 'stopped';
export type InstanceState = 'asked' | 'booting' | 'ready' | 'lost' | 'leaving';
export type OperationState = 'pending' | 'running' | 'done' | 'failed' | 'cancelled';
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

export interface Application {
  id: number;
  name: string;
  owner: string;
  /** what the asker is to it */
  access: 'viewer' | 'developer' | 'owner';
  state: State;
  desired: Goal;
  cloud: string;
  manager?: Instance;
  reason: string;
  created: string;
  services?: Service[];
  operation?: string;
}

export interface Service {
  id: number;
  application: number;
  name: string;
  kind: string;
  state: State;
  desired: Goal;
  reason: string;
  cloud: string;
  parts: Record<string, number>;
  settings: Record<string, Json>;
  version?: string;
  /** a push activates the version it makes */
  auto_deploy?: boolean;
  /** newest code versions that are kept, 0: all */
  keep_versions?: number;
  /** names of the siblings whose offers it gets; "*": all */
  bind?: string[] | null;
  serving?: string;
  urls: string[];
  operation?: string;
  created: string;
  since: string;
  instances?: Instance[];
}

export interface Instance {
  id: string;
  application: number;
  service: number;
  cloud: string;
  address: string;
  parts: string[];
  state: InstanceState;
  reason?: string;
  created: string;
  figures?: Figures;
  /** shares of the requests by part; 100 where a part is missing */
  weights?: Record<string, number>;
}

export interface Figures {
  at: string;
  cpu_percent: number;
  memory_bytes: number;
  memory_limit: number;
  disk_bytes: number;
  processes: number;
}

export interface Process {
  name: string;
  state: string;
  pid: number;
  restarts: number;
  since: string;
  message?: string;
}

export interface Log {
  name: string;
  description: string;
  bytes: number;
}

export interface AgentStatus {
  instance: string;
  booted: string;
  ready: boolean;
  problem?: string;
  processes: Process[] | null;
  logs: Log[] | null;
  figures: Figures;
  kind?: Json;
}

export interface Change {
  time: string;
  state: State;
  reason: string;
}

export interface CodeVersion {
  id: string;
  filename: string;
  description: string;
  format: string;
  strip: string;
  bytes: number;
  sha256: string;
  files: number;
  by: string;
  created: string;
  current: boolean;
}

export interface Step {
  name: string;
  state: OperationState;
  detail?: string;
  started?: string;
  ended?: string;
}

export interface Operation {
  id: string;
  kind: string;
  title: string;
  actor: string;
  application: number;
  service: number;
  state: OperationState;
  steps: Step[] | null;
  progress: number;
  request?: Json;
  error?: Problem;
  undone?: string;
  cancelling?: boolean;
  cancellable: boolean;
  retry_of?: string;
  created: string;
  started?: string;
  ended?: string;
  deadline: string;
}

/** Problem is api.Error with what problem+json adds. */
export interface Problem {
  code: string;
  op?: string;
  object?: string;
  message: string;
  hint?: string;
  related?: string;
  fields?: string[];
  log_tail?: string[];
  status?: number;
  title?: string;
}

export interface Event {
  id: number;
  time: string;
  type: string;
  application: number;
  service: number;
  object: string;
  data: unknown;
}

export interface User {
  id: number;
  name: string;
  email: string;
  first_name: string;
  last_name: string;
  affiliation: string;
  admin: boolean;
  credit: number;
  created: string;
}

export interface Session {
  user: User;
  csrf: string;
}

export interface Token {
  id: string;
  name: string;
  scope: string;
  created: string;
  expires: string;
  used?: string;
}

export interface NewToken {
  token: Token;
  secret: string;
}

export interface AuditEntry {
  id: number;
  time: string;
  actor: string;
  from: string;
  action: string;
  object: string;
  result: string;
}

export interface Cloud {
  name: string;
  driver: string;
  default: boolean;
  ready: boolean;
  problem?: string;
  instances: number;
}

export interface Kind {
  name: string;
  title: string;
  summary: string;
  parts: Part[];
  settings: Setting[];
  actions: Action[];
  code: { accepts: boolean; help: string };
  packages: string[] | null;
  offers?: Offer[] | null;
  secrets?: Secret[] | null;
  /** users may make volumes for its instances */
  volumes?: boolean;
  /** it can be backed up and restored */
  backups?: boolean;
}

export interface Part {
  name: string;
  title: string;
  summary: string;
  default: number;
  min: number;
  max: number;
  fixed: boolean;
  ports: { number: number; use: string; public: boolean }[];
  /** name of the volume that each of its holders has */
  volume?: string;
}

export interface Setting {
  name: string;
  title: string;
  help: string;
  type: string;
  default: Json;
  enum?: string[];
  pattern?: string;
  min?: number;
  max?: number;
  unit?: string;
  restart: boolean;
}

export interface Action {
  name: string;
  title: string;
  summary: string;
  params: Parameter[];
  reads: boolean;
  /** what the file is that it is sent */
  takes?: string;
  /** name of the file that it answers */
  gives?: string;
  /** the secret that it changes to its parameter "password", or to a random one */
  secret?: string;
}

export interface Parameter {
  name: string;
  help: string;
  required: boolean;
  enum?: string[];
}

export interface Scale {
  add?: Record<string, number>;
  set?: Record<string, number>;
  cloud?: string;
  remove?: string[];
}

export interface Preview {
  parts: Record<string, number>;
  launch: string[][] | null;
  leave: string[] | null;
  change: string[] | null;
  credits: number;
}

export interface ActResult {
  text: string;
  result?: Json;
}

export interface Version {
  version: string;
  revision: string;
  go: string;
  installation: string;
  binary_sha256: string;
}
