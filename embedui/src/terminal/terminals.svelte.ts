// The terminals that are open in this window. They outlive the screen that
// shows them, and end with the window or the session.
import type { Instance } from '../lib/api';
import { live } from '../lib/live.svelte';
import { type Look, TerminalSession } from './session.svelte';

class Terminals {
  list = $state.raw<TerminalSession[]>([]);
  shown = $state.raw<TerminalSession | null>(null);
  look = $state.raw<Look>(kept());
  /** what the keys of a terminal ask of the screen */
  leave: () => void = () => {};
  find: () => void = () => {};

  #made = 0;

  constructor() {
    $effect.root(() => {
      $effect(() => {
        if (live.session) return;
        for (const s of this.list) s.close();
        [this.list, this.shown] = [[], null];
      });
    });
    addEventListener('beforeunload', (e) => {
      if (this.list.some((s) => s.phase === 'open')) e.preventDefault();
    });
  }

  open(i: Instance): void {
    const path = `/applications/${i.application}/services/${i.service}/instances/${encodeURIComponent(i.id)}`;
    const s = new TerminalSession(i.id, ++this.#made, path, this.look, () => this.leave(), () => this.find());
    this.list = [...this.list, s];
    this.shown = s;
  }

  close(s: TerminalSession): void {
    const at = this.list.indexOf(s);
    s.close();
    this.list = this.list.filter((o) => o !== s);
    if (this.shown === s) this.shown = this.list[Math.min(at, this.list.length - 1)] ?? null;
  }

  change(look: Partial<Look>): void {
    this.look = { ...this.look, ...look };
    for (const s of this.list) s.look = this.look;
    try {
      localStorage.setItem('nutshell.terminal', JSON.stringify(this.look));
    } catch {
      // storage is forbidden: the choice lasts as long as the page
    }
  }
}

function kept(): Look {
  const look = { size: 13, reader: false };
  try {
    const was = JSON.parse(localStorage.getItem('nutshell.terminal') ?? '{}') as Partial<Look>;
    if (typeof was.size === 'number') look.size = Math.min(28, Math.max(9, was.size));
    look.reader = was.reader === true;
  } catch {
    // as if nothing was kept
  }
  return look;
}

export const terminals = new Terminals();
