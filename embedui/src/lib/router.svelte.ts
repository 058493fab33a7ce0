// History routing: every screen has a path, links are ordinary anchors.

class Router {
  path = $state(location.pathname);
  query = $state(new URLSearchParams(location.search));

  constructor() {
    addEventListener('popstate', () => this.#read());
    document.addEventListener('click', (e) => {
      if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
      const a = (e.target as Element).closest?.('a');
      if (!a || a.target || a.hasAttribute('download') || a.origin !== location.origin || a.pathname.startsWith('/api/')) return;
      e.preventDefault();
      this.go(a.pathname + a.search);
      // the part of the page that is meant is drawn after this
      if (a.hash) requestAnimationFrame(() => document.getElementById(a.hash.slice(1))?.scrollIntoView());
    });
  }

  /** segments of the path, decoded. */
  get segments(): string[] {
    return this.path.split('/').filter(Boolean).map(decode);
  }

  go(to: string, replace = false): void {
    if (to !== location.pathname + location.search) {
      if (replace) history.replaceState(null, '', to);
      else history.pushState(null, '', to);
    }
    const before = this.path;
    this.#read();
    if (!replace && !sameScreen(before, this.path)) scrollTo(0, 0);
  }

  #read(): void {
    this.path = location.pathname;
    this.query = new URLSearchParams(location.search);
  }
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

// Moving between the tabs of a service keeps the place on the page.
function sameScreen(a: string, b: string): boolean {
  const four = (p: string) => p.split('/').slice(1, 5).join('/');
  return a.includes('/services/') && four(a) === four(b);
}

export const router = new Router();
