// How well a text fits what somebody typed: whole words before beginnings,
// beginnings before middles, middles before letters in order.

/** score of a text for words; below 0 it does not fit. */
export function score(text: string, words: string[]): number {
  const t = text.toLowerCase();
  let sum = 0;
  for (const w of words) {
    const s = one(t, w);
    if (s < 0) return -1;
    sum += s;
  }
  // of two that fit alike, the shorter says more exactly what was meant
  return sum - t.length / 200;
}

function one(t: string, w: string): number {
  let best = -1;
  for (let at = t.indexOf(w); at >= 0; at = t.indexOf(w, at + 1)) {
    const begins = at === 0 || !/[\p{L}\p{N}]/u.test(t[at - 1]);
    const ends = at + w.length === t.length || !/[\p{L}\p{N}]/u.test(t[at + w.length]);
    best = Math.max(best, begins ? (ends ? 12 : 9) + (at === 0 ? 1 : 0) : 5);
  }
  if (best >= 0) return best;
  // two letters fit nearly everything in some order
  if (w.length < 3) return -1;
  let from = 0;
  let starts = 0;
  let gaps = 0;
  for (const c of w) {
    const at = t.indexOf(c, from);
    if (at < 0) return -1;
    if (at === 0 || !/[\p{L}\p{N}]/u.test(t[at - 1])) starts++;
    else gaps += at - from;
    from = at + 1;
  }
  return gaps > w.length * 2 ? -1 : 1 + (2 * starts) / w.length - gaps / 20;
}
