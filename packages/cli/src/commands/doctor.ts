// `baleen doctor`: what this machine has, what it lacks, and the command that brings it.
import { describeMpi } from '@baleen/comm/mpi';
import { describeKernels, loadKernels } from '@baleen/kernels';
import type { Command } from 'commander';

import { failureOf } from '../errors';
import { bytes } from '../format';
import type { Voice } from '../io';
import { findLaunchers, findPackages, findToolchain, machine } from '../machine';
import { addCommonFlags, examplesText } from '../shape';
import { engines } from '../version';

/** How a check came out: `missing` is something that one can do without. */
type State = 'ok' | 'missing' | 'broken';

interface Check {
  name: string;
  state: State;
  found: string;
  hint: string | null;
}

/** Adds flags, help and the action. */
export function define(command: Command, voice: Voice): void {
  command
    .description(
      'Check this machine: Node, kernels, compilers, memory, MPI, optional packages.\n' +
        'Exits with 1 only if something is broken without which nothing runs.',
    )
    .addHelpText(
      'after',
      examplesText([
        ['baleen doctor', 'what is here, and how to get what is not'],
        ['baleen doctor --json', 'the same for programs'],
      ]),
    );
  addCommonFlags(command);
  command.action(async () => {
    await examine(voice);
  });
}

async function examine(voice: Voice): Promise<void> {
  const kernels = checkKernels();
  // The compiler answers meanwhile; on Windows there is nothing to compile.
  const compiler = process.platform === 'win32' ? [] : [checkCompiler(voice, kernels)];
  const mpi = checkMpi(voice);
  const [rest, packages] = [checkMachine(), checkPackages()];
  const checks = [checkNode(), kernels, ...(await Promise.all(compiler)), ...rest];
  checks.push(await mpi, ...packages);
  const broken = checks.some(({ state }) => state === 'broken');
  if (broken) voice.exitCode = 1;
  voice.result({ ok: !broken, checks });
  const { bold, dim, cyan, green, red, yellow } = voice.out;
  const marks: Record<State, string> = { ok: green('✓'), missing: yellow('–'), broken: red('✗') };
  const width = Math.max(...checks.map(({ name }) => name.length));
  for (const { name, state, found, hint } of checks) {
    voice.print(`${marks[state]} ${bold(name.padEnd(width))}  ${found}`);
    if (hint !== null) voice.print(`  ${''.padEnd(width)}  ${dim('→')} ${cyan(hint)}`);
  }
  voice.print(
    '',
    broken
      ? red('Something that is needed is broken.')
      : checks.some(({ state }) => state === 'missing')
        ? 'Everything needed is here; what is marked – would add to it.'
        : 'Everything is here.',
  );
}

function checkNode(): Check {
  const needed = /\d+(\.\d+)*/.exec(engines.node)?.[0] ?? '0';
  const old = compareVersions(process.versions.node, needed) < 0;
  return {
    name: 'Node',
    state: old ? 'broken' : 'ok',
    found: `${process.versions.node}, ${process.platform} ${process.arch}`,
    hint: old ? `install Node ${engines.node}` : null,
  };
}

function compareVersions(a: string, b: string): number {
  const left = a.split('.').map(Number);
  const right = b.split('.').map(Number);
  for (const [index, part] of right.entries()) if (left[index] !== part) return left[index] - part;
  return 0;
}

function checkKernels(): Check {
  try {
    loadKernels();
  } catch (error) {
    const { message, hint } = failureOf(error);
    return { name: 'kernels', state: 'broken', found: message, hint };
  }
  const { implementation, isa, threads, reason, hint } = describeKernels();
  const crew = `${threads} ${threads === 1 ? 'thread' : 'threads'}`;
  return implementation === 'native'
    ? { name: 'kernels', state: 'ok', found: `native, ${isa}, ${crew}`, hint: null }
    : {
        name: 'kernels',
        state: 'missing',
        found: `${implementation}, much slower than native${reason === undefined ? '' : ` (${reason})`}`,
        hint: hint ?? null,
      };
}

async function checkCompiler(voice: Voice, kernels: Check): Promise<Check> {
  // Beside kernels that run it is a matter of information, so a quick look will do.
  const spare = kernels.state === 'ok';
  const { compilers, tools, lacking } = await findToolchain(voice.io.env, !spare);
  const ok = spare || lacking.length === 0;
  return {
    name: 'compiler',
    state: ok ? 'ok' : 'missing',
    found:
      [
        ...compilers.slice(0, 1).map(({ name, version }) => `${name} (${version ?? ''})`),
        ...compilers.slice(1).map(({ name }) => name),
        ...tools.map(({ name }) => name),
      ].join(', ') + (lacking.length === 0 ? '' : `; no ${lacking.join(', no ')}`),
    hint: ok
      ? null
      : process.platform === 'darwin'
        ? 'xcode-select --install'
        : 'install your distribution’s g++, make and python3',
  };
}

/** Ranks that are threads do without it. */
async function checkMpi(voice: Voice): Promise<Check> {
  const { library, version, koffi, reason, hint } = describeMpi();
  const launchers = await findLaunchers(voice.io.env);
  const parts = [
    ...(library === null ? [] : [`${version ?? 'MPI'} (${library})`]),
    ...(koffi ? ['koffi'] : []),
    ...launchers.slice(0, 1).map(({ name, version: of }) => of ?? name),
  ];
  const lacking = [
    ...(reason === null ? [] : [reason]),
    ...(launchers.length === 0 ? ['no mpirun, mpiexec or srun'] : []),
  ];
  const ok = lacking.length === 0;
  return {
    name: 'MPI',
    state: ok ? 'ok' : 'missing',
    found: ok
      ? parts.join(', ')
      : `${[...parts, ...lacking].join(', ')}: needed for ranks that are processes`,
    hint: ok ? null : (hint ?? 'apt-get install openmpi-bin, or load your cluster’s module'),
  };
}

function checkPackages(): Check[] {
  return findPackages().map(({ name, purpose, version }) => ({
    name,
    state: version === null ? 'missing' : 'ok',
    found: version === null ? `not installed: ${purpose}` : `${version}: ${purpose}`,
    hint: version === null ? `npm install ${name}` : null,
  }));
}

function checkMachine(): Check[] {
  const { cpu, cores, memory, freeMemory, freeDisk } = machine();
  const checks: Check[] = [
    { name: 'processor', state: 'ok', found: `${cpu}, ${cores} cores`, hint: null },
    {
      name: 'memory',
      state: 'ok',
      found: `${bytes(memory)}, ${bytes(freeMemory)} free`,
      hint: null,
    },
  ];
  if (freeDisk !== null) {
    // A tiny run takes a few tens of MiB; below this not even its checkpoint fits.
    const full = freeDisk < 64 * 2 ** 20;
    checks.push({
      name: 'disk',
      state: full ? 'broken' : 'ok',
      found: `${bytes(freeDisk)} free here`,
      hint: full ? 'make room, or run in another folder' : null,
    });
  }
  return checks;
}
