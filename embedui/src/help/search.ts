// Search in the embedded manual: every word must begin a word of a section;
// titles count more than headings, headings more than text.
import type { Page, Section } from 'virtual:manual';

export interface Hit {
  page: Page;
  section: Section;
  score: number;
  /** a piece of the text, cut where the words are */
  before: string;
  match: string;
  after: string;
}

interface Entry {
  page: Page;
  section: Section;
  title: string;
  heading: string;
  text: string;
  small: string;
}

const decode = (html: string): string => html.replace(/<(br|\/p|\/li|\/td|\/th|\/pre|\/h\d)>/g, ' ').replace(/<[^>]*>/g, '').replace(/&lt;/g, '<').replace(/&gt;/g, '>').replace(/&quot;/g, '"').replace(/&#39;/g, "'").replace(/&amp;/g, '&').replace(/\s+/g, ' ');

/** index makes what is searched of the pages, once. */
export function index(pages: Page[]): Entry[] {
  return pages.flatMap((page) => page.sections.map((section) => {
    const text = decode(section.html);
    return { page, section, title: page.title.toLowerCase(), heading: section.title.toLowerCase(), text, small: text.toLowerCase() };
  }));
}

// at finds a word at the beginning of a word.
function at(text: string, word: string, from = 0): number {
  for (let i = text.indexOf(word, from); i >= 0; i = text.indexOf(word, i + 1)) if (i === 0 || !/[\p{L}\p{N}]/u.test(text[i - 1])) return i;
  return -1;
}

function times(text: string, word: string): number {
  let n = 0;
  for (let i = at(text, word); i >= 0 && n < 4; i = at(text, word, i + 1)) n++;
  return n;
}

export function search(entries: Entry[], query: string): Hit[] {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  const hits: Hit[] = [];
  for (const e of entries) {
    let score = 0;
    const all = words.every((w) => {
      const s = (at(e.title, w) >= 0 ? 8 : 0) + (at(e.heading, w) >= 0 ? 12 : 0) + times(e.small, w);
      score += s;
      return s > 0;
    });
    if (!all) continue;
    if (e.section.level === 1) score += 1;
    const places = words.map((w) => at(e.small, w)).filter((p) => p >= 0);
    const first = places.length ? Math.min(...places) : 0;
    const word = words.find((w) => at(e.small, w) === first) ?? '';
    const from = Math.max(0, e.text.lastIndexOf(' ', Math.max(0, first - 50)));
    hits.push({ page: e.page, section: e.section, score, before: (from > 0 ? '…' : '') + e.text.slice(from, first), match: e.text.slice(first, first + (places.length ? word.length : 0)), after: e.text.slice(first + (places.length ? word.length : 0), first + 150) + '…' });
  }
  return hits.sort((a, b) => b.score - a.score).slice(0, 30);
}
