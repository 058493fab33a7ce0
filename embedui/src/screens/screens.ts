// Which screen stands at which path. Each screen is a file of its own that is
// fetched when it is first looked at, and one line here.
import type { Component } from 'svelte';

// Screens take the words of their path as properties; what they need is
// checked where they are written, not here.
// eslint-disable-next-line @typescript-eslint/no-explicit-any
type Loaded = { default: Component<any> };

export interface Screen {
  /** ':word' is handed to the screen, ':word?' may be missing */
  path: string;
  /** only where the address has this in its query */
  query?: string;
  /** for administrators of the installation */
  admin?: boolean;
  load: () => Promise<Loaded>;
}

export const screens: Screen[] = [
  { path: '/', load: () => import('./Overview.svelte') },
  { path: '/applications', query: 'new', load: () => import('./NewApplication.svelte') },
  { path: '/applications', load: () => import('./Applications.svelte') },
  { path: '/applications/:app/services/:name/:tab?', load: () => import('./ServicePage.svelte') },
  { path: '/applications/:name/:tab?', load: () => import('./ApplicationPage.svelte') },
  { path: '/instances', load: () => import('./Instances.svelte') },
  { path: '/terminal', load: () => import('../terminal/Terminals.svelte') },
  { path: '/operations', load: () => import('./Operations.svelte') },
  { path: '/operations/:id', load: () => import('./OperationPage.svelte') },
  { path: '/bin', load: () => import('./Bin.svelte') },
  { path: '/backups', load: () => import('./Backups.svelte') },
  { path: '/account', load: () => import('./Account.svelte') },
  { path: '/account/:user', admin: true, load: () => import('./Account.svelte') },
  { path: '/help/:group?/:page?', load: () => import('./Help.svelte') },
  { path: '/welcome', admin: true, load: () => import('./Welcome.svelte') },
  { path: '/profile/:part?', load: () => import('./Profile.svelte') },
  { path: '/nodes', admin: true, load: () => import('./Nodes.svelte') },
  { path: '/nodes/:id', admin: true, load: () => import('./NodePage.svelte') },
  { path: '/users', admin: true, load: () => import('./Users.svelte') },
  { path: '/settings', admin: true, load: () => import('./Settings.svelte') },
  { path: '/audit', admin: true, load: () => import('./Audit.svelte') },
];

/** find chooses the screen of a path, with the words that it takes from it. */
export function find(segments: string[], query: URLSearchParams, admin: boolean): { screen: Screen; words: Record<string, string> } | undefined {
  for (const screen of screens) {
    if ((screen.admin && !admin) || (screen.query && !query.has(screen.query))) continue;
    const words = match(screen.path.split('/').filter(Boolean), segments);
    if (words) return { screen, words };
  }
  return undefined;
}

function match(pattern: string[], segments: string[]): Record<string, string> | undefined {
  if (segments.length > pattern.length) return undefined;
  const words: Record<string, string> = {};
  for (const [i, word] of pattern.entries()) {
    const here = segments[i];
    if (word.startsWith(':')) {
      if (here !== undefined) words[word.replace(/^:|\?$/g, '')] = here;
      else if (!word.endsWith('?')) return undefined;
    } else if (word !== here) return undefined;
  }
  return words;
}
