// What credits mean for people: how long they last, and when to say so.
import type { Account } from './data';
import { never, span } from './format';
import { t, tn } from './text.svelte';

/** soon is how long before the end a warning is worth its place. */
const soon = 24 * 3600_000;

export interface Warning {
  tone: 'low' | 'gone';
  text: string;
}

/** lasts says for how long the credit lasts as things are, for people. */
export function lasts(a: Account, now: number): string {
  if (a.per_hour === 0) return t('Nothing is charged at the moment.');
  if (never(a.exhausted)) return tn('{n} credit per hour.', '{n} credits per hour.', a.per_hour);
  const left = Date.parse(a.exhausted!) - now;
  return left <= 0 ? t('Used up.') : t('Lasts another {span} as things are.', { span: span(left) });
}

/** warning is what must be said about an account on every page, if anything. */
export function warning(a: Account, now: number): Warning | null {
  if (!a.enforced) return null;
  if (a.credit <= 0 && a.per_hour === 0) return { tone: 'gone', text: t('Your credits are used up, so your applications are stopped. Nothing was deleted. Ask an administrator for more; then start them again.') };
  if (a.per_hour === 0 || never(a.exhausted)) return null;
  const left = Date.parse(a.exhausted!) - now;
  if (left <= 0) return { tone: 'gone', text: t('Your credits are used up: your applications are being stopped. Nothing is deleted.') };
  if (left < soon) return { tone: 'low', text: t('Your credits last another {span}. Then your applications are stopped; nothing is deleted. Stop what you do not need, or ask an administrator for more.', { span: span(left) }) };
  return null;
}
