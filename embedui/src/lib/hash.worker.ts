// Reads a file once and tells its SHA-256, piece by piece, so that neither the
// page nor the memory is filled by a file of two gigabytes.
import { sha256 } from '@noble/hashes/sha2';

const piece = 4 << 20;

onmessage = async (e: MessageEvent<Blob>) => {
  try {
    const hash = sha256.create();
    for (let at = 0; at < e.data.size; at += piece) {
      hash.update(new Uint8Array(await e.data.slice(at, at + piece).arrayBuffer()));
      postMessage({ read: Math.min(at + piece, e.data.size) });
    }
    postMessage({ sha256: Array.from(hash.digest(), (b) => b.toString(16).padStart(2, '0')).join('') });
  } catch (error) {
    postMessage({ wrong: error instanceof Error ? error.message : String(error) });
  }
};
