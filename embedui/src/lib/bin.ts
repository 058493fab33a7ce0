// What was deleted and can be brought back.
import type { components } from './schema';
import { bytes } from './format';
import { t, tn } from './text.svelte';

export type Binned = components['schemas']['Binned'];
export type Held = components['schemas']['Held'];
export type Restored = components['schemas']['Restored'];

/** contents says how many of what an entry holds. */
export function contents(h: Held): string {
  const words: Record<string, () => string> = {
    service: () => tn('{n} service', '{n} services', h.count),
    version: () => tn('{n} code version', '{n} code versions', h.count),
    volume: () => tn('{n} volume', '{n} volumes', h.count),
    site: () => tn('{n} host name', '{n} host names', h.count),
    variable: () => tn('{n} variable', '{n} variables', h.count),
    secret: () => tn('{n} secret', '{n} secrets', h.count),
    script: () => tn('{n} startup script', '{n} startup scripts', h.count),
    repository: () => t('its git repository'),
  };
  const what = words[h.what]?.() ?? `${h.count} ${h.what}`;
  return h.bytes ? t('{what}, {size}', { what, size: bytes(h.bytes) }) : what;
}

/** kindOf names what an entry was. */
export function kindOf(b: Binned): string {
  const words: Record<string, () => string> = { application: () => t('Application'), service: () => t('Service'), version: () => t('Code version'), volume: () => t('Volume') };
  return words[b.kind]?.() ?? b.kind;
}

/** whole is an entry's name with those of what it was a part of. */
export const whole = (b: Binned): string => [b.kind === 'application' ? '' : b.application_name, b.kind === 'version' || b.kind === 'volume' ? b.service_name : '', b.name].filter(Boolean).join(' / ');

/** how is the query of a deletion. */
export function how(backup: boolean, now: boolean): string {
  const words = [...(backup ? ['backup=true'] : []), ...(now ? ['now=true'] : [])];
  return words.length ? '?' + words.join('&') : '';
}
