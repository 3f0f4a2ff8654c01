// Runs commands in turn, so that all see the same machine, and takes medians over the rounds.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const here = dirname(fileURLToPath(import.meta.url));
const python = process.env.BALEEN_PYTHON ?? 'python3';
const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    threads: { type: 'string', default: '2' },
    only: { type: 'string', default: '' },
    preset: { type: 'string', default: 'small' },
    steps: { type: 'string', default: '12' },
    launch: { type: 'string', default: '' },
    contexts: { type: 'string', default: '1024,4096,16384' },
    batches: { type: 'string', default: '1,8' },
  },
});

/** Rounds, threads of every command, and what single scripts take: which kernels; what runs, how long, and where. */
export const rounds = Number(values.rounds);
export const { threads, only, preset, steps, launch, contexts, batches } = values;

/** @param {string[]} args a command line of the build */
export const own = (...args) => [
  process.execPath,
  join(here, '../packages/cli/bin/baleen.js'),
  ...args,
];

/** @param {string[]} args a command line of the build that takes threads and reports in JSON */
export const baleen = (...args) => own(...args, '--threads', threads, '--json');

/** @param {string[]} args a script beside this file, and its options */
export const peer = (script, ...args) => [
  python,
  join(here, script),
  ...['--threads', threads],
  ...args,
];

/** @param {string[]} command prints JSON on its last line */
function output([program, ...args]) {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} failed:\n${stderr}${stdout}`);
  return JSON.parse(stdout.trim().split('\n').at(-1));
}

/** @param {number[]} list */
export function median(list) {
  const sorted = [...list].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * The medians of what the commands report, by name.
 * @param {Record<string, string[] | (() => string[])>} commands a function makes one for each round
 * @param {(name: string, report: any) => Record<string, number>} figuresOf figures of one report, by name
 */
export function alternate(commands, figuresOf) {
  const measured = {};
  for (let round = 0; round < rounds; round += 1)
    for (const [name, command] of Object.entries(commands))
      for (const [figure, value] of Object.entries(
        figuresOf(name, output(typeof command === 'function' ? command() : command)),
      )) {
        (measured[figure] ??= []).push(value);
        console.error(`round ${round + 1}: ${figure.padEnd(22)} ${value.toPrecision(4)}`);
      }
  return Object.fromEntries(Object.entries(measured).map(([name, list]) => [name, median(list)]));
}
