// History routing: every screen has a path, links are ordinary anchors. Going
// back brings the place on the page back; going on begins at its top, or at
// the part that the address names.

class Router {
  path = $state(location.pathname);
  query = $state(new URLSearchParams(location.search));
  /** visits counts how often another screen came; moving within one does not count. */
  visits = $state(0);

  #places = new Map<string, number>();
  #key = '';
  #stop: (() => void) | undefined;

  constructor() {
    history.scrollRestoration = 'manual';
    this.#key = keyOf(history.state) ?? this.#mark();
    addEventListener('popstate', () => {
      this.#leave();
      this.#key = keyOf(history.state) ?? this.#mark();
      const before = this.path;
      this.#read();
      if (!sameScreen(before, this.path)) this.visits++;
      if (location.hash) this.#find(location.hash);
      else this.#place(this.#places.get(this.#key) ?? 0);
    });
    document.addEventListener('click', (e) => {
      if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
      const a = (e.target as Element).closest?.('a');
      if (!(a instanceof HTMLAnchorElement) || a.target || a.hasAttribute('download') || a.origin !== location.origin || a.pathname.startsWith('/api/')) return;
      e.preventDefault();
      this.go(a.pathname + a.search + a.hash);
    });
    if (location.hash) this.#find(location.hash);
  }

  /** segments of the path, decoded. */
  get segments(): string[] {
    return this.path.split('/').filter(Boolean).map(decode);
  }

  go(to: string, replace = false): void {
    const before = this.path;
    if (to !== location.pathname + location.search + location.hash) {
      if (replace) history.replaceState({ key: this.#key }, '', to);
      else {
        this.#leave();
        history.pushState(null, '', to);
        this.#key = this.#mark();
      }
    }
    this.#read();
    const same = sameScreen(before, this.path);
    if (!same) this.visits++;
    if (location.hash) this.#find(location.hash);
    else if (!replace && !same) this.#place(0);
  }

  #read(): void {
    this.path = location.pathname;
    this.query = new URLSearchParams(location.search);
  }

  /** mark gives the entry of the history a key by which its place is kept. */
  #mark(): string {
    const key = Math.random().toString(36).slice(2);
    history.replaceState({ key }, '', location.href);
    return key;
  }

  #leave(): void {
    this.#places.set(this.#key, scrollY);
    this.#stop?.();
  }

  // What a screen shows may come a moment after the screen, so its place is
  // taken again until the page is long enough, or the reader moves.
  #place(top: number): void {
    this.#until(() => {
      scrollTo(0, top);
      return Math.abs(scrollY - top) < 2;
    });
  }

  #find(hash: string): void {
    this.#until(() => {
      const there = document.getElementById(decode(hash.slice(1)));
      there?.scrollIntoView();
      return !!there;
    });
  }

  #until(done: () => boolean): void {
    this.#stop?.();
    const end = performance.now() + 1500;
    let going = true;
    const stop = () => {
      going = false;
      for (const e of moves) removeEventListener(e, stop);
    };
    const moves = ['wheel', 'touchstart', 'keydown', 'pointerdown'];
    for (const e of moves) addEventListener(e, stop, { passive: true, once: true });
    this.#stop = stop;
    const look = () => {
      if (!going) return;
      if (done() || performance.now() > end) stop();
      else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
  }
}

const keyOf = (state: unknown): string | undefined => (state as { key?: string } | null)?.key;

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

// Moving between the tabs of a service or of an application keeps the place
// on the page.
function sameScreen(a: string, b: string): boolean {
  if (a === b) return true;
  const first = (p: string, n: number) => p.split('/').slice(1, n + 1).join('/');
  if (a.includes('/services/') !== b.includes('/services/')) return false;
  if (a.includes('/services/')) return first(a, 4) === first(b, 4);
  return a.startsWith('/applications/') && first(a, 2) === first(b, 2);
}

export const router = new Router();
