// Figures and times as people read them, in the reader's language.
import { t, texts } from './text.svelte';

const units = ['B', 'kB', 'MB', 'GB', 'TB'];

/** number is a figure with at most so many digits behind the point. */
export function number(n: number, digits = 0): string {
  return n.toLocaleString(texts.locale, { maximumFractionDigits: digits });
}

const tenths = (n: number): string => n.toLocaleString(texts.locale, { minimumFractionDigits: 1, maximumFractionDigits: 1 });

export function bytes(n: number): string {
  let i = 0;
  let value = n;
  while (value >= 1000 && i < units.length - 1) {
    value /= 1024;
    i++;
  }
  return `${i === 0 || value >= 100 ? number(Math.round(value)) : tenths(value)} ${units[i]}`;
}

/** span is a length of time, short: 3.2 s, 4 min, 2 h 10 min, 5 d. */
export function span(ms: number): string {
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return t('{n} s', { n: tenths(s) });
  if (s < 60) return t('{n} s', { n: Math.round(s) });
  const min = Math.floor(s / 60);
  if (min < 60) return min < 10 && s % 60 >= 1 ? t('{min} min {s} s', { min, s: Math.floor(s % 60) }) : t('{n} min', { n: min });
  const h = Math.floor(min / 60);
  if (h < 24) return min % 60 ? t('{h} h {min} min', { h, min: min % 60 }) : t('{n} h', { n: h });
  const d = Math.floor(h / 24);
  return d < 10 && h % 24 ? t('{d} d {h} h', { d, h: h % 24 }) : t('{n} d', { n: d });
}

/** age is how long ago something was, coarse enough not to flicker. */
export function age(time: string, now: number): string {
  const s = Math.max(0, now - Date.parse(time)) / 1000;
  if (s < 5) return t('just now');
  if (s < 60) return t('{n} s ago', { n: Math.floor(s / 5) * 5 });
  if (s < 3600) return t('{n} min ago', { n: Math.floor(s / 60) });
  if (s < 86400) return t('{n} h ago', { n: Math.floor(s / 3600) });
  if (s < 86400 * 30) return t('{n} d ago', { n: Math.floor(s / 86400) });
  return day(time);
}

/** day is a date without its time. */
export function day(time: string): string {
  return new Date(time).toLocaleDateString(texts.locale, { year: 'numeric', month: 'short', day: 'numeric' });
}

export function clock(time: string): string {
  return new Date(time).toLocaleString(texts.locale, { day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit' });
}

export function percent(part: number, whole: number): number {
  return whole > 0 ? Math.min(100, (100 * part) / whole) : 0;
}

/** sentence begins with a capital, as titles and steps do on a page; ids and names of files stay as they are. */
export function sentence(text: string): string {
  return /^\S*[-./_]\S*\d|^\S+\.\w/.test(text) ? text : text.charAt(0).toUpperCase() + text.slice(1);
}

/** full is a text as a whole sentence: kinds and errors begin small and end without a stop. */
export function full(text: string): string {
  const trimmed = sentence(text.trim());
  return trimmed === '' || /[.!?…:]$/.test(trimmed) ? trimmed : trimmed + '.';
}

/** never is true for zero times, which Go sends where nothing happened. */
export function never(time: string | undefined): boolean {
  return !time || time.startsWith('0001-');
}

/** count knows English only; use tn. */
export function count(n: number, one: string, many = one + 's'): string {
  return `${number(n)} ${n === 1 ? one : many}`;
}
