// A director for development: it answers the API of docs/develop/api.md from
// a world in memory and serves the built pages with the real security policy.
//   node dev/fake.mjs [--port 5599] [--scenario seed|empty|many]
// Name and password: admin / nutshell.
import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as honest from './honest.mjs';
import { accessOf, refused } from './people.mjs';
import { routes } from './routes.mjs';
import { secondFactor } from './signin.mjs';
import { World } from './world.mjs';

const argument = (name, fallback) => {
  const at = process.argv.indexOf('--' + name);
  return at < 0 ? fallback : process.argv[at + 1];
};
const port = Number(argument('port', 5599));
const world = new World(argument('scenario', 'seed'));
const dist = join(fileURLToPath(new URL('.', import.meta.url)), '../dist');
const policy = "default-src 'self'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'";
const types = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
// FAKE_SESSION lets a session outlive the process, as the real director's do.
const session = { token: process.env.FAKE_SESSION ? '1.' + process.env.FAKE_SESSION : '', csrf: 'fake-csrf-token', failures: 0 };

/** doubt tells of what the real director would have answered otherwise; tests fail on it. */
const doubt = (what) => what && console.error('DISHONEST', what);

const problem = (status, code, message, more = {}) => ({ status, problem: { status, code, message, title: code, ...more } });

function signIn(body) {
  if (session.failures >= 5) {
    setTimeout(() => (session.failures = 0), 20_000).unref();
    return problem(429, 'too_many_requests', 'Too many failed sign-ins.', { hint: 'try again in 20 s', retry_after: 20 });
  }
  const user = world.users.find((u) => u.name === body.name);
  if (!user || body.password !== 'nutshell') {
    session.failures++;
    return problem(401, 'unauthorized', 'Name or password is wrong.');
  }
  const coded = secondFactor(user, body.code, problem);
  if (coded) return coded;
  session.failures = 0;
  session.token = `${user.id}.${process.env.FAKE_SESSION ?? Math.random().toString(36).slice(2)}`;
  return { status: 200, json: { user, csrf: session.csrf }, cookie: session.token };
}

async function answer(request, body, url, response) {
  const path = url.pathname.slice('/api/v1'.length);
  const method = request.method;
  if (path === '/health') return { json: { status: 'ok' } };
  if (path === '/version') return { json: { version: '1.0.0-dev', revision: '1d5c4a6', go: 'go1.26', installation: 'i1', binary_sha256: 'c0ffee'.repeat(10) + 'c0ff', bin_seconds: 604800, ca_expires: new Date(Date.now() + 3650 * 864e5).toISOString() } };
  if (path === '/openapi.json') return { json: JSON.parse(await readFile(join(dist, '../openapi.json'), 'utf8')) };
  if (path === '/session' && method === 'POST') return signIn(JSON.parse(body));
  const cookie = /nutshell_session=([^;]+)/.exec(request.headers.cookie ?? '')?.[1];
  if (!cookie || cookie !== session.token) return problem(401, 'unauthorized', 'Sign in first.');
  const user = world.users.find((u) => u.id === Number(cookie.split('.')[0]));
  if (method !== 'GET' && request.headers['x-csrf-token'] !== session.csrf) return problem(403, 'forbidden', 'The CSRF token is missing or wrong.', { hint: 'reload the page' });
  if (path === '/session') {
    if (method === 'DELETE') session.token = '';
    return method === 'DELETE' ? { status: 204 } : { json: { user, csrf: session.csrf } };
  }
  if (path === '/events') return events(request, url, response, user);
  const refusal = refused({ world, user, problem }, path, method);
  if (refusal) return refusal;
  for (const [verb, pattern, handle] of routes) {
    const match = verb === method && pattern.exec(path);
    if (match) return handle({ world, user, groups: match.slice(1).map(decodeURIComponent), body, query: url.searchParams, request, response, problem, json: () => (body.length ? JSON.parse(body) : {}) });
  }
  return problem(404, 'not_found', `There is no ${method} ${path}.`);
}

// Streams of events are broken by a signal, as a network does it.
const streams = new Set();
process.on('SIGUSR2', () => { for (const s of streams) s.destroy(); });

function events(request, url, response, user) {
  response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
  const told = (e) => (e.type === 'application' ? { ...e, data: { ...e.data, access: accessOf(world, user, e.data) } } : e);
  const send = (raw, e = told(raw)) => (doubt(e.type !== 'hello' && honest.told(e)), response.write(`id: ${e.id}
event: ${e.type}
data: ${JSON.stringify(e)}

`));
  const newest = world.first + world.events.length - 1;
  const last = Number(request.headers['last-event-id'] ?? url.searchParams.get('after') ?? 0);
  const after = last >= world.first - 1 && last <= newest ? last : newest;
  send({ id: after, time: new Date().toISOString(), type: 'hello', application: 0, service: 0, object: '', data: {} });
  world.events.filter((e) => e.id > after).forEach((e) => send(e));
  world.listeners.add(send);
  streams.add(response);
  const beat = setInterval(() => response.write(': still here\n\n'), 10_000);
  request.on('close', () => {
    world.listeners.delete(send);
    streams.delete(response);
    clearInterval(beat);
  });
  return null;
}

async function file(url, response) {
  const name = normalize(url.pathname).replace(/^[/.]+/, '');
  for (const candidate of [name, 'index.html', 'placeholder.html']) {
    if (!candidate) continue;
    try {
      const data = await readFile(join(dist, candidate));
      response.writeHead(200, { 'Content-Type': types[extname(candidate)] ?? 'application/octet-stream', 'Content-Security-Policy': policy, 'X-Content-Type-Options': 'nosniff', 'Referrer-Policy': 'no-referrer' });
      return response.end(data);
    } catch {
      // not there: the page itself routes
    }
  }
  return undefined;
}

const server = createServer(async (request, response) => {
  const url = new URL(request.url, 'http://localhost');
  if (!url.pathname.startsWith('/api/')) return file(url, response);
  const chunks = [];
  try {
    for await (const c of request) chunks.push(c);
  } catch {
    return undefined; // the client went away
  }
  try {
    const body = Buffer.concat(chunks);
    const unknown = url.pathname !== '/api/v1/openapi.json' && honest.asked(request.method, url, request.headers['content-type'], body);
    doubt(unknown);
    const a = unknown ? problem(422, 'invalid', unknown) : await answer(request, body, url, response);
    if (!a) return undefined;
    if (url.pathname !== '/api/v1/openapi.json' && (a.json !== undefined || a.problem)) doubt(honest.answered(request.method, url, a.status ?? 200, a.problem ?? a.json));
    const headers = { 'Cache-Control': 'no-store' };
    if (a.cookie) headers['Set-Cookie'] = `nutshell_session=${a.cookie}; Path=/; HttpOnly; SameSite=Strict`;
    if (a.problem) return response.writeHead(a.status, { ...headers, 'Content-Type': 'application/problem+json' }).end(JSON.stringify(a.problem));
    if (a.text !== undefined) return response.writeHead(200, { ...headers, 'Content-Type': 'text/plain; charset=utf-8', ...a.headers }).end(a.text);
    return response.writeHead(a.status ?? 200, { ...headers, 'Content-Type': 'application/json' }).end(a.json === undefined ? '' : JSON.stringify(a.json));
  } catch (e) {
    console.error(e);
    return response.writeHead(500, { 'Content-Type': 'application/problem+json' }).end(JSON.stringify({ status: 500, code: 'internal', message: String(e) }));
  }
});
server.listen(port, '127.0.0.1', () => console.log(`http://127.0.0.1:${port}/  admin / nutshell`));
