// Reads what people keep in .env files: NAME=value, quotes, comments, export.
import { t } from '../lib/text.svelte';

export interface Read {
  variables: { name: string; value: string }[];
  /** what was not understood, by line number */
  wrong: { line: number; why: string }[];
}

const escapes: Record<string, string> = { n: '\n', r: '\r', t: '\t', '"': '"', '\\': '\\', $: '$' };

export const nameForm = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** secretly says whether a name sounds like something that nobody should read. */
export const secretly = (name: string): boolean => /SECRET|PASSWORD|PASSWD|TOKEN|PRIVATE|CREDENTIAL|API_?KEY|(^|_)KEY$|DATABASE_URL|DSN/i.test(name);

export function readDotenv(text: string): Read {
  const found = new Map<string, string>();
  const wrong: Read['wrong'] = [];
  const lines = text.replace(/\r\n?/g, '\n').split('\n');
  for (let i = 0; i < lines.length; i++) {
    const at = i + 1;
    const line = lines[i].trim().replace(/^export\s+/, '');
    if (line === '' || line.startsWith('#')) continue;
    const eq = line.indexOf('=');
    const name = line.slice(0, eq).trim();
    if (eq < 0) {
      wrong.push({ line: at, why: t('there is no = in it') });
      continue;
    }
    if (!nameForm.test(name)) {
      wrong.push({ line: at, why: t('“{name}” cannot be a name: use letters, digits and _, not beginning with a digit', { name }) });
      continue;
    }
    let rest = line.slice(eq + 1).trimStart();
    const quote = rest[0];
    if (quote === '"' || quote === "'") {
      // a quoted value may go over several lines
      let end = close(rest, quote);
      while (end < 0 && i + 1 < lines.length) {
        rest += '\n' + lines[++i];
        end = close(rest, quote);
      }
      if (end < 0) {
        wrong.push({ line: at, why: t('the quote is not closed') });
        continue;
      }
      const inside = rest.slice(1, end);
      found.set(name, quote === '"' ? inside.replace(/\\(.)/g, (all, c: string) => escapes[c] ?? all) : inside);
    } else found.set(name, rest.replace(/\s+#.*$/, '').trimEnd());
  }
  return { variables: [...found].map(([name, value]) => ({ name, value })), wrong };
}

function close(text: string, quote: string): number {
  for (let i = 1; i < text.length; i++) {
    if (text[i] === '\\' && quote === '"') i++;
    else if (text[i] === quote) return i;
  }
  return -1;
}
