// The machines of the cluster as the director told of them, for administrators.
import { SvelteMap } from 'svelte/reactivity';
import type { ClusterNode, Event } from './api';
import { list } from './client';

export class Cluster {
  /** nodes by their ids */
  nodes = new SvelteMap<string, ClusterNode>();
  #admin: () => boolean;
  #lookers = 0;

  constructor(admin: () => boolean) {
    this.#admin = admin;
  }

  /** look keeps what nodes measure fresh until the answer is called. */
  look(): () => void {
    this.#lookers++;
    void this.ask();
    return () => void this.#lookers--;
  }

  /** looked says that somebody looks at what nodes measure, of which no event tells. */
  get looked(): boolean {
    return this.#lookers > 0;
  }

  /** ask reads all nodes again. */
  async ask(): Promise<void> {
    if (!this.#admin()) return;
    const nodes = await list<ClusterNode>('/nodes').catch(() => null); // the stream of events shows a lost link
    if (!nodes || !this.#admin()) return;
    const ids = new Set(nodes.map((n) => n.id));
    for (const id of [...this.nodes.keys()]) if (!ids.has(id)) this.nodes.delete(id);
    for (const n of nodes) this.nodes.set(n.id, n);
  }

  /** apply takes an event of a node. */
  apply(e: Event): void {
    if (e.type === 'node.deleted') this.nodes.delete(e.object);
    else this.nodes.set(e.object, e.data as ClusterNode);
  }
}
