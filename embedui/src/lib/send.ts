// Files of any size, sent as they are: the browser reads them while it sends.
import type { Problem } from './api';
import { csrf, idempotencyKey, problemOf, unreachable } from './client';

/** Sending is a file on its way. */
export interface Sending {
  /** the answer's text, or an ApiError */
  answer: Promise<string>;
  /** undefined answers are those of a sending that was stopped */
  stop: () => void;
}

/** send sends a file below /api/v1 and tells how many bytes have left. */
export function send(path: string, body: Blob, type: string, progress: (sent: number) => void): Sending {
  const request = new XMLHttpRequest();
  const answer = new Promise<string>((resolve, reject) => {
    request.open('POST', '/api/v1' + path);
    request.setRequestHeader('Accept', 'application/json, application/problem+json');
    request.setRequestHeader('Content-Type', type);
    request.setRequestHeader('X-CSRF-Token', csrf());
    request.setRequestHeader('Idempotency-Key', idempotencyKey());
    request.upload.onprogress = (e) => progress(e.loaded);
    request.onload = () => (request.status >= 200 && request.status < 300 ? resolve(request.responseText) : reject(problemOf(request.status, request.responseText, request.getResponseHeader('Retry-After'))));
    request.onerror = () => reject(unreachable());
    request.onabort = () => reject(new Stopped());
    request.send(body);
  });
  return { answer, stop: () => request.abort() };
}

/** Stopped is the end of a sending that the user stopped. */
export class Stopped extends Error {}

/** Pace says how fast something goes, from what was there at moments. */
export class Pace {
  #marks: [number, number][] = [];

  /** mark notes the bytes at this moment; the answer is bytes per second over the last ones. */
  mark(bytes: number): number {
    const now = performance.now();
    this.#marks = [...this.#marks.filter(([t]) => now - t < 5000), [now, bytes]];
    const [t, first] = this.#marks[0];
    return now - t > 300 ? (1000 * (bytes - first)) / (now - t) : 0;
  }
}

/** lineOf is the line that a problem speaks of, 0 where it names none. What it is about goes before what is said: a database counts lines of statements there. */
export const lineOf = (p: Problem | null): number => Number(/\bline (\d+)/i.exec(`${p?.object ?? ''} ${p?.message ?? ''}`)?.[1] ?? 0);
