// What can stand at a place of a manifest, read out of its JSON schema: for
// YAML by indentation, for JSON by brackets. A text that is half written is
// the usual case here, so nothing is parsed as a whole.

export interface Schema {
  $ref?: string;
  $defs?: Record<string, Schema>;
  definitions?: Record<string, Schema>;
  title?: string;
  description?: string;
  type?: string | string[];
  properties?: Record<string, Schema>;
  required?: string[];
  items?: Schema;
  enum?: unknown[];
  const?: unknown;
  examples?: unknown[];
  default?: unknown;
  anyOf?: Schema[];
  oneOf?: Schema[];
  allOf?: Schema[];
  if?: Schema;
  then?: Schema;
  additionalProperties?: Schema | boolean;
}

/** Place is where the caret is. */
export interface Place {
  /** keys from the top; '[]' is an item of a list */
  path: string[];
  /** the key whose value is being written, if one is */
  key?: string;
  /** what of the word stands before the caret */
  prefix: string;
  /** keys that the mapping has already */
  present: string[];
  /** column of the mapping's keys */
  column: number;
}

export interface Suggestion {
  label: string;
  insert: string;
  detail: string;
  help: string;
  required: boolean;
}

const isJSON = (text: string): boolean => /^\s*[{[]/.test(text);

/** placeAt finds where the caret is. */
export function placeAt(text: string, caret: number): Place {
  return isJSON(text) ? placeInJSON(text, caret) : placeInYAML(text, caret);
}

interface Row {
  dashes: number[];
  column: number;
  key: string;
  value: string;
  empty: boolean;
}

function readRow(line: string): Row {
  const dashes: number[] = [];
  let at = line.length - line.trimStart().length;
  while (/^- ?/.test(line.slice(at)) && !/^---/.test(line.slice(at))) {
    dashes.push(at);
    const rest = line.slice(at + 1);
    at += 1 + (rest.length - rest.trimStart().length);
  }
  const match = /^(["']?)([^\s"':#][^"':]*)\1:(?:\s+(.*))?$/.exec(line.slice(at).trimEnd());
  const rest = line.slice(at).trim();
  return { dashes, column: at, key: match?.[2].trim() ?? '', value: (match?.[3] ?? '').replace(/\s#.*$/, ''), empty: rest === '' || rest.startsWith('#') || rest === '---' };
}

function placeInYAML(text: string, caret: number): Place {
  const start = text.lastIndexOf('\n', caret - 1) + 1;
  const before = text.slice(0, start).split('\n').slice(0, -1);
  const after = text.slice(caret).split('\n').slice(1);
  const typed = text.slice(start, caret);
  const now = readRow(typed);
  const value = /^(["']?)([^\s"':#][^"':]*)\1:\s+(.*)$/.exec(typed.slice(now.column));
  const place: Place = { path: [], prefix: value ? value[3].trimStart() : typed.slice(now.column), present: [], column: now.column, ...(value ? { key: value[2].trim() } : {}) };
  // An empty line belongs to the mapping that its column says.
  let limit = now.column;
  let listed = false;
  let own = true; // still in the mapping of the caret
  const enter = (r: { dashes: number[] }) => {
    for (const _ of r.dashes) place.path.unshift('[]');
    [limit, listed, own] = [r.dashes[0], true, false];
  };
  if (now.dashes.length) enter(now);
  for (let i = before.length - 1; i >= 0; i--) {
    const r = readRow(before[i]);
    if (r.empty && !r.dashes.length) continue;
    if (listed) {
      if (r.dashes.length && r.dashes[0] >= limit) continue; // another item, or inside one
      if (!r.key || r.value || r.column > limit) continue;
    } else if (r.column === limit) {
      if (own && r.key) place.present.push(r.key);
      if (r.dashes.length) enter(r);
      continue;
    } else if (r.column > limit || !r.key || r.value) continue;
    place.path.unshift(r.key);
    [limit, listed, own] = [r.column, false, false];
    if (r.dashes.length) enter(r);
  }
  for (const line of after) {
    const r = readRow(line);
    if (r.empty) continue;
    if (r.column < now.column || r.dashes.length) break;
    if (r.column === now.column && r.key) place.present.push(r.key);
  }
  return place;
}

function placeInJSON(text: string, caret: number): Place {
  const stack: { list: boolean; keys: string[]; key: string }[] = [];
  let word: string | null = null;
  let value = false;
  for (let i = 0; i < caret; i++) {
    const c = text[i];
    if (c === '"') {
      const end = closing(text, i);
      if (end >= caret) {
        word = text.slice(i + 1, caret);
        break;
      }
      const top = stack.at(-1);
      if (top && !top.list && !value) top.keys.push((top.key = text.slice(i + 1, end)));
      i = end;
    } else if (c === '{' || c === '[') (stack.push({ list: c === '[', keys: [], key: '' }), (value = false));
    else if (c === '}' || c === ']') (stack.pop(), (value = true));
    else if (c === ':') value = true;
    else if (c === ',') value = false;
  }
  const top = stack.at(-1);
  const path = stack.slice(0, -1).map((s) => (s.list ? '[]' : s.key));
  if (top?.list) path.push('[]');
  return { path, prefix: word ?? '', present: top?.keys ?? [], column: 0, ...(value && top && !top.list ? { key: top.key } : {}) };
}

function closing(text: string, from: number): number {
  for (let i = from + 1; i < text.length; i++) {
    if (text[i] === '\\') i++;
    else if (text[i] === '"' || text[i] === '\n') return i;
  }
  return text.length;
}

/** Known tells the value of a key near the caret, for what the schema says of some values only. */
type Known = (key: string) => string | undefined;

const known = (text: string, caret: number): Known => (key) => {
  const form = new RegExp(`^[ \\t]*(?:- +)*[{,]?[ \\t]*["']?${key}["']?[ \\t]*:[ \\t]*["']?([\\w.-]+)`, 'gm');
  // the service of the caret begins with what it is; what was said last counts
  return [...text.slice(0, caret).matchAll(form)].at(-1)?.[1];
};

/** at is the part of the schema for a path, with references followed and choices laid together. */
export function at(root: Schema, path: string[], values: Known = () => undefined): Schema {
  let s = flat(root, root, values);
  for (const step of path) {
    const next = step === '[]' ? s.items : (s.properties?.[step] ?? (typeof s.additionalProperties === 'object' ? s.additionalProperties : undefined));
    s = next ? flat(root, next, values) : {};
  }
  return s;
}

function flat(root: Schema, s: Schema, values: Known, depth = 0): Schema {
  if (depth > 8) return s;
  if (s.$ref) {
    const name = s.$ref.split('/').at(-1)!;
    const to = s.$ref === '#' ? root : (root.$defs?.[name] ?? root.definitions?.[name] ?? {});
    return { ...flat(root, to, values, depth + 1), ...(s.description ? { description: s.description } : {}) };
  }
  const holds = (c: Schema) => Object.entries(c.properties ?? {}).every(([k, v]) => v.const !== undefined && String(v.const) === values(k));
  const parts = [...(s.allOf ?? []), ...(s.anyOf ?? []), ...(s.oneOf ?? [])].flatMap((p) => (p.if ? (holds(p.if) && p.then ? [p.then] : []) : [p])).map((p) => flat(root, p, values, depth + 1));
  return parts.reduce<Schema>((all, p) => ({ ...p, ...all, properties: mixed(all.properties, p.properties), items: all.items ?? p.items, enum: all.enum || p.enum ? [...(all.enum ?? []), ...(p.enum ?? [])] : undefined }), { ...s });
}

// A rule for one kind adds to what is said of a field in general.
function mixed(a?: Record<string, Schema>, b?: Record<string, Schema>): Record<string, Schema> | undefined {
  if (!a || !b) return a ?? b;
  const all = { ...b, ...a };
  for (const k of Object.keys(a)) if (b[k]) all[k] = { ...a[k], ...b[k], description: a[k].description ?? b[k].description, properties: mixed(a[k].properties, b[k].properties) };
  return all;
}

const typeOf = (s: Schema): string => (Array.isArray(s.type) ? s.type.find((t) => t !== 'null') : s.type) ?? (s.properties ? 'object' : s.items ? 'array' : '');

/** suggest is what can stand at a place, those that begin as typed first. */
export function suggest(root: Schema, text: string, place: Place, caret = text.length): Suggestion[] {
  const values = known(text, caret);
  const s = at(root, place.path, values);
  const json = isJSON(text);
  if (place.key !== undefined || !s.properties) {
    const v = place.key === undefined ? s : at(root, [...place.path, place.key], values);
    const choices = v.enum ?? (v.const !== undefined ? [v.const] : typeOf(v) === 'boolean' ? [true, false] : (v.examples ?? []));
    return rank(choices.map((c) => ({ label: String(c), insert: json ? JSON.stringify(c).replace(/^"|"$/g, '') : String(c), detail: '', help: v.description ?? '', required: false })), place.prefix);
  }
  const inner = ' '.repeat(place.column + 2);
  return rank(Object.entries(s.properties).filter(([k]) => !place.present.includes(k)).map(([k, raw]) => {
    const p = flat(root, raw, values);
    const kind = typeOf(p);
    const insert = json ? k : k + (kind === 'array' ? `:\n${inner}- ` : kind === 'object' ? `:\n${inner}` : ': ');
    return { label: k, insert, detail: p.enum ? p.enum.slice(0, 4).join(', ') + (p.enum.length > 4 ? ', …' : '') : kind, help: p.description ?? '', required: s.required?.includes(k) ?? false };
  }), place.prefix);
}

function rank(all: Suggestion[], prefix: string): Suggestion[] {
  const p = prefix.toLowerCase();
  const found = all.filter((x) => x.label.toLowerCase().includes(p));
  return found.sort((a, b) => Number(b.label.toLowerCase().startsWith(p)) - Number(a.label.toLowerCase().startsWith(p)) || Number(b.required) - Number(a.required));
}
