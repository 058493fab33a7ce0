// What a service would cost, as the director reckons it: a manifest with only
// that service is checked, which makes nothing.
import type { Json } from './api';
import { check } from './manifest';

export interface Wish {
  kind: string;
  name: string;
  cloud: string;
  parts: Record<string, number>;
  settings: Record<string, Json>;
}

/** estimate is the credits per hour of the service alone; an error names what is wrong with it. */
export async function estimate(w: Wish): Promise<number> {
  const lines = ['Services:', `  - Type: ${w.kind}`];
  if (w.name) lines.push(`    ServiceName: ${JSON.stringify(w.name)}`);
  if (w.cloud) lines.push(`    Cloud: ${JSON.stringify(w.cloud)}`);
  // JSON is YAML, too
  if (Object.keys(w.parts).length) lines.push(`    StartupInstances: ${JSON.stringify(w.parts)}`);
  if (Object.keys(w.settings).length) lines.push(`    Settings: ${JSON.stringify(w.settings)}`);
  const checked = await check(lines.join('\n') + '\n');
  // the manager is there already
  return Math.max(0, checked.credits - 1);
}
