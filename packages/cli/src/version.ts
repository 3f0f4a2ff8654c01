// The package's manifest: its version and the Node it needs, written down once.
import { readFileSync } from 'node:fs';

const manifest = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  version: string;
  engines: { node: string };
};

/** This package's version. */
export const version: string = manifest.version;

/** What it runs on. */
export const engines: { node: string } = manifest.engines;
