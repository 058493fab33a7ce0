// Lengths of time as the director writes them (168h0m0s) and as people do (7d).

const form = /^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$/;

/** people is a duration as people write it; what is no duration stays as it is. */
export function people(value: string): string {
  const m = form.exec(value);
  if (!m || value === '') return value;
  const seconds = 3600 * Number(m[1] ?? 0) + 60 * Number(m[2] ?? 0) + Number(m[3] ?? 0);
  if (seconds && seconds % 86400 === 0) return `${seconds / 86400}d`;
  return [[Math.floor(seconds / 3600), 'h'], [Math.floor(seconds / 60) % 60, 'm'], [seconds % 60, 's']].filter(([n]) => n).map((p) => p.join('')).join('') || '0';
}

/** wire is what the director understands of what people write: it knows no days. */
export function wire(typed: string): string {
  const m = /^(\d+)\s*d(?:ays?|agen|ag)?$/i.exec(typed.trim());
  return m ? `${24 * Number(m[1])}h` : typed.trim();
}
