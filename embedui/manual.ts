// The manual as it is embedded: docs/guide and docs/operate, made into pages
// while the interface is built, so that no reader of Markdown is shipped and
// nothing is fetched from elsewhere.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Marked, type Tokens } from 'marked';
import type { Plugin } from 'vite';

const docs = fileURLToPath(new URL('../docs', import.meta.url));
const groups = ['guide', 'operate'];

interface Section {
  id: string;
  title: string;
  level: number;
  html: string;
}

interface Page {
  path: string;
  group: string;
  title: string;
  sections: Section[];
}

const escape = (s: string) => s.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]!);
const plain = (html: string) => html.replace(/<[^>]*>/g, '').replace(/&amp;/g, '&').replace(/&lt;/g, '<').replace(/&gt;/g, '>').replace(/&quot;/g, '"').replace(/&#39;/g, "'");
const slug = (text: string) => text.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, '').trim().replace(/\s+/g, '-');

/** target is where a link of a page leads in the embedded manual; undefined: nowhere. */
function target(from: string, href: string): string | undefined {
  if (/^https?:/.test(href)) return href;
  const [file, hash = ''] = href.split('#');
  const at = hash ? '#' + hash : '';
  if (!file) return at;
  const found = new URL(file, `http://docs/${from}.md`).pathname.slice(1);
  const page = /^(guide|operate)\/([\w-]+)\.md$/.exec(found);
  if (!page || !existsSync(join(docs, found))) return undefined;
  return `/help/${page[1]}${page[2] === 'README' ? '' : '/' + page[2]}${at}`;
}

function render(path: string, text: string): Page {
  const used = new Map<string, number>();
  const marked = new Marked({
    gfm: true,
    renderer: {
      html: ({ text }: Tokens.HTML | Tokens.Tag) => escape(text),
      image: () => '',
      link(this: { parser: { parseInline: (t: Tokens.Generic[]) => string } }, { href, tokens }: Tokens.Link) {
        const words = this.parser.parseInline(tokens);
        const to = target(path, href);
        if (to === undefined) return words;
        return /^https?:/.test(to) ? `<a href="${escape(to)}" target="_blank" rel="noreferrer">${words}</a>` : `<a href="${escape(to)}">${words}</a>`;
      },
      code: ({ text }: Tokens.Code) => `<pre tabindex="0"><code>${escape(text)}</code></pre>\n`,
    },
  });
  const page: Page = { path, group: path.split('/')[0], title: '', sections: [{ id: '', title: '', level: 1, html: '' }] };
  for (const token of marked.lexer(text)) {
    if (token.type === 'heading') {
      const words = marked.parseInline((token as Tokens.Heading).text) as string;
      if (token.depth === 1 && !page.title) {
        page.title = plain(words);
        continue;
      }
      const base = slug(plain(words)) || 'section';
      const n = used.get(base) ?? 0;
      used.set(base, n + 1);
      page.sections.push({ id: n ? `${base}-${n}` : base, title: plain(words), level: token.depth, html: '' });
    } else {
      const list = Object.assign([token], { links: {} });
      page.sections.at(-1)!.html += (marked.parser(list) as string).replaceAll('<table>', '<div class="scroll-x" tabindex="0"><table class="table">').replaceAll('</table>', '</table></div>');
    }
  }
  page.sections = page.sections.filter((s) => s.title || s.html.trim());
  return page;
}

function pages(): Page[] {
  return groups.flatMap((group) => {
    const folder = join(docs, group);
    if (!existsSync(folder)) return [];
    const names = readdirSync(folder).filter((n) => n.endsWith('.md')).map((n) => n.slice(0, -3));
    // the reading order is that of the folder's own list
    const readme = existsSync(join(folder, 'README.md')) ? readFileSync(join(folder, 'README.md'), 'utf8') : '';
    const place = (n: string) => (n === 'README' ? -1 : (readme.indexOf(`(${n}.md`) + 1 || 1e6));
    return names.sort((a, b) => place(a) - place(b) || a.localeCompare(b)).map((n) => render(`${group}/${n}`, readFileSync(join(folder, n + '.md'), 'utf8')));
  });
}

/** manual gives the modules virtual:manual, all pages, and virtual:manual-titles, only what they are called. */
export function manual(): Plugin {
  return {
    name: 'manual',
    resolveId: (id) => (/^virtual:manual(-titles)?$/.test(id) ? '\0' + id : undefined),
    load(id) {
      if (!id.startsWith('\0virtual:manual')) return undefined;
      const all = pages().map((p) => ({ ...p, path: p.path.replace(/\/README$/, '') }));
      for (const group of groups) if (existsSync(join(docs, group))) for (const n of readdirSync(join(docs, group))) this.addWatchFile(join(docs, group, n));
      if (id.endsWith('-titles')) return `export default ${JSON.stringify(all.map((p) => [p.path, p.title]))}`;
      return `export default ${JSON.stringify(all)}`;
    },
  };
}
