// Lines that a reader draws into graphs to see what goes beyond them. They
// are this browser's own; they alarm nobody.
const storage = 'nutshell.limits';

class Limits {
  #all = $state<Record<string, number>>(stored());

  of(key: string): number | undefined {
    return this.#all[key];
  }

  set(key: string, value: number | undefined): void {
    const all = { ...this.#all };
    if (value === undefined) delete all[key];
    else all[key] = value;
    this.#all = all;
    try {
      localStorage.setItem(storage, JSON.stringify(all));
    } catch {
      // storage is forbidden: the lines last as long as this page
    }
  }
}

function stored(): Record<string, number> {
  try {
    const all: unknown = JSON.parse(localStorage.getItem(storage) ?? '{}');
    if (!all || typeof all !== 'object') return {};
    return Object.fromEntries(Object.entries(all).filter((e): e is [string, number] => typeof e[1] === 'number' && Number.isFinite(e[1])));
  } catch {
    return {};
  }
}

export const limits = new Limits();

/** scale is what people type for one of the unit: milliseconds, megabytes, percent. */
export const scale = (unit: string): [number, string] => (unit === 's' ? [0.001, 'ms'] : unit.startsWith('B') ? [2 ** 20, unit.replace('B', 'MB')] : [1, unit]);
