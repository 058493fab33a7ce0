// A window on the logs of an application: lines around a place, to which older
// and newer ones are added, and what is being written. It holds so many lines
// and no more; those that were left behind are asked for again.
import type { Problem } from './api';
import { get, problem, raw } from './client';
import { placeOf, queryOf, type Filter, type LogLine, type LogNews, type LogPage, type LogSilent } from './logs';

const pageLines = 1000;
/** mostLines is how many lines a window holds. */
export const mostLines = 60_000;
const dropLines = 15_000;
const mostWaiting = 20_000;

export class LogWindow {
  /** lines, oldest first. The array is the same all the time: change tells when there is news. */
  lines: LogLine[] = [];
  change = $state(0);
  /** moved is by how many places lines moved since the reader looked: before the first some were put (above 0), or taken away. */
  moved = 0;

  loading = $state<'' | 'first' | 'older' | 'newer'>('first');
  wrong = $state<Problem | null>(null);
  silent = $state.raw<LogSilent[]>([]);
  older = $state(''); // cursor; empty: this is the beginning
  newer = $state(false); // there are newer lines that are not here
  live = $state(false); // what is written comes
  broken = $state(false); // it should come, but the way to the director is lost
  paused = $state(false);
  waiting = $state(0); // lines that came while paused
  /** scanned is how far back was looked, where that was not the whole. */
  scannedTo = $state('');
  /** held says that lines must not be taken away: text is selected. */
  held = false;
  /** came is told of lines as they are written. */
  came: (lines: LogLine[]) => void = () => {};

  #api: string;
  #filter: Filter;
  #stop = new AbortController();
  #gathered: LogLine[] = [];
  #kept: LogLine[] = [];
  #frame = 0;
  #places = new Set<string>(); // of all lines that are here: pages may tell a line twice

  constructor(api: string, filter: Filter, at: string, time: string) {
    this.#api = api;
    this.#filter = filter;
    if (at) void this.#around(at);
    else if (time) void this.#from(time);
    else void this.#follow('');
  }

  close(): void {
    this.#stop.abort();
    cancelAnimationFrame(this.#frame);
  }

  #ask(more: Record<string, string>): Promise<LogPage> {
    return get<LogPage>(`${this.#api}/lines${queryOf(this.#filter, { limit: String(pageLines), ...more })}`, this.#stop.signal);
  }

  #tell(): void {
    this.change++;
  }

  async #try(what: 'first' | 'older' | 'newer', work: () => Promise<void>): Promise<void> {
    this.loading = what;
    try {
      await work();
      this.wrong = null;
    } catch (e) {
      if (!this.#stop.signal.aborted) this.wrong = problem(e);
    } finally {
      if (!this.#stop.signal.aborted) this.loading = '';
    }
  }

  /** around shows a line with what stands before and behind it. */
  #around(at: string): Promise<void> {
    return this.#try('first', async () => {
      const page = await this.#ask({ at });
      this.#take(page);
      this.newer = true;
      // Told with what stands behind it, so that the line can stand in the middle.
      await this.#ahead().finally(() => this.#tell());
    });
  }

  /** from shows what was written from a time on. */
  #from(time: string): Promise<void> {
    return this.#try('first', async () => {
      const page = await this.#ask({ after: time });
      this.lines.push(...this.#unseen(page.lines));
      this.silent = page.silent;
      this.older = page.before || time;
      this.newer = page.more;
      this.#tell();
      if (!page.more) void this.#follow(page.after);
    });
  }

  #unseen(lines: LogLine[]): LogLine[] {
    return lines.filter((l) => {
      const place = placeOf(l.id);
      return !this.#places.has(place) && !!this.#places.add(place);
    });
  }

  #forget(lines: LogLine[]): void {
    for (const l of lines) this.#places.delete(placeOf(l.id));
  }

  #take(page: LogPage): void {
    const fresh = this.#unseen(page.lines);
    this.lines.unshift(...fresh);
    this.moved += fresh.length;
    this.older = page.more ? (page.before ?? '') : '';
    this.silent = page.silent;
    this.scannedTo = page.more && page.lines.length < pageLines ? (page.before ?? '') : '';
  }

  /** back asks for older lines. */
  back(): void {
    if (!this.older || this.loading) return;
    void this.#try('older', async () => {
      this.#take(await this.#ask({ before: this.older }));
      this.#bound('end');
      this.#tell();
    });
  }

  /** ahead asks for newer lines where they do not come by themselves. */
  ahead(): void {
    if (!this.newer || this.loading || this.live) return;
    void this.#try('newer', () => this.#ahead());
  }

  async #ahead(): Promise<void> {
    const last = this.lines.at(-1)?.id;
    if (!last) return void this.#follow('');
    const page = await this.#ask({ after: last });
    this.lines.push(...this.#unseen(page.lines));
    this.newer = page.more;
    this.#bound('start');
    this.#tell();
    if (!page.more) void this.#follow(page.after);
  }

  /** bound takes lines away at one end where there are too many. */
  #bound(end: 'start' | 'end'): void {
    if (this.lines.length <= mostLines || this.held) return;
    if (end === 'start') {
      this.#forget(this.lines.splice(0, dropLines));
      this.moved -= dropLines;
      this.older = this.lines[0]!.id;
      return;
    }
    this.#forget(this.lines.splice(-dropLines));
    this.newer = true;
    if (this.live) this.#leave();
  }

  /** leave stops following: the window has moved away from the end. */
  #leave(): void {
    this.live = this.broken = false;
    this.#stop.abort();
    this.#stop = new AbortController();
  }

  /** pause keeps what is written back until it goes on. */
  pause(): void {
    this.paused = !this.paused;
    if (this.paused) return;
    const kept = this.#kept;
    this.#kept = [];
    this.waiting = 0;
    if (kept.length >= mostWaiting) return this.toEnd();
    this.lines.push(...kept);
    this.#bound('start');
    this.#tell();
  }

  /** toEnd begins anew with the newest lines. */
  toEnd(): void {
    if (this.live && this.#kept.length < mostWaiting) return;
    this.#leave();
    this.#again();
  }

  #again(): void {
    this.lines.length = 0;
    this.#places.clear();
    this.#gathered = [];
    this.moved = 0;
    this.#kept = [];
    this.waiting = 0;
    this.older = '';
    this.newer = false;
    this.paused = false;
    this.#tell();
    void this.#follow('');
  }

  /** toStart shows the oldest lines that there are. */
  toStart(): void {
    if (!this.older) return;
    this.#leave();
    this.lines.length = 0;
    this.#places.clear();
    this.moved = 0;
    void this.#from('1970-01-01T00:00:01Z').then(() => (this.older = ''));
  }

  async #follow(after: string): Promise<void> {
    const stop = this.#stop;
    this.live = true;
    if (!after) this.loading = 'first';
    for (let attempt = 0; !stop.signal.aborted; attempt++) {
      try {
        const response = await raw(`${this.#api}/follow${queryOf(this.#filter, { after, limit: String(pageLines) })}`, { signal: stop.signal });
        const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
        let rest = '';
        for (;;) {
          const { value, done } = await reader.read();
          if (done) break;
          const parts = (rest + value).split('\n');
          rest = parts.pop()!;
          for (const part of parts) if (part) this.#hear(JSON.parse(part) as LogNews);
          attempt = 0;
        }
      } catch (e) {
        if (stop.signal.aborted) return;
        this.wrong = problem(e);
        this.loading = '';
        // What is wrong with the question does not mend by itself.
        if (['invalid', 'not_found', 'forbidden', 'unauthorized'].includes(this.wrong.code)) return void (this.live = false);
      }
      if (stop.signal.aborted) return;
      this.broken = attempt > 0;
      after = this.#kept.at(-1)?.id ?? this.#gathered.at(-1)?.id ?? this.lines.at(-1)?.id ?? after;
      await new Promise((r) => setTimeout(r, attempt ? Math.min(15_000, 1500 * attempt) : 300));
    }
  }

  #hear(news: LogNews): void {
    this.wrong = null;
    this.broken = false;
    if (news.silent) this.silent = [...this.silent.filter((s) => s.instance !== news.silent!.instance), news.silent];
    if (news.line) {
      if (this.silent.length) this.silent = this.silent.filter((s) => s.instance !== news.line!.instance);
      this.#gather(news.line);
    }
    if (!news.page) return;
    this.loading = '';
    if (this.lines.length + this.#gathered.length + this.#kept.length === 0) {
      this.#take(news.page);
      this.moved = 0;
      this.#tell();
    } else if (news.page.more) {
      this.#leave();
      this.#again(); // too much was missed
    } else {
      this.silent = news.page.silent;
      news.page.lines.forEach((l) => this.#gather(l));
    }
  }

  #gather(line: LogLine): void {
    const fresh = this.#unseen([line]);
    if (!fresh.length) return;
    this.#gathered.push(...fresh);
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #draw(): void {
    this.#frame = 0;
    const fresh = this.#gathered;
    this.#gathered = [];
    this.came(fresh);
    if (this.paused) {
      if (this.#kept.length < mostWaiting) this.#kept.push(...fresh);
      this.waiting += fresh.length;
      return;
    }
    this.lines.push(...fresh);
    this.#bound('start');
    this.#tell();
  }
}
