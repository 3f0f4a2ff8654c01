// How this command is typed here: in a clone and in a project `npx baleen`, installed globally `baleen`.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

import type { CliIo } from './io';

/**
 * The words that start this command in the current folder, so that suggestions can be copied.
 * @param env - environment variables
 * @param folder - current folder
 * @returns `npx baleen`, `npx @baleen/cli` or `baleen`
 */
export function invocation(env: CliIo['env'], folder: string): string {
  for (let at = folder; ; at = dirname(at)) {
    if (isClone(join(at, 'package.json'))) return 'npx baleen';
    // A project that depends on the command line: npx finds it from any folder below.
    if (existsSync(join(at, 'node_modules', '.bin', 'baleen'))) return 'npx baleen';
    if (at === dirname(at)) break;
  }
  return env.npm_command === 'exec' ? 'npx @baleen/cli' : 'baleen';
}

function isClone(manifest: string): boolean {
  try {
    const { name } = JSON.parse(readFileSync(manifest, 'utf8')) as { name?: unknown };
    return name === 'baleen';
  } catch {
    return false;
  }
}
