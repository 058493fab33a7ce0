// What the reader may do with a service, and the words for what is refused.
import type { Instance, Service } from '../lib/api';
import { live } from '../lib/live.svelte';
import { may } from '../lib/may';
import { t } from '../lib/text.svelte';
import { screens } from '../screens/screens';

/** changeable says that the reader may change what a service runs. */
export const changeable = (s: Service): boolean => may(live.applications.get(s.application), 'developer');

/** owned says that the reader may delete a service for good. */
export const owned = (s: Service): boolean => may(live.applications.get(s.application), 'owner');

/** terminalOf is where a shell in an instance is opened, empty where the reader cannot have one. */
export function terminalOf(i: Instance): string {
  const there = i.service && i.state === 'ready' && may(live.applications.get(i.application), 'developer') && screens.some((s) => s.path === '/terminal');
  return there ? `/terminal?instance=${encodeURIComponent(i.id)}` : '';
}

/** whyNot is why a change cannot begin now, or nothing. */
export function whyNot(s: Service, busy: boolean): string {
  if (live.link === 'lost') return t('Nutshell does not answer now');
  if (!changeable(s)) return t('You may look at this application, but not change it');
  return busy ? t('An operation is under way; wait until it has ended') : '';
}
