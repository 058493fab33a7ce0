import type { Plugin } from 'vite';

// xterm makes style elements and style attributes, which the policy of these
// pages does not allow, and it takes its option documentOverride for a part of
// its elements only. So its module gets src/terminal/paper.ts under the name
// of the document; e2e/terminal.mjs proves that nothing inline is left.
export function paper(): Plugin {
  return {
    name: 'paper-for-xterm',
    transform(code, id) {
      if (!id.includes('/@xterm/xterm/lib/xterm.mjs')) return undefined;
      return { code: `import { paper as document } from '/src/terminal/paper.ts';\n${code.replaceAll('window.document', 'document')}`, map: null };
    },
  };
}
