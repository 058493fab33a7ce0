// Where things are: paths of the pages and of the API.
import type { Application, Operation, Service, State } from './api';
import { live } from './live.svelte';
import { t } from './text.svelte';

// A path that ends like a file's name would be looked for as a file, so what
// has a dot in its name goes by its id there.
const word = (name: string, id: number): string => (name.includes('.') ? String(id) : encodeURIComponent(name));

/** ref is what stands for an application in a path: other people's go by id, because only one's own names are unique. */
function ref(a: Application): string {
  return a.owner === live.session?.user.name ? word(a.name, a.id) : String(a.id);
}

export function applicationPath(a: Application): string {
  return `/applications/${ref(a)}`;
}

export function servicePath(s: Service, tab = ''): string {
  const a = live.applications.get(s.application);
  return `/applications/${a ? ref(a) : s.application}/services/${word(s.name, s.id)}${tab ? '/' + tab : ''}`;
}

/** applicationApi and serviceApi use ids, so that a rename never breaks a request. */
export const applicationApi = (a: Application): string => `/applications/${a.id}`;
export const serviceApi = (s: Service): string => `/applications/${s.application}/services/${s.id}`;

export function findApplication(name: string): Application | undefined {
  const all = [...live.applications.values()];
  const user = live.session?.user.name;
  return all.find((a) => a.name === name && a.owner === user) ?? all.find((a) => String(a.id) === name) ?? all.find((a) => a.name === name);
}

export function findService(a: Application, name: string): Service | undefined {
  const all = servicesOf(a.id);
  return all.find((s) => s.name === name) ?? all.find((s) => String(s.id) === name);
}

export function servicesOf(application: number): Service[] {
  return [...live.services.values()].filter((s) => s.application === application).sort((x, y) => x.id - y.id);
}

/** healthOf is the state that deserves attention first, of an application and its services. */
export function healthOf(a: Application): State {
  const states = [a.state, ...servicesOf(a.id).map((s) => s.state)];
  for (const worst of ['ERROR', 'PROLOGUE', 'ADAPTING', 'EPILOGUE'] as const) if (states.includes(worst)) return worst;
  return a.state;
}

/**
 * underWay is the operation under way on a service, or with service 0 on the
 * application itself. The operations know best: what a service says of its
 * operation may be a moment old.
 */
export function underWay(application: number, service: number): Operation | undefined {
  for (const o of live.operations.values()) {
    if (o.application === application && o.service === service && (o.state === 'running' || o.state === 'pending')) return o;
  }
  return undefined;
}

/** subject names what an operation works on: "shop" or "shop / php". */
export function subject(application: number, service: number): string {
  if (!application) return t('Installation');
  const a = live.applications.get(application);
  if (!a) return `application ${application}`;
  if (!service) return a.name;
  const s = live.services.get(`${application}/${service}`);
  return `${a.name} / ${s ? s.name : 'service ' + service}`;
}

/** browsable says that a browser can open an address; a database's is for programs. */
export const browsable = (url: string): boolean => /^https?:/.test(url);

export function subjectPath(application: number, service: number): string | undefined {
  const s = live.services.get(`${application}/${service}`);
  if (service && s) return servicePath(s);
  const a = live.applications.get(application);
  return a && applicationPath(a);
}
