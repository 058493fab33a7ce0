// Values of settings: shown, compared and checked as the director does it.
import type { Json, Setting } from '../lib/api';
import { t } from '../lib/text.svelte';

export function same(a: Json | undefined, b: Json | undefined): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

export function show(v: Json | undefined): string {
  if (v === null || v === undefined) return '';
  if (Array.isArray(v)) return v.map(String).join(',');
  if (typeof v === 'boolean') return v ? 'on' : 'off';
  return typeof v === 'object' ? JSON.stringify(v) : String(v);
}

/** isList says whether the value is kept as an array; some kinds keep lists as text. */
export const isList = (f: Setting): boolean => f.type === 'list' && typeof f.default !== 'string';

/** check says what is wrong with a value, or nothing. The director has the last word. */
export function check(f: Setting, v: Json): string {
  if (f.type === 'integer') {
    if (typeof v !== 'number' || !Number.isInteger(v)) return t('A whole number is needed.');
    if (f.min !== undefined && v < f.min) return t('The least is {min}.', { min: f.min });
    if (f.max !== undefined && v > f.max) return t('The most is {max}.', { max: f.max });
    return '';
  }
  if (typeof v !== 'string') return '';
  if (f.type === 'size' && !/^[1-9][0-9]{0,8}[KMG]?$/.test(v)) return t('A size is needed, such as 64M or 1G.');
  if (f.type !== 'size' && f.max !== undefined && new TextEncoder().encode(v).length > f.max) return t('At most {n} bytes are allowed.', { n: f.max });
  if (f.pattern) {
    try {
      if (!new RegExp(f.pattern).test(v)) return t('It must have the form {pattern}.', { pattern: f.pattern });
    } catch {
      // the director's pattern language knows more than the browser's
    }
  }
  return '';
}
