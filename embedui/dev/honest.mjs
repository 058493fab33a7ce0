// Holds the development director to the real one's document, openapi.json: what
// pages send it and what it answers must be what the document says.
import Ajv from 'ajv/dist/2020.js';
import { readFileSync } from 'node:fs';

const doc = JSON.parse(readFileSync(new URL('../openapi.json', import.meta.url), 'utf8'));
const ajv = new Ajv({ strict: false, validateFormats: false });
ajv.addSchema(doc, 'openapi');

const routes = Object.entries(doc.paths).flatMap(([path, verbs]) => Object.entries(verbs).map(([verb, operation]) => ({
  verb: verb.toUpperCase(), operation, at: '/paths/' + path.replaceAll('~', '~0').replaceAll('/', '~1') + '/' + verb,
  pattern: new RegExp('^' + path.replaceAll(/\{\w+\}/g, '[^/]+') + '$'), exact: !path.includes('{'),
}))).sort((a, b) => b.exact - a.exact);
const routeOf = (method, path) => routes.find((r) => r.verb === method && r.pattern.test(path));

const compiled = new Map();
function differs(pointer, value) {
  if (!compiled.has(pointer)) compiled.set(pointer, ajv.compile({ $ref: 'openapi#' + encodeURI(pointer).replaceAll('%7E', '~') }));
  const fits = compiled.get(pointer);
  if (fits(value)) return undefined;
  return fits.errors.slice(0, 3).map((e) => `${e.instancePath || 'it'} ${e.message}${e.params.additionalProperty ? ` (${e.params.additionalProperty})` : ''}`).join(', ');
}

/** asked says what the real director would not understand in a request, or nothing. */
export function asked(method, url, type, body) {
  const r = routeOf(method, url.pathname);
  if (!r) return `there is no ${method} ${url.pathname} in openapi.json`;
  const known = (r.operation.parameters ?? []).filter((p) => p.in === 'query').map((p) => p.name);
  const unknown = [...url.searchParams.keys()].filter((k) => !known.includes(k));
  if (unknown.length && known.length) return `${method} ${url.pathname} knows no parameter ${unknown.join(', ')}`;
  const content = r.operation.requestBody?.content;
  if (!content?.['application/json'] || !/^application\/json/.test(type ?? '') || !body.length) return undefined;
  const wrong = differs(`${r.at}/requestBody/content/application~1json/schema`, JSON.parse(body));
  return wrong && `${method} ${url.pathname} was sent: ${wrong}`;
}

/** answered says what the real director would have answered otherwise, or nothing. */
export function answered(method, url, status, json) {
  const r = routeOf(method, url.pathname);
  if (!r) return `there is no ${method} ${url.pathname} in openapi.json`;
  const good = status < 300;
  const response = r.operation.responses[good ? status : 'default'];
  if (!response) return `${method} ${url.pathname} answers ${status}, openapi.json says ${Object.keys(r.operation.responses).join(', ')}`;
  const kind = good ? 'application/json' : 'application/problem+json';
  if (!response.content?.[kind]?.schema) return undefined;
  const wrong = differs(`${r.at}/responses/${good ? status : 'default'}/content/${kind.replace('/', '~1')}/schema`, json);
  return wrong && `${method} ${url.pathname} answers: ${wrong}`;
}

const things = { application: 'Application', service: 'Service', instance: 'Instance', operation: 'Operation', version: 'CodeVersion', site: 'Site', volume: 'Volume', backup: 'Backup', user: 'User', node: 'Node' };
/** told says what is wrong with an event, or nothing. */
export function told(e) {
  const wrong = differs('/components/schemas/Event', e) ?? (things[e.type] && differs('/components/schemas/' + things[e.type], e.data));
  return wrong && `event ${e.type}: ${wrong}`;
}
