// The parts of an OpenAPI document that the explorer shows.

export interface Schema {
  $ref?: string;
  type?: string | string[];
  description?: string;
  enum?: unknown[];
  items?: Schema;
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  format?: string;
  default?: unknown;
}

export interface Parameter {
  name: string;
  in: 'path' | 'query' | 'header';
  required?: boolean;
  description?: string;
  schema?: Schema;
}

interface Described {
  operationId: string;
  summary?: string;
  tags?: string[];
  parameters?: Parameter[];
  requestBody?: { content?: Record<string, { schema?: Schema }> };
  responses?: Record<string, { content?: Record<string, { schema?: Schema }> }>;
  'x-needs'?: string;
}

export interface Document {
  paths: Record<string, Record<string, Described>>;
  components?: { schemas?: Record<string, Schema> };
}

export interface Route {
  id: string;
  method: string;
  path: string;
  summary: string;
  tag: string;
  needs: string;
  parameters: Parameter[];
  body?: Schema;
  /** of a body that is no JSON */
  bodyType?: string;
  answer?: Schema;
  answerType: string;
  status: string;
}

const methods = ['get', 'post', 'put', 'patch', 'delete'];

export function routes(d: Document): Route[] {
  return Object.entries(d.paths).flatMap(([path, all]) => methods.filter((m) => all[m]).map((method): Route => {
    const o = all[method];
    const [status, answer] = Object.entries(o.responses ?? {}).find(([s]) => s.startsWith('2')) ?? ['', undefined];
    const body = Object.entries(o.requestBody?.content ?? {})[0];
    const content = Object.entries(answer?.content ?? {})[0];
    return {
      id: o.operationId || method + path, method: method.toUpperCase(), path, summary: o.summary ?? '', tag: o.tags?.[0] ?? '', needs: o['x-needs'] ?? '', parameters: (o.parameters ?? []).filter((p) => p.in !== 'header'),
      body: body?.[0].includes('json') ? body[1].schema : undefined, bodyType: body && !body[0].includes('json') ? body[0] : undefined,
      answer: content?.[1].schema, answerType: content?.[0] ?? '', status,
    };
  }));
}

const named = (d: Document, s: Schema): Schema | undefined => (s.$ref ? d.components?.schemas?.[s.$ref.split('/').at(-1)!] : s);
export const nameOf = (s: Schema | undefined): string => (s?.$ref ? s.$ref.split('/').at(-1)! : s?.items ? nameOf(s.items) + '[]' : [s?.type ?? ''].flat().filter((x) => x !== 'null').join(' | '));

/** example is a value of a schema's shape, to be filled in. */
export function example(d: Document, schema: Schema | undefined, depth = 0): unknown {
  const s = schema && named(d, schema);
  if (!s || depth > 4) return null;
  if (s.enum?.length) return s.enum[0];
  const type = [s.type ?? ''].flat().find((x) => x !== 'null');
  if (type === 'array') return [example(d, s.items, depth + 1)];
  if (type === 'object' || s.properties) {
    const fields = Object.entries(s.properties ?? {}).filter(([n]) => n !== '$schema');
    if (!fields.length && typeof s.additionalProperties === 'object') return { name: example(d, s.additionalProperties, depth + 1) };
    return Object.fromEntries(fields.map(([n, f]) => [n, example(d, f, depth + 1)]));
  }
  if (s.default !== undefined) return s.default;
  if (type === 'integer' || type === 'number') return 1;
  if (type === 'boolean') return true;
  return s.format === 'date-time' ? '2026-01-01T00:00:00Z' : '';
}

/** fields are the named things of a schema, with what is said about them. */
export function fields(d: Document, schema: Schema | undefined): { name: string; type: string; required: boolean; description: string }[] {
  const s = schema && named(d, schema.items ?? schema);
  return Object.entries(s?.properties ?? {}).filter(([n]) => n !== '$schema').map(([name, f]) => ({ name, type: nameOf(f), required: s!.required?.includes(name) ?? false, description: f.description ?? '' }));
}
