// Changes to the text of a manifest that a form makes: only the lines that are
// meant change; comments and what somebody wrote stay. Manifests in JSON, and
// YAML in braces, are left to the text.

export interface Block {
  /** first line and the one after the last, from 0 */
  from: number;
  to: number;
  /** column of the fields */
  indent: number;
  kind: string;
  name: string;
}

const value = (line: string): string => line.replace(/^[^:]*:\s*/, '').replace(/\s+#.*$/, '').replace(/^(["'])(.*)\1\s*$/, '$2').trim();

/** blocks are the services of a manifest, in their order; null: this text has another form. */
export function blocks(text: string): Block[] | null {
  const lines = text.split('\n');
  const head = lines.findIndex((l) => /^Services:\s*(#.*)?$/.test(l));
  if (head < 0) return null;
  const found: Block[] = [];
  let dash = -1;
  for (let i = head + 1; i < lines.length; i++) {
    const l = lines[i];
    if (/^\s*(#.*)?$/.test(l)) continue;
    const item = /^(\s*)-(\s+)/.exec(l);
    const column = l.search(/\S/);
    if (item && (dash < 0 || item[1].length === dash)) {
      dash = item[1].length;
      found.push({ from: i, to: i + 1, indent: item[0].length, kind: '', name: '' });
    } else if (column === 0 || dash < 0) break;
    else found.at(-1)!.to = i + 1;
  }
  for (const b of found) {
    for (let i = b.from; i < b.to; i++) {
      const field = i === b.from ? lines[i].slice(b.indent) : lines[i].startsWith(' '.repeat(b.indent)) ? lines[i].slice(b.indent) : '';
      if (/^Type:/.test(field)) b.kind = value(field);
      if (/^ServiceName:/.test(field)) b.name = value(field);
    }
    b.name ||= b.kind;
    if (!b.kind) return null;
  }
  return found;
}

/** withCounts says how many instances of each part a service begins with. */
export function withCounts(text: string, b: Block, counts: Record<string, number>): string {
  const lines = text.split('\n');
  const line = `${' '.repeat(b.indent)}StartupInstances: {${Object.entries(counts).map(([p, n]) => `${p}: ${n}`).join(', ')}}`;
  const at = lines.findIndex((l, i) => i >= b.from && i < b.to && (i === b.from ? l.slice(b.indent) : l.startsWith(' '.repeat(b.indent)) ? l.slice(b.indent) : '').startsWith('StartupInstances:'));
  if (at < 0) lines.splice(b.to, 0, line);
  else {
    // what is deeper below it belongs to it
    let end = at + 1;
    while (end < b.to && /^\s*$|^\s+/.test(lines[end]) && lines[end].search(/\S/) > b.indent) end++;
    lines.splice(at, end - at, at === b.from ? lines[at].slice(0, b.indent) + line.trim() : line);
  }
  return lines.join('\n');
}

export function without(text: string, b: Block): string {
  const lines = text.split('\n');
  lines.splice(b.from, b.to - b.from);
  return lines.join('\n');
}

/** withService adds one at the end of the services. */
export function withService(text: string, kind: string, name: string): string {
  const all = blocks(text);
  const lines = text.replace(/\n*$/, '\n').split('\n');
  const dash = all?.length ? all[0].indent - 2 : 2;
  const more = [`${' '.repeat(dash)}- Type: ${kind}`, ...(name && name !== kind ? [`${' '.repeat(dash + 2)}ServiceName: ${name}`] : [])];
  if (!all) {
    if (text.trim() && !/^[A-Za-z#]/m.test(text)) return text;
    lines.splice(lines.length - 1, 0, 'Services:', ...more);
  } else lines.splice(all.length ? all.at(-1)!.to : lines.findIndex((l) => /^Services:/.test(l)) + 1, 0, ...more);
  return lines.join('\n');
}

/** withName gives the application a name. */
export function withName(text: string, name: string): string {
  const quoted = /^[\w][\w.-]*$/.test(name) ? name : JSON.stringify(name);
  return /^Application:/m.test(text) ? text.replace(/^Application:.*$/m, () => `Application: ${quoted}`) : `Application: ${quoted}\n${text}`;
}
