// Starting an application with its services: each is its own operation, so
// that one that fails does not keep the others away.
import type { Application, Operation, Service } from './api';
import { post } from './client';
import { live } from './live.svelte';
import { applicationApi, serviceApi, servicesOf, underWay } from './paths';
import { tell } from './tell.svelte';
import { t, tn } from './text.svelte';

/** startable are the services that do not run and that nothing else is done to. */
export const startable = (a: Application): Service[] => servicesOf(a.id).filter((s) => (s.state === 'INIT' || s.state === 'STOPPED') && !underWay(a.id, s.id));

/** startAll starts an application where it does not run, then the services. */
export async function startAll(a: Application, services: Service[]): Promise<void> {
  if (a.state !== 'RUNNING') {
    const o = await tell.begin(() => post<Operation>(applicationApi(a) + '/start'), services.length ? tn('{name} runs; its service is being started.', '{name} runs; its {n} services are being started.', services.length, { name: a.name }) : t('{name} runs.', { name: a.name }));
    if (!o || !(await live.done(o.id))) return;
  }
  await Promise.all(services.map((s) => tell.begin(() => post<Operation>(serviceApi(s) + '/start'), t('{name} runs.', { name: s.name }))));
}
