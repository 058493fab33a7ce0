// Changes of a machine that are done at once.
import type { ClusterNode } from '../lib/api';
import { post, problem } from '../lib/client';
import { live } from '../lib/live.svelte';
import { nodeApi } from '../lib/nodes';
import { tell } from '../lib/tell.svelte';
import { t } from '../lib/text.svelte';

/** cordon keeps new instances off a machine, or lets them come again. */
export async function cordon(n: ClusterNode, on: boolean): Promise<void> {
  try {
    const now = await post<ClusterNode>(nodeApi(n) + (on ? '/cordon' : '/uncordon'));
    live.nodes.set(now.id, now);
    tell.say(on ? t('{name} gets no new instances.', { name: now.name }) : t('{name} gets instances again.', { name: now.name }));
  } catch (e) {
    tell.problem(problem(e));
  }
}
