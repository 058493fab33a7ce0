// Files that are on their way to an instance.
import type { Problem } from '../lib/api';
import { csrf, problemOf, unreachable } from '../lib/client';

export class Sending {
  readonly name: string;
  readonly bytes: number;
  sent = $state(0);
  phase = $state<'waiting' | 'sending' | 'done' | 'failed'>('waiting');
  why = $state.raw<Problem | null>(null);
  #file: File;
  #path: string;
  #request: XMLHttpRequest | null = null;

  constructor(file: File, path: string) {
    this.#file = file;
    this.#path = path;
    this.name = file.name;
    this.bytes = file.size;
  }

  /** run sends the file; fetch could not tell how far it is. */
  run(): Promise<boolean> {
    return new Promise((resolve) => {
      const r = new XMLHttpRequest();
      this.#request = r;
      [this.phase, this.sent, this.why] = ['sending', 0, null];
      const end = (why: Problem | null) => {
        this.#request = null;
        this.why = why;
        this.phase = why ? 'failed' : 'done';
        resolve(!why);
      };
      r.open('PUT', '/api/v1' + this.#path);
      r.setRequestHeader('X-CSRF-Token', csrf());
      r.setRequestHeader('Content-Type', 'application/octet-stream');
      r.upload.onprogress = (e) => (this.sent = e.loaded);
      r.onload = () => end(r.status < 300 ? null : problemOf(r.status, r.responseText).problem);
      r.onerror = () => end(unreachable().problem);
      r.onabort = () => end({ code: 'cancelled', message: '' });
      r.send(this.#file);
    });
  }

  cancel(): void {
    this.#request?.abort();
  }
}
