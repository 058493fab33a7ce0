// What the director told us, kept up to date by one stream of events. Pages
// read from here and never poll for state.
import { SvelteMap } from 'svelte/reactivity';
import type { Application, Cloud, Event, Instance, Kind, Operation, Service, Session, User, Version } from './api';
import type { Binned } from './bin';
import { Cluster } from './cluster.svelte';
import { get, list, onSignedOut, raw, setCsrf } from './client';
import type { Account } from './data';
import { Trail } from './trail';

type Link = 'connecting' | 'live' | 'lost';

const kinds = ['application', 'service', 'instance', 'operation', 'version', 'volume', 'backup', 'member', 'bin', 'user', 'node'];

class Live {
  session = $state<Session | null>(null);
  /** known is false until the first answer about the session. */
  known = $state(false);
  loaded = $state(false);
  link = $state<Link>('connecting');
  /** since when the link is lost, for the banner. */
  lostAt = $state(0);
  /** now ticks once a second, for ages. */
  now = $state(Date.now());

  applications = new SvelteMap<number, Application>();
  services = new SvelteMap<string, Service>();
  instances = new SvelteMap<string, Instance>();
  operations = new SvelteMap<string, Operation>();
  cluster = new Cluster(() => this.session?.user.admin ?? false);
  nodes = this.cluster.nodes;
  clouds = $state<Cloud[]>([]);
  kinds = $state<Kind[]>([]);
  version = $state<Version | null>(null);
  /** versionsRevision grows when a code version of any service changed. */
  versionsRevision = $state(0);
  /** dataRevision grows when a volume or a backup of any service changed. */
  dataRevision = $state(0);
  /** binRevision grows when something went into the bin, or came out. */
  binRevision = $state(0);
  /** membersRevision grows when somebody was let into an application, or taken out. */
  membersRevision = $state(0);
  /** account is what this user has and uses; null while it is not known. */
  account = $state<Account | null>(null);
  trail = new Trail();
  /** skew is how much later it is for the director than for this browser, in ms; null while it is not known. */
  skew = $state<number | null>(null);
  /** replaced is true when the director was replaced by another version since these pages were loaded. */
  replaced = $state(false);

  #source: EventSource | null = null;
  #held: Event[] | null = null;
  #watchers = new Set<(operation: Operation) => void>();
  #binned = new Set<(thing: Binned) => void>();
  #retry: ReturnType<typeof setTimeout> | undefined;
  #figures: ReturnType<typeof setInterval> | undefined;
  #counted: ReturnType<typeof setTimeout> | undefined;
  #seldom = 0;
  /** id of the last event that was received; what came after it is asked for after a break. */
  #last = 0;
  /** everything was fetched once, and events told of each change since. */
  #whole = false;
  #loads = 0;

  constructor() {
    setInterval(() => (this.now = Date.now()), 1000);
    onSignedOut(() => this.forget());
  }

  /** open asks whether there is a session, and begins to listen if so. */
  async open(): Promise<void> {
    try {
      this.begin(await get<Session>('/session'));
    } catch {
      this.known = true;
    }
  }

  /** begin is called with the session after a sign-in. */
  begin(session: Session): void {
    setCsrf(session.csrf);
    this.session = session;
    this.known = true;
    this.#listen();
    clearInterval(this.#figures);
    // Figures are measured all the time but are no change of anything, so no
    // event tells of them. They are fetched while somebody looks.
    this.#figures = setInterval(() => {
      if (document.visibilityState === 'visible' && this.link === 'live') void this.#refreshFigures();
    }, 4000);
  }

  /** forget drops everything at the end of a session. */
  forget(): void {
    this.#source?.close();
    this.#source = null;
    clearTimeout(this.#retry);
    clearInterval(this.#figures);
    this.session = null;
    this.loaded = false;
    this.account = null;
    this.#last = 0;
    this.#whole = false;
    clearTimeout(this.#counted);
    setCsrf('');
    for (const m of [this.applications, this.services, this.instances, this.operations, this.nodes]) m.clear();
  }

  /** onBinned tells the watcher of what went into the bin just now. */
  onBinned(watcher: (thing: Binned) => void): () => void {
    this.#binned.add(watcher);
    return () => this.#binned.delete(watcher);
  }

  /** onOperation tells the watcher of every change of an operation. */
  onOperation(watcher: (operation: Operation) => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  /** done waits for the end of an operation, and says whether it ended well. */
  done(id: string): Promise<boolean> {
    return new Promise((resolve) => {
      const look = (o: Operation | undefined) => {
        if (!o || o.id !== id || !final(o)) return;
        off();
        resolve(o.state === 'done');
      };
      const off = this.onOperation(look);
      look(this.operations.get(id));
    });
  }

  kind(name: string): Kind | undefined {
    return this.kinds.find((k) => k.name === name);
  }

  /** put keeps a service or application that an answer brought. */
  putService(s: Service): void {
    const { instances, ...rest } = s;
    const key = `${s.application}/${s.id}`;
    this.services.set(key, { ...rest, settings: rest.settings ?? {}, parts: rest.parts ?? {}, urls: rest.urls ?? [] });
    for (const i of instances ?? []) this.instances.set(i.id, i);
  }

  putApplication(a: Application): void {
    const { services, ...rest } = a;
    this.applications.set(a.id, rest);
    if (a.manager) this.instances.set(a.manager.id, { ...a.manager, figures: a.manager.figures ?? this.instances.get(a.manager.id)?.figures });
    for (const s of services ?? []) this.putService(s);
  }

  putOperation(o: Operation): void {
    const old = this.operations.get(o.id);
    // The answer to a request may come after the event that tells of its end.
    if (old && final(old) && !final(o)) return;
    this.operations.set(o.id, o);
    if (old?.state !== o.state || old?.progress !== o.progress) for (const w of this.#watchers) w(o);
  }

  #listen(): void {
    this.#source?.close();
    this.#held ??= [];
    const source = new EventSource('/api/v1/events' + (this.#whole ? `?after=${this.#last}` : ''));
    this.#source = source;
    // hello names the event after which this stream goes on. When that is the
    // last one seen, nothing was missed; else the director no longer has what
    // lies between, and everything is read again.
    source.addEventListener('hello', (e) => {
      this.link = 'live';
      const from = Number((e as MessageEvent<string>).lastEventId);
      if (this.#whole && from === this.#last) {
        const held = this.#held ?? [];
        this.#held = null;
        for (const h of held) this.#apply(h);
        void this.#ask();
        return;
      }
      this.#last = from;
      void this.#load();
    });
    for (const kind of kinds) {
      for (const type of [kind, kind + '.deleted']) {
        source.addEventListener(type, (e) => this.#receive(JSON.parse((e as MessageEvent<string>).data) as Event));
      }
    }
    source.onerror = () => {
      if (this.#source !== source) return;
      // Browsers drop connections whenever an interface of the machine comes or
      // goes, as those of instances do; only a longer silence is worth a word.
      if (this.link === 'live') {
        this.lostAt = Date.now();
        this.link = 'connecting';
        setTimeout(() => {
          if (this.link === 'connecting') this.link = 'lost';
        }, 5000);
      } else if (!this.loaded) this.link = 'lost';
      // The browser resumes by itself after a broken connection, but gives up
      // when it is answered with an error, as when the session is over.
      if (source.readyState === EventSource.CLOSED) {
        clearTimeout(this.#retry);
        this.#retry = setTimeout(() => void this.#reopen(), this.link === 'lost' ? 2000 : 500);
      }
    };
    source.onopen = () => (this.link = 'live');
  }

  async #reopen(): Promise<void> {
    try {
      const session = await get<Session>('/session');
      setCsrf(session.csrf);
      this.session = session;
      this.#listen();
    } catch (e) {
      if ((e as { problem?: { status?: number } }).problem?.status === 401) this.forget();
      else this.#retry = setTimeout(() => void this.#reopen(), 2000);
    }
  }

  // Events that arrive while everything is fetched again are newer than what
  // is fetched, so they are held back and laid over it.
  async #load(): Promise<void> {
    const turn = ++this.#loads;
    this.#held = [];
    this.#whole = false;
    try {
      const [apps, services, instances, operations, clouds, kinds, version] = await Promise.all([
        list<Application>('/applications'),
        list<Service>('/services'),
        list<Instance>('/resources'),
        list<Operation>('/operations?limit=200'),
        list<Cloud>('/clouds'),
        list<Kind>('/kinds'),
        get<Version>('/version'),
      ]);
      // the stream broke meanwhile, and another reading has begun
      if (turn !== this.#loads) return;
      replace(this.applications, apps.map((a) => [a.id, a]));
      replace(this.services, []);
      for (const s of services) this.putService(s);
      replace(this.instances, instances.map((i) => [i.id, i]));
      const kept = new Set(operations.map((o) => o.id));
      for (const id of [...this.operations.keys()]) if (!kept.has(id)) this.operations.delete(id);
      for (const o of operations) this.putOperation(o);
      this.trail.add(instances);
      this.clouds = clouds;
      this.kinds = kinds;
      this.#know(version);
      void this.cluster.ask();
      this.versionsRevision++;
      this.dataRevision++;
      this.binRevision++;
      this.loaded = true;
      this.#whole = true;
      this.#count();
    } catch {
      if (turn !== this.#loads) return;
      if (this.session) this.#retry = setTimeout(() => void this.#load(), 2000);
    }
    const held = this.#held ?? [];
    this.#held = null;
    for (const e of held) this.#apply(e);
  }

  #know(version: Version): void {
    if (this.version && this.version.binary_sha256 !== version.binary_sha256) this.replaced = true;
    this.version = version;
  }

  // What no event tells of: the director may be another one after a break,
  // and clouds come and go.
  async #ask(): Promise<void> {
    const before = Date.now();
    try {
      const answer = await raw('/version');
      this.#know((await answer.json()) as Version);
      const date = Date.parse(answer.headers.get('Date') ?? '');
      // The header has whole seconds, and the answer took its time.
      if (date) this.skew = date + 500 - (before + Date.now()) / 2;
      this.clouds = await list<Cloud>('/clouds');
    } catch {
      // the stream of events shows a lost link; nothing to say twice
    }
  }

  async #refreshFigures(): Promise<void> {
    if (this.#seldom++ % 15 === 0) void this.#ask();
    if (this.cluster.looked || this.#seldom % 15 === 1) void this.cluster.ask();
    try {
      const instances = await list<Instance>('/resources');
      for (const i of instances) {
        const old = this.instances.get(i.id);
        if (old && i.figures && old.figures?.at !== i.figures.at) this.instances.set(i.id, { ...old, figures: i.figures });
      }
      this.trail.add(instances);
    } catch {
      // the stream of events shows a lost link; nothing to say twice
    }
  }

  // The account is asked for soon after what may change it, once for many
  // changes, and every few minutes because the hours run.
  #count(wait = 0): void {
    clearTimeout(this.#counted);
    this.#counted = setTimeout(() => void this.#askAccount(), wait);
  }

  async #askAccount(): Promise<void> {
    if (!this.session) return;
    try {
      this.account = await get<Account>(`/users/${this.session.user.id}/account`);
    } catch {
      // the number in the corner is the user's own; only the forecast waits
    }
    this.#count(180_000);
  }

  #receive(e: Event): void {
    this.#last = Math.max(this.#last, e.id);
    if (this.#held) this.#held.push(e);
    else this.#apply(e);
  }

  #apply(e: Event): void {
    switch (e.type) {
      case 'application':
        this.putApplication(e.data as Application);
        break;
      case 'application.deleted':
        this.applications.delete(Number(e.object || e.application));
        for (const [key, s] of this.services) if (s.application === e.application) this.services.delete(key);
        for (const [key, i] of this.instances) if (i.application === e.application) this.instances.delete(key);
        break;
      case 'service':
        this.putService(e.data as Service);
        break;
      case 'service.deleted':
        this.services.delete(`${e.application}/${e.service || e.object}`);
        break;
      case 'instance': {
        const i = e.data as Instance;
        if (!this.instances.has(i.id)) this.#count(1500);
        this.instances.set(i.id, { ...i, figures: i.figures ?? this.instances.get(i.id)?.figures });
        break;
      }
      case 'instance.deleted':
        this.instances.delete(e.object);
        this.#count(1500);
        break;
      case 'operation':
        this.putOperation(e.data as Operation);
        break;
      case 'version':
      case 'version.deleted':
        this.versionsRevision++;
        break;
      case 'volume':
      case 'volume.deleted':
      case 'backup':
      case 'backup.deleted':
        this.dataRevision++;
        break;
      case 'bin':
        for (const w of this.#binned) w(e.data as Binned);
        this.binRevision++;
        break;
      case 'bin.deleted':
        this.binRevision++;
        break;
      case 'member':
      case 'member.deleted':
        this.membersRevision++;
        break;
      case 'node': case 'node.deleted':
        this.cluster.apply(e);
        break;
      case 'user': {
        const user = e.data as User;
        if (this.session && user.id === this.session.user.id) this.session = { ...this.session, user };
        this.#count(300);
        break;
      }
    }
  }
}

/** final says whether an operation will not change any more. */
export function final(o: Operation): boolean {
  return o.state === 'done' || o.state === 'failed' || o.state === 'cancelled';
}

function replace<K, V>(map: SvelteMap<K, V>, entries: [K, V][]): void {
  const keep = new Set(entries.map(([k]) => k));
  for (const k of [...map.keys()]) if (!keep.has(k)) map.delete(k);
  for (const [k, v] of entries) map.set(k, v);
}

export const live = new Live();
