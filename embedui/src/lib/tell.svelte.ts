// Short messages about what happened, and the operations that this page began.
import type { Operation, Problem } from './api';
import type { Binned, Restored } from './bin';
import { isOperation, post, problem } from './client';
import { full, sentence } from './format';
import { live } from './live.svelte';
import { t } from './text.svelte';

export interface Toast {
  id: number;
  tone: 'good' | 'bad' | 'plain';
  text: string;
  hint?: string;
  operation?: string;
  /** id of an entry of the bin that can be brought back */
  binned?: string;
}

class Tell {
  toasts = $state<Toast[]>([]);
  #next = 1;
  #mine = new Map<string, string>();

  constructor() {
    live.onOperation((o) => this.#finished(o));
    live.onBinned((b) => this.#binned(b));
  }

  say(text: string, tone: Toast['tone'] = 'good', more: Partial<Toast> = {}): void {
    // Names begin as their owners wrote them; only what went wrong is made a sentence.
    const toast = { id: this.#next++, tone, text: tone === 'bad' ? full(text) : text, ...more, hint: more.hint && full(more.hint) };
    this.toasts = [...this.toasts.slice(-2), toast];
    setTimeout(() => this.drop(toast.id), tone === 'bad' ? 15000 : more.binned ? 30000 : 5000);
  }

  problem(p: Problem): void {
    this.say(p.message, 'bad', { hint: p.hint, operation: p.related });
  }

  drop(id: number): void {
    this.toasts = this.toasts.filter((t) => t.id !== id);
  }

  /** begin runs a change; its operation is followed, and its end is told. Undefined means that it was refused, and told. */
  async begin<T>(change: () => Promise<T>, done: string): Promise<T | undefined> {
    try {
      const answer = await change();
      if (isOperation(answer)) {
        this.#mine.set(answer.id, done);
        live.putOperation(answer);
        this.#finished(live.operations.get(answer.id) ?? answer);
      } else this.say(done);
      return answer;
    } catch (e) {
      this.problem(problem(e));
      return undefined;
    }
  }

  // What this reader deleted can be taken back at once; that says more than
  // that the deletion is done.
  #binned(b: Binned): void {
    if (b.by !== live.session?.user.name) return;
    this.toasts = this.toasts.filter((x) => x.tone !== 'good' || !/\.(delete|retire)$/.test(live.operations.get(x.operation ?? '')?.kind ?? ''));
    this.say(t('{name} is in the bin.', { name: b.name }), 'plain', { binned: b.id });
  }

  /** undo brings back what went into the bin. */
  async undo(toast: Toast): Promise<void> {
    this.drop(toast.id);
    try {
      const r = await post<Restored>(`/bin/${toast.binned}/restore`);
      this.say(t('{name} is back.', { name: r.name }), 'good', { hint: r.notes.join(' ') || undefined });
    } catch (e) {
      this.problem(problem(e));
    }
  }

  #finished(o: Operation): void {
    const done = this.#mine.get(o.id);
    if (done === undefined) return;
    const binned = /\.(delete|retire)$/.test(o.kind) && this.toasts.some((x) => x.binned); // told already, with an undo
    if (o.state === 'done') binned || this.say(done, 'good', { operation: o.id });
    else if (o.state === 'failed') this.say(o.error?.message ?? t('{title}: failed.', { title: sentence(o.title) }), 'bad', { hint: o.error?.hint ?? o.undone, operation: o.id });
    else if (o.state === 'cancelled') this.say(t('{title}: cancelled.', { title: sentence(o.title) }), 'plain', { hint: o.undone, operation: o.id });
    else return;
    this.#mine.delete(o.id);
  }
}

export const tell = new Tell();
