// What a canvas has to be drawn anew for: the theme that is chosen, and the
// one that the system has.
import { themes } from '../lib/theme.svelte';

const media = matchMedia('(prefers-color-scheme: dark)');

class Shade {
  #dark = $state(media.matches);
  constructor() {
    media.addEventListener('change', () => (this.#dark = media.matches));
  }
  get name(): string {
    return themes.chosen + String(this.#dark);
  }
}

export const shade = new Shade();
