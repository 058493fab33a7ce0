// Uploads of code in pieces. One goes on while other pages are looked at, can
// be paused, heals by itself after a lost connection, and is found again after
// a reload when the same file is chosen.
import type { CodeVersion, Operation, Problem, Service } from './api';
import { ApiError, csrf, del, get, post, problem, problemOf, unreachable } from './client';
import type { Upload as Kept } from './hosting';
import { live } from './live.svelte';
import { serviceApi } from './paths';
import { t } from './text.svelte';
import { tell } from './tell.svelte';

/** A piece is what is sent again at most after a connection broke. */
const piece = 8 << 20;

/** Files up to this are hashed before they are sent; reading larger ones through would keep people waiting. */
const hashable = 32 << 20;

/** Broken is an upload that another life of this page began. */
export interface Broken {
  id: string;
  filename: string;
  bytes: number;
  modified: number;
  offset: number;
}

type Phase = 'sending' | 'paused' | 'lost' | 'storing' | 'failed';

const storage = (s: Service): string => `nutshell.upload.${s.application}.${s.id}`;

/** Upload is one upload under way. */
export class Upload {
  readonly file: File;
  readonly service: Service;
  phase = $state<Phase>('sending');
  /** bytes that have arrived, as far as the browser knows */
  sent = $state(0);
  /** bytes per second over the last moments */
  rate = $state(0);
  wrong = $state<Problem | null>(null);
  description: string;
  activate: boolean;
  #strip = false;
  #id: string;
  #request: XMLHttpRequest | null = null;
  #marks: [number, number][] = [];
  #ended = false;
  /** grows with each run and pause, so that what was begun before knows that it is over */
  #turn = 0;
  #woken = () => {};

  constructor(service: Service, file: File, options: { description: string; activate: boolean; id?: string }) {
    this.service = service;
    this.file = file;
    this.description = options.description;
    this.activate = options.activate;
    this.#id = options.id ?? '';
  }

  /** left is how long it will still take, in milliseconds, 0 where nobody can say. */
  get left(): number {
    return this.rate > 0 ? (1000 * (this.file.size - this.sent)) / this.rate : 0;
  }

  /** strip says whether taking the leading directory off would help. */
  get strippable(): boolean {
    return !this.#strip && this.wrong?.code === 'invalid' && (/strip/i.test(this.wrong.hint ?? '') || (this.wrong.fields ?? []).includes('strip'));
  }

  async run(): Promise<void> {
    const mine = ++this.#turn;
    this.wrong = null;
    try {
      let offset = this.#id ? await this.#goOn(mine) : await this.#begin(mine);
      while (offset < this.file.size) {
        if (this.#over(mine)) return;
        offset = await this.#send(offset, mine);
      }
      if (this.#over(mine)) return;
      this.phase = 'storing';
      // asked again after a lost answer, the director tells the same version
      this.#stored(await this.#again(() => post<CodeVersion>(`${this.#path()}/finish${this.#strip ? '?strip=true' : ''}`), mine));
    } catch (e) {
      if (this.#over(mine)) return;
      this.phase = 'failed';
      this.wrong = problem(e);
      // the director keeps what may still become a version
      if (this.wrong.code === 'invalid' && !this.strippable) remember(this.service, null);
    }
  }

  pause(): void {
    if (this.phase !== 'sending' && this.phase !== 'lost') return;
    this.#turn++;
    this.phase = 'paused';
    this.rate = 0;
    this.#request?.abort();
    this.#woken();
  }

  resume(): void {
    if (this.phase !== 'paused' && this.phase !== 'failed') return;
    this.phase = 'sending';
    void this.run();
  }

  /** strip stores it once more, with its leading directory taken off. */
  strip(): void {
    this.#strip = true;
    this.resume();
  }

  /** cancel ends it; what has arrived is thrown away. */
  cancel(): void {
    this.#ended = true;
    this.#request?.abort();
    this.#woken();
    uploads.drop(this);
    if (this.#id) del(this.#path()).catch(() => undefined); // it expires by itself
  }

  #over = (turn: number): boolean => this.#ended || this.#turn !== turn;

  #path = (): string => `${serviceApi(this.service)}/uploads/${this.#id}`;

  async #begin(mine: number): Promise<number> {
    // With its hash the director finds a small upload again by itself, and checks it.
    const sha256 = this.file.size <= hashable ? await digest(this.file) : '';
    const body = { filename: this.file.name, bytes: this.file.size, ...(sha256 ? { sha256 } : {}), ...(this.description ? { description: this.description } : {}), ...(this.#strip ? { strip: true } : {}) };
    const kept = await this.#again(() => post<Kept>(serviceApi(this.service) + '/uploads', body), mine);
    this.#id = kept.id;
    if (this.#ended) {
      void del(this.#path()).catch(() => undefined);
      return kept.offset;
    }
    this.#marks = [];
    remember(this.service, { id: kept.id, filename: this.file.name, bytes: this.file.size, modified: this.file.lastModified, offset: kept.offset });
    return this.#at(kept.offset, mine);
  }

  // goOn asks where one that was begun goes on; one that is gone is begun anew.
  async #goOn(mine: number): Promise<number> {
    try {
      return this.#at((await this.#again(() => get<Kept>(this.#path()), mine)).offset, mine);
    } catch (e) {
      if (this.#over(mine) || problem(e).code !== 'not_found') throw e;
      return this.#begin(mine);
    }
  }

  #at(offset: number, mine: number): number {
    if (!this.#over(mine)) [this.phase, this.sent] = ['sending', offset];
    return offset;
  }

  async #send(offset: number, mine: number): Promise<number> {
    try {
      return (await this.#patch(offset)).offset;
    } catch (e) {
      const p = problem(e);
      if (this.#over(mine)) return offset;
      if (p.code === 'not_found') return this.#begin(mine); // it expired, or was deleted elsewhere
      if (p.code !== 'conflict' && !passing(p)) throw e;
      if (passing(p)) {
        await this.#readable(offset);
        await this.#wait();
        if (this.#over(mine)) return offset;
      }
      return this.#goOn(mine); // what arrived of a piece is known to the director alone
    }
  }

  // readable tells a file that was changed or moved away from a lost connection:
  // the browser answers both alike.
  async #readable(offset: number): Promise<void> {
    try {
      await this.file.slice(offset, offset + 1).arrayBuffer();
    } catch {
      throw new ApiError({ code: 'invalid', message: t('{file} was changed or moved while it was sent.', { file: this.file.name }), hint: t('choose it again') });
    }
  }

  #patch(offset: number): Promise<Kept> {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      this.#request = request;
      request.upload.onprogress = (e) => this.#progress(offset + e.loaded);
      request.onload = () => {
        if (request.status < 300) resolve(JSON.parse(request.responseText) as Kept);
        else reject(problemOf(request.status, request.responseText, request.getResponseHeader('Retry-After')));
      };
      request.onerror = request.onabort = () => reject(unreachable());
      request.open('PATCH', `/api/v1${this.#path()}?offset=${offset}`);
      request.setRequestHeader('Content-Type', 'application/octet-stream');
      request.setRequestHeader('Accept', 'application/json, application/problem+json');
      request.setRequestHeader('X-CSRF-Token', csrf());
      request.send(this.file.slice(offset, offset + piece));
    });
  }

  #progress(sent: number): void {
    this.sent = Math.min(sent, this.file.size);
    const now = performance.now();
    this.#marks = [...this.#marks.filter(([t]) => now - t < 5000), [now, this.sent]];
    const [t, n] = this.#marks[0];
    if (now - t > 400) this.rate = (1000 * (this.sent - n)) / (now - t);
  }

  // wait is a short rest while the director is away; the page says so.
  #delay = 500;
  async #wait(): Promise<void> {
    this.phase = 'lost';
    this.rate = 0;
    this.#delay = Math.min(this.#delay * 2, 5000);
    await new Promise<void>((go) => {
      const timer = setTimeout(go, this.#delay);
      this.#woken = () => (clearTimeout(timer), go());
    });
  }

  // again repeats a request until there is an answer.
  async #again<T>(request: () => Promise<T>, mine: number): Promise<T> {
    for (;;) {
      try {
        const answer = await request();
        this.#delay = 500;
        if (this.phase === 'lost') this.phase = 'sending';
        return answer;
      } catch (e) {
        if (this.#over(mine) || !passing(problem(e))) throw e;
        await this.#wait();
        if (this.#over(mine)) throw e;
      }
    }
  }

  #stored(v: CodeVersion): void {
    this.#ended = true;
    uploads.drop(this);
    live.versionsRevision++;
    tell.say(t('{file} was stored as {id}.', { file: v.filename, id: v.id }));
    if (this.activate) void this.#activated(v);
  }

  // #activated makes a version the current one. Somebody may have begun to
  // start or change the service since the file was chosen: that is waited for,
  // as it is when code is pushed.
  async #activated(v: CodeVersion): Promise<void> {
    const now = (): Service => live.services.get(`${this.service.application}/${this.service.id}`) ?? this.service;
    const served = now().state === 'RUNNING' || now().desired === 'started';
    await tell.begin(async () => {
      for (;;) {
        try {
          return await post<Operation | Service>(serviceApi(now()) + '/activate', { version: v.id });
        } catch (e) {
          const { code, related } = problem(e);
          if (code !== 'conflict' || !related) throw e;
          await Promise.race([live.done(related), new Promise((soon) => setTimeout(soon, 3000))]); // its end may not be told here
        }
      }
    }, served ? t('{id} serves.', { id: v.id }) : t('{id} will serve at the next start.', { id: v.id }));
  }
}

// passing says whether trying again may help: no answer, or that of a proxy, of
// a director that just starts or of one that has enough to do.
const passing = (p: Problem): boolean => (p.status === undefined && p.code === 'unavailable') || p.status === 502 || p.status === 503 || p.status === 504 || p.status === 429;

/** same says whether a file is the one that was broken off. */
export const same = (b: Broken, file: File): boolean => b.filename === file.name && b.bytes === file.size && b.modified === file.lastModified;

async function digest(file: File): Promise<string> {
  try {
    return Array.from(new Uint8Array(await crypto.subtle.digest('SHA-256', await file.arrayBuffer())), (b) => b.toString(16).padStart(2, '0')).join('');
  } catch {
    return ''; // it cannot be read, which sending it will tell, or the page is not a secure one
  }
}

function remember(s: Service, b: Broken | null): void {
  try {
    if (b) localStorage.setItem(storage(s), JSON.stringify(b));
    else localStorage.removeItem(storage(s));
  } catch {
    // storage is forbidden: a reload then begins anew
  }
}

class Uploads {
  #all = $state<Upload[]>([]);

  of(s: Service): Upload | undefined {
    return this.#all.find((u) => u.service.application === s.application && u.service.id === s.id);
  }

  start(s: Service, file: File, options: { description: string; activate: boolean; broken?: Broken | null }): void {
    const u = new Upload(s, file, { description: options.description, activate: options.activate, id: options.broken && same(options.broken, file) ? options.broken.id : '' });
    this.#all = [...this.#all, u];
    void u.run();
  }

  drop(u: Upload): void {
    this.#all = this.#all.filter((x) => x !== u);
    remember(u.service, null);
  }

  /** broken finds what was broken off before this page was loaded. */
  async broken(s: Service): Promise<Broken | null> {
    let b: Broken;
    try {
      b = JSON.parse(localStorage.getItem(storage(s)) ?? '') as Broken;
    } catch {
      return null;
    }
    try {
      return { ...b, offset: (await get<Kept>(`${serviceApi(s)}/uploads/${encodeURIComponent(b.id)}`)).offset };
    } catch (e) {
      if (problem(e).code === 'not_found') remember(s, null);
      return null;
    }
  }

  /** discard throws away what was broken off. */
  async discard(s: Service, b: Broken): Promise<void> {
    remember(s, null);
    await del(`${serviceApi(s)}/uploads/${encodeURIComponent(b.id)}`).catch(() => undefined);
  }
}

export const uploads = new Uploads();
