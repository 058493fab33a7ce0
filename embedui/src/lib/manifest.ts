// Manifests on their way to the director.
import type { Operation } from './api';
import type { Checked } from './data';
import { send } from './send';
import { tarball } from './tarball';

/** upload makes an application of a manifest, or of a tar with one and its files. */
export function upload(body: Blob, type: string, options: { application?: string; cloud?: string }, progress: (sent: number) => void): { answer: Promise<Operation>; stop: () => void } {
  const query = new URLSearchParams(Object.entries(options).filter(([, v]) => v) as [string, string][]).toString();
  const sending = send('/manifests' + (query ? '?' + query : ''), body, type, progress);
  return { answer: sending.answer.then((text) => JSON.parse(text) as Operation), stop: sending.stop };
}

/** check asks what a manifest would make. */
export const check = (text: string): Promise<Checked> => send('/manifests/check', new Blob([text]), 'application/yaml', () => {}).answer.then((t) => JSON.parse(t) as Checked);

/** pack puts a manifest and the files that it names into one tar. */
export const pack = (text: string, files: [string, File][]): Blob => tarball([['manifest.yaml', new File([text], 'manifest.yaml', { lastModified: Date.now() })], ...files]);
