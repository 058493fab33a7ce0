// Some changes ask once more who is there. A screen that has such a change
// shows <Prove />, and does the change inside proving().
import type { Problem } from './api';
import { problem } from './client';

class Proof {
  /** what is asked for at the moment, and who waits for it */
  asked = $state.raw<{ factors: string[]; settle: (given: boolean) => void } | null>(null);

  ask(p: Problem): Promise<boolean> {
    this.asked?.settle(false);
    return new Promise((resolve) => (this.asked = { factors: p.factors ?? ['password'], settle: (given) => ((this.asked = null), resolve(given)) }));
  }
}

export const proof = new Proof();

/** proving does something, and does it again after a proof where one is needed. Undefined: the reader gave up. */
export async function proving<T>(change: () => Promise<T>): Promise<T | undefined> {
  try {
    return await change();
  } catch (e) {
    const p = problem(e);
    if (p.code !== 'proof_needed') throw e;
    return (await proof.ask(p)) ? change() : undefined;
  }
}
