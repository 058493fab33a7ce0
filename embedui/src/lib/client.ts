// The one way to the director: same-origin JSON with the session cookie, the
// CSRF header on changes, and errors as problems with a hint.
import type { Operation, Problem } from './api';
import { t } from './text.svelte';

/** ApiError is a problem that the director answered, or that the way to it made. */
export class ApiError extends Error {
  readonly problem: Problem;
  constructor(problem: Problem) {
    super(problem.message);
    this.problem = problem;
  }
}

const link = { csrf: '', signedOut: () => {} };

/** setCsrf keeps the token of the session for later changes. */
export function setCsrf(token: string): void {
  link.csrf = token;
}

export function csrf(): string {
  return link.csrf;
}

/** onSignedOut is told when the director says that there is no session any more. */
export function onSignedOut(tell: () => void): void {
  link.signedOut = tell;
}

/** unreachable is the problem shown when no answer came at all, to a request that changes something or one that only reads. */
export function unreachable(changes = false): ApiError {
  return new ApiError({
    code: 'unavailable',
    message: t('Nutshell does not answer.'),
    hint: changes
      ? t('Whether it was done is not known: look before you do it again. This page reconnects by itself.')
      : t('Check that the director runs; this page reconnects by itself.'),
  });
}

/** problemOf reads a failed answer, whatever it is. */
export function problemOf(status: number, text: string, retryAfter?: string | null): ApiError {
  let problem: Problem | undefined;
  try {
    const body = JSON.parse(text);
    if (body && typeof body === 'object') {
      problem = body as Problem;
      problem.message ||= (body.detail as string) || problem.title || '';
    }
  } catch {
    // not JSON: a proxy answered, or the connection broke half-way
  }
  problem ??= { code: 'internal', message: '' };
  problem.status = status;
  problem.code ||= status === 401 ? 'unauthorized' : status === 429 ? 'too_many_requests' : 'internal';
  problem.message ||= t('The director answered with status {status}.', { status });
  if (status === 429 && retryAfter && !problem.hint) problem.hint = t('Try again in {n} seconds.', { n: retryAfter });
  return new ApiError(problem);
}

export interface Options {
  method?: string;
  body?: unknown;
  signal?: AbortSignal;
  /** the same key twice is one operation */
  once?: boolean;
  /** the revision that was seen: what others changed since is not overwritten */
  seen?: number;
}

export function idempotencyKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (b) => b.toString(16).padStart(2, '0')).join('');
}

/** raw sends a request below /api/v1 and returns the answer if it is a good one. */
export async function raw(path: string, options: Options = {}): Promise<Response> {
  const method = options.method ?? 'GET';
  const headers: Record<string, string> = { Accept: 'application/json, application/problem+json, text/plain' };
  let body: string | undefined;
  if (options.body !== undefined) {
    headers['Content-Type'] = 'application/json';
    body = JSON.stringify(options.body);
  }
  if (method !== 'GET') headers['X-CSRF-Token'] = link.csrf;
  if (options.seen) headers['If-Match'] = String(options.seen);
  if (options.once) headers['Idempotency-Key'] = idempotencyKey();
  let response: Response;
  try {
    response = await fetch('/api/v1' + path, { method, headers, body, signal: options.signal, credentials: 'same-origin', cache: 'no-store' });
  } catch (e) {
    if (options.signal?.aborted) throw e;
    throw unreachable(method !== 'GET');
  }
  if (!response.ok) {
    if (response.status === 401 && path !== '/session') link.signedOut();
    throw problemOf(response.status, await response.text(), response.headers.get('Retry-After'));
  }
  return response;
}

async function json<T>(path: string, options?: Options): Promise<T> {
  const response = await raw(path, options);
  const text = await response.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

export const get = <T>(path: string, signal?: AbortSignal): Promise<T> => json<T>(path, { signal });
export const list = async <T>(path: string, signal?: AbortSignal): Promise<T[]> => (await json<T[] | null>(path, { signal })) ?? [];
export const post = <T>(path: string, body?: unknown): Promise<T> => json<T>(path, { method: 'POST', body: body ?? {}, once: true });
export const patch = <T>(path: string, body: unknown, seen?: number): Promise<T> => json<T>(path, { method: 'PATCH', body, seen });
export const put = <T>(path: string, body: unknown, seen?: number): Promise<T> => json<T>(path, { method: 'PUT', body, seen });
export const del = <T>(path: string): Promise<T> => json<T>(path, { method: 'DELETE' });

/** isOperation tells a 202's operation from a thing that was changed at once. */
export function isOperation(value: unknown): value is Operation {
  return typeof value === 'object' && value !== null && 'steps' in value && 'progress' in value;
}

/** problem makes a Problem of whatever was thrown. */
export function problem(e: unknown): Problem {
  if (e instanceof ApiError) return e.problem;
  return { code: 'internal', message: e instanceof Error ? e.message : String(e) };
}
