// Applications that the reader pinned, in this browser.
const place = 'nutshell.pins';

class Pins {
  #ids = $state<number[]>(read());

  has(id: number): boolean {
    return this.#ids.includes(id);
  }

  turn(id: number): void {
    this.#ids = this.has(id) ? this.#ids.filter((x) => x !== id) : [...this.#ids, id];
    try {
      localStorage.setItem(place, JSON.stringify(this.#ids));
    } catch {
      // storage is forbidden: the pins last as long as the page
    }
  }
}

function read(): number[] {
  try {
    const kept: unknown = JSON.parse(localStorage.getItem(place) ?? '[]');
    return Array.isArray(kept) ? kept.filter((x) => typeof x === 'number') : [];
  } catch {
    return [];
  }
}

export const pins = new Pins();
