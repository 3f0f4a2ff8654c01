// Bundles the packages that promise to run anywhere for a browser and prints what each weighs.
// A bundle fails if it reaches a Node.js module, leaves an import open, or takes in a file that is not Baleen's.
//
//   node scripts/browser.mjs            a table; reads what `pnpm build` wrote
//   node scripts/browser.mjs --json     one line of JSON
import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';

import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));

/** The packages a browser can use, in the order of the floors they stand on. */
export const browserPackages = [
  'kernels',
  'tensor',
  'fp8',
  'moe-router',
  'mla',
  'mtp',
  'dualpipe',
  'model',
];

/**
 * Bundles one package with everything it needs.
 * @param {string} name - the package's folder
 * @param {{ from?: 'source' | 'dist', alone?: boolean }} [options] - what to read (default: dist); `alone`
 *   leaves the other Baleen packages out, so that the result is the package's own weight
 * @returns {Promise<{ code: string, gzip: number, minified: number }>} a script that sets the global `baleen`
 *   to the package's exports, and its sizes in bytes
 */
export async function bundleForBrowser(name, { from = 'dist', alone = false } = {}) {
  const folder = join(root, 'packages', name);
  const entry = join(folder, from === 'source' ? 'src/index.ts' : 'dist/index.js');
  if (!existsSync(entry))
    throw new Error(`${relative(root, entry)} is missing: run \`pnpm build\``);
  const result = await build({
    entryPoints: [entry],
    absWorkingDir: root,
    bundle: true,
    write: false,
    minify: true,
    metafile: true,
    platform: 'browser', // every node: module is an error here
    target: 'es2022',
    format: alone ? 'esm' : 'iife',
    ...(alone ? { external: ['@baleen/*'] } : { globalName: 'baleen' }),
    conditions: from === 'source' ? ['@baleen/source'] : [],
    logLevel: 'silent',
  });
  const foreign = Object.keys(result.metafile.inputs).filter(
    (path) => !path.startsWith('packages/') || path.includes('node_modules/'),
  );
  const open = Object.values(result.metafile.outputs)
    .flatMap((output) => output.imports)
    .filter(({ external, path }) => external && !(alone && path.startsWith('@baleen/')));
  const strangers = [...foreign, ...open.map(({ path }) => path)];
  if (strangers.length > 0) throw new Error(`@baleen/${name} takes in ${strangers.join(', ')}`);
  const code = result.outputFiles[0].text;
  return { code, minified: Buffer.byteLength(code), gzip: gzipSync(code, { level: 9 }).length };
}

async function main() {
  const rows = [];
  let failed = false;
  for (const name of browserPackages) {
    try {
      const own = await bundleForBrowser(name, { alone: true });
      const all = await bundleForBrowser(name);
      rows.push({
        package: `@baleen/${name}`,
        gzip: all.gzip,
        minified: all.minified,
        ownGzip: own.gzip,
      });
    } catch (error) {
      failed = true;
      console.error(
        `@baleen/${name} does not bundle for a browser\n${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }
  if (process.argv.includes('--json')) console.log(JSON.stringify(rows));
  else {
    const kilobytes = (/** @type {number} */ bytes) =>
      `${(bytes / 1000).toFixed(1)} kB`.padStart(10);
    console.log(
      `${'browser bundle'.padEnd(20)}${'gzip'.padStart(10)}${'minified'.padStart(10)}${'own gzip'.padStart(10)}`,
    );
    for (const row of rows)
      console.log(
        row.package.padEnd(20) +
          kilobytes(row.gzip) +
          kilobytes(row.minified) +
          kilobytes(row.ownGzip),
      );
  }
  if (failed) process.exitCode = 1;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await main();
