// Figures and times as people read them.

const units = ['B', 'kB', 'MB', 'GB', 'TB'];

export function bytes(n: number): string {
  let i = 0;
  let value = n;
  while (value >= 1000 && i < units.length - 1) {
    value /= 1024;
    i++;
  }
  return `${i === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[i]}`;
}

export function count(n: number, one: string, many = one + 's'): string {
  return `${n.toLocaleString('en')} ${n === 1 ? one : many}`;
}

/** span is a length of time, short: 3.2 s, 4 min, 2 h 10 min, 5 d. */
export function span(ms: number): string {
  const s = Math.max(0, ms) / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.round(s)} s`;
  const min = Math.floor(s / 60);
  if (min < 60) return min < 10 && s % 60 >= 1 ? `${min} min ${Math.floor(s % 60)} s` : `${min} min`;
  const h = Math.floor(min / 60);
  if (h < 24) return min % 60 ? `${h} h ${min % 60} min` : `${h} h`;
  const d = Math.floor(h / 24);
  return d < 10 && h % 24 ? `${d} d ${h % 24} h` : `${d} d`;
}

/** age is how long ago something was, coarse enough not to flicker. */
export function age(time: string, now: number): string {
  const s = Math.max(0, now - Date.parse(time)) / 1000;
  if (s < 5) return 'just now';
  if (s < 60) return `${Math.floor(s / 5) * 5} s ago`;
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ago`;
  if (s < 86400 * 30) return `${Math.floor(s / 86400)} d ago`;
  return new Date(time).toLocaleDateString('en', { year: 'numeric', month: 'short', day: 'numeric' });
}

export function clock(time: string): string {
  return new Date(time).toLocaleString('en-GB', { day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit' });
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
  const t = sentence(text.trim());
  return t === '' || /[.!?…:]$/.test(t) ? t : t + '.';
}

/** never is true for zero times, which Go sends where nothing happened. */
export function never(time: string | undefined): boolean {
  return !time || time.startsWith('0001-');
}
