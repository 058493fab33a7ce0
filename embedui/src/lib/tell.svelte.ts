// Short messages about what happened, and the operations that this page began.
import type { Operation, Problem } from './api';
import { isOperation, problem } from './client';
import { full, sentence } from './format';
import { live } from './live.svelte';
import { t } from './text.svelte';

export interface Toast {
  id: number;
  tone: 'good' | 'bad' | 'plain';
  text: string;
  hint?: string;
  operation?: string;
}

class Tell {
  toasts = $state<Toast[]>([]);
  #next = 1;
  #mine = new Map<string, string>();

  constructor() {
    live.onOperation((o) => this.#finished(o));
  }

  say(text: string, tone: Toast['tone'] = 'good', more: Partial<Toast> = {}): void {
    // Names begin as their owners wrote them; only what went wrong is made a sentence.
    const toast = { id: this.#next++, tone, text: tone === 'bad' ? full(text) : text, ...more, hint: more.hint && full(more.hint) };
    this.toasts = [...this.toasts.slice(-2), toast];
    setTimeout(() => this.drop(toast.id), tone === 'bad' ? 15000 : 5000);
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

  #finished(o: Operation): void {
    const done = this.#mine.get(o.id);
    if (done === undefined) return;
    if (o.state === 'done') this.say(done, 'good', { operation: o.id });
    else if (o.state === 'failed') this.say(o.error?.message ?? t('{title}: failed.', { title: sentence(o.title) }), 'bad', { hint: o.error?.hint ?? o.undone, operation: o.id });
    else if (o.state === 'cancelled') this.say(t('{title}: cancelled.', { title: sentence(o.title) }), 'plain', { hint: o.undone, operation: o.id });
    else return;
    this.#mine.delete(o.id);
  }
}

export const tell = new Tell();
