// The last minutes of each instance's figures, as this page saw them, for
// small curves.
import { SvelteMap } from 'svelte/reactivity';
import type { Instance } from './api';

const length = 60;

export interface Point {
  cpu: number;
  memory: number;
}

/** Trail keeps the latest points of each instance. */
export class Trail {
  readonly points = new SvelteMap<string, Point[]>();

  add(instances: Instance[]): void {
    const seen = new Set<string>();
    for (const i of instances) {
      if (!i.figures) continue;
      seen.add(i.id);
      const old = this.points.get(i.id) ?? [];
      this.points.set(i.id, [...old.slice(1 - length), { cpu: i.figures.cpu_percent, memory: i.figures.memory_bytes }]);
    }
    for (const id of [...this.points.keys()]) if (!seen.has(id)) this.points.delete(id);
  }
}
