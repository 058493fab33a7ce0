// The machines of the cluster: which need a look, what they carry, and what is
// being done with them.
import type { ClusterNode, Instance, Operation } from './api';
import { plain, type Line } from './command';
import { final, live } from './live.svelte';
import { t, tn } from './text.svelte';

const order = ['waiting', 'lost', 'draining', 'cordoned', 'ready'];

/** sorted puts those that need somebody first. */
export const sorted = (nodes: Iterable<ClusterNode>): ClusterNode[] => [...nodes].sort((a, b) => order.indexOf(a.state) - order.indexOf(b.state) || a.name.localeCompare(b.name, undefined, { numeric: true }) || a.id.localeCompare(b.id));

export const waiting = (): ClusterNode[] => sorted(live.nodes.values()).filter((n) => n.state === 'waiting');
export const members = (): ClusterNode[] => sorted(live.nodes.values()).filter((n) => n.state !== 'waiting');

/** nodePath leads to a node's page by its id, which no name can be mistaken for. */
export const nodePath = (n: ClusterNode): string => '/nodes/' + encodeURIComponent(n.id);
export const nodeApi = (n: ClusterNode): string => '/nodes/' + encodeURIComponent(n.id);

/** nodeCalled finds a node by what an instance says it runs on. */
export const nodeCalled = (name: string): ClusterNode | undefined => live.nodes.get(name) ?? [...live.nodes.values()].find((n) => n.name === name);

/** carried are the instances on a node, as far as the reader may see them. */
export const carried = (n: ClusterNode): Instance[] => [...live.instances.values()].filter((i) => i.node && (i.node === n.id || i.node === n.name)).sort((a, b) => a.application - b.application || a.service - b.service || a.id.localeCompare(b.id));

/** groups splits a fingerprint so that two people can read it to each other. */
export function groups(fingerprint: string): string[] {
  const [, head, hex] = /^((?:sha256:)?)([0-9a-f]{32,})$/i.exec(fingerprint) ?? [];
  return hex ? [head, ...(hex.match(/.{1,4}/g) ?? [])].filter(Boolean) : [fingerprint];
}

/** called is what a node gets for a name where nobody gives one. */
export function suggestion(n: ClusterNode): string {
  const words = n.model.toLowerCase().replace(/[^a-z0-9]+/g, '-').split('-').filter((w) => w && !['model', 'rev', 'plus'].includes(w));
  return [...words.slice(0, 3), n.serial.toLowerCase().replace(/[^a-z0-9]/g, '').slice(-4)].filter(Boolean).join('-').slice(0, 32);
}

/** other says that a node runs another version than the director, both without the brackets of a version that was never released. */
export const other = (n: ClusterNode): boolean => !!live.version && !!n.version && n.version.replace(/[()]/g, '') !== live.version.version.replace(/[()]/g, '');

/** draining is the operation that empties a node, the newest one. */
export function draining(n: ClusterNode): Operation | undefined {
  return [...live.operations.values()].filter((o) => o.kind === 'node.drain' && o.title === 'drain node ' + n.name).sort((a, b) => b.created.localeCompare(a.created))[0];
}
export const isDraining = (n: ClusterNode): boolean => {
  const o = draining(n);
  return n.state === 'draining' || (!!o && !final(o));
};

/** elsewhere are nodes that can take what leaves one. */
export const elsewhere = (n: ClusterNode): ClusterNode[] => members().filter((o) => o.id !== n.id && o.state === 'ready');

/** line is a change of a node on the command line. The name is quoted there. */
export const line = (n: ClusterNode, verb: string, method = 'POST', suffix = '/' + verb, more: string[] = [], body?: unknown): Line => plain(['node', verb, n.name || n.id, ...more], method, nodeApi(n) + suffix, body);

/** condition says in words how the machines are. */
export function condition(): string {
  const all = members();
  const count = (state: string) => all.filter((n) => n.state === state).length;
  const said = [
    count('ready') ? tn('{n} machine is ready', '{n} machines are ready', count('ready')) : '',
    count('lost') ? tn('{n} does not answer', '{n} do not answer', count('lost')) : '',
    count('cordoned') + count('draining') ? tn('{n} gets nothing new', '{n} get nothing new', count('cordoned') + count('draining')) : '',
    waiting().length ? tn('{n} wants to join', '{n} want to join', waiting().length) : '',
  ].filter(Boolean);
  return said.join(', ') || t('No machine has joined yet');
}
