// What a terminal's WebSocket carries, as roles/api has it: binary frames are
// bytes, text frames are these.
import type { Problem } from '../lib/api';

/** bytes that either side may send before the other acknowledged them */
export const windowOf = 256 * 1024;
/** bytes that are taken before the director hears of it */
export const ackEvery = 16 * 1024;
/** bytes in one frame */
export const chunk = 16 * 1024;

export interface Hello {
  instance: string;
  user: string;
  dir: string;
  /** the shell runs on the director's own machine */
  shared: boolean;
}

export interface Frame {
  hello?: Hello;
  resize?: { cols: number; rows: number };
  ack?: number;
  idle?: number;
  exit?: { code: number; signal?: string };
  error?: Problem;
}
