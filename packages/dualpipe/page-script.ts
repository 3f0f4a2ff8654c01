// The script of the interactive page: one text, made of this package's own sources. The build puts it into `dist/page.js`, the
// tests' configuration into what they import, both under the name BALEEN_PAGE_SCRIPT.
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

/**
 * Bundles the page's script.
 * @returns what `define` replaces, for tsup and for Vite
 */
export async function pageScript(): Promise<{ BALEEN_PAGE_SCRIPT: string }> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL('src/page/client/main.ts', import.meta.url))],
    bundle: true,
    write: false,
    minify: true,
    platform: 'browser',
    target: 'es2023',
    format: 'iife',
    legalComments: 'none',
  });
  return { BALEEN_PAGE_SCRIPT: JSON.stringify(outputFiles[0].text.trim()) };
}
