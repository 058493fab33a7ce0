// What pages read out of the description of a kind's actions.
import type { Action, ActResult, Json, Kind, Parameter } from '../lib/api';
import { covered } from '../panels/panels';

/** given are the arguments that were filled in. */
export const given = (args: Record<string, string>): Record<string, string> => Object.fromEntries(Object.entries(args).filter(([, v]) => v !== ''));

/** words are an action's arguments on the command line: required ones stand behind the service, the others are options. */
export function words(a: Action, args: Record<string, string>): string[] {
  const have = given(args);
  return a.params.flatMap((x) => (x.required ? [have[x.name] ?? x.name.toUpperCase()] : x.name in have ? ['--' + x.name.replaceAll('_', '-'), have[x.name]] : []));
}

/** streamPath is where the file of an action goes to or comes from. */
export function streamPath(a: Action, args: Record<string, string>): string {
  const query = new URLSearchParams(given(args)).toString();
  return `/streams/${a.name}${query ? '?' + query : ''}`;
}

/** sensitive says that what is typed shall not be seen. */
export const sensitive = (p: Parameter): boolean => /password|secret/.test(p.name);

/** Row is one thing of a collection. */
export type Row = Record<string, Json>;

/** Collection is what the actions list_X, create_X, delete_X and others with X in their name make together: a table. */
export interface Collection {
  /** one of them, as in the names of actions */
  noun: string;
  list: Action;
  create?: Action;
  remove?: Action;
  others: Action[];
}

const singular = (many: string): string => (many.endsWith('ies') ? many.slice(0, -3) + 'y' : many.replace(/s$/, ''));

/** collections finds them in a kind's actions; what is kept by other means is left out. */
export function collections(kind: Kind): Collection[] {
  return kind.actions
    .filter((a) => a.reads && a.name.startsWith('list_') && a.params.every((p) => !p.required) && a.name !== 'list_volumes')
    .map((list) => {
      const noun = singular(list.name.slice('list_'.length));
      const of = (a: Action) => !a.reads && !a.takes && !a.gives && !a.secret && new RegExp(`(^|_)${noun}(_|$)`).test(a.name);
      const all = kind.actions.filter(of);
      const named = (...verbs: string[]) => all.find((a) => verbs.some((v) => a.name === `${v}_${noun}`));
      const [create, remove] = [named('create', 'add'), named('delete', 'remove')];
      return { noun, list, create, remove, others: all.filter((a) => a !== create && a !== remove && a.params.some((p) => isKey(p, noun))) };
    })
    .filter((c) => c.create || c.remove);
}

/** isKey says that a parameter names the thing that an action is about. */
export const isKey = (p: Parameter, noun: string): boolean => p.name === 'name' || p.name === noun;

/** rows are what a list action answered, whether bare or under a name. */
export function rows(answer: ActResult): Row[] {
  const result = answer.result;
  const found = Array.isArray(result) ? result : result && typeof result === 'object' ? Object.values(result).find((v) => Array.isArray(v)) : undefined;
  return ((found as Json[] | undefined) ?? []).map((r) => (r && typeof r === 'object' && !Array.isArray(r) ? (r as Row) : { name: r }));
}

/** placed are names of actions that another panel of the page shows. */
export function placed(kind: Kind): Set<string> {
  const shown = covered(kind.name);
  for (const c of collections(kind)) for (const a of [c.list, c.create, c.remove, ...c.others]) if (a) shown.add(a.name);
  for (const a of kind.actions) if (a.takes || a.gives || a.secret || a.name === 'connect') shown.add(a.name);
  return shown;
}

/** reached says that a kind is reached in another way than by a browser: with an address, an account, a password. */
export const reached = (kind: Kind): boolean => !!kind.secrets?.some((x) => x.own) || !!kind.offers?.some((o) => o.name !== 'url');

/** holds says that a kind has contents to look at beside code: tables, files in and out. */
export const holds = (kind: Kind): boolean => collections(kind).length > 0 || kind.actions.some((a) => a.takes || a.gives);
