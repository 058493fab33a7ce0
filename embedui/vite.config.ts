import { svelte } from '@sveltejs/vite-plugin-svelte';
import { readdirSync, rmSync } from 'node:fs';
import { defineConfig, type Plugin } from 'vite';
import { manual } from './manual';
import { paper } from './paper';

// The committed placeholder must survive a build, so dist is emptied here and
// not by Vite.
function keepPlaceholder(): Plugin {
  return {
    name: 'keep-placeholder',
    apply: 'build',
    buildStart() {
      for (const name of readdirSync('dist')) {
        if (name !== 'placeholder.html') rmSync('dist/' + name, { recursive: true });
      }
    },
  };
}

export default defineConfig({
  plugins: [svelte(), manual(), paper(), keepPlaceholder()],
  build: {
    outDir: 'dist',
    emptyOutDir: false,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: 'es2022',
    reportCompressedSize: true,
  },
  server: {
    host: '127.0.0.1',
    proxy: { '/api': { target: process.env.NUTSHELL_DIRECTOR ?? 'http://127.0.0.1:5599', secure: false } },
  },
});
