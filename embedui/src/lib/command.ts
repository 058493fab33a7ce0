// The same thing on the command line: what a page does, as a line to copy.
import type { Application, Service } from './api';
import { live } from './live.svelte';

/** Line is one action as the CLI and as a request of the API. */
export interface Line {
  cli: string;
  method: string;
  path: string;
  body?: unknown;
  /** name of a file that is sent as the body */
  file?: string;
}

export function quote(word: string): string {
  return /^(~\/)?[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

export function curl(line: Line): string {
  const parts = ['curl', '-u', `${quote(live.session?.user.name ?? 'USER')}`];
  if (line.method !== 'GET') parts.push('-X', line.method);
  if (line.file) parts.push('--data-binary', quote('@' + line.file));
  else if (line.body !== undefined) parts.push('-H', "'Content-Type: application/json'", '-d', quote(JSON.stringify(line.body)));
  parts.push(quote(location.origin + '/api/v1' + line.path));
  return parts.join(' ');
}

const cli = (...words: string[]): string => 'nutshell ' + words.map((w) => (w.startsWith('…') ? w : quote(w))).join(' ');

/** called is how the reader names an application on the command line: another's by its owner and name, as git does. */
export const called = (a: Application): string => (a.owner === live.session?.user.name ? a.name : `${a.owner}/${a.name}`);

/** of makes the lines for an application. */
export function ofApplication(a: Application, verb: string, method = 'POST', suffix = '/' + verb, body: unknown = {}): Line {
  return { cli: cli('application', verb, called(a)), method, path: `/applications/${a.id}${suffix}`, body: method === 'POST' ? body : undefined };
}

/** ofService makes a line of the form "nutshell service VERB APP SERVICE …". */
export function ofService(s: Service, verb: string, more: string[], request: { method?: string; suffix?: string; body?: unknown; file?: string } = {}): Line {
  const a = live.applications.get(s.application);
  return {
    cli: cli('service', verb, a ? called(a) : String(s.application), s.name, ...more),
    method: request.method ?? 'POST',
    path: `/applications/${s.application}/services/${s.id}${request.suffix ?? '/' + verb}`,
    body: request.body,
    file: request.file,
  };
}

/** ofKind makes a line of the form "nutshell php VERB APP SERVICE …". */
export function ofKind(s: Service, verb: string, more: string[], request: { method?: string; suffix?: string; body?: unknown; file?: string } = {}): Line {
  const line = ofService(s, verb, more, request);
  return { ...line, cli: line.cli.replace(/^nutshell service/, 'nutshell ' + s.kind) };
}

export const plain = (words: string[], method: string, path: string, body?: unknown): Line => ({ cli: cli(...words), method, path, body });
