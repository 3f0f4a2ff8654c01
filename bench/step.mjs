// A training step of the `small` preset beside the same model in PyTorch, run in turn so that both see the same machine.
//
//   node bench/step.mjs                 three rounds of Baleen and of each peer
//   node bench/step.mjs --rounds 5 --threads 2
//   BALEEN_PYTHON=venv/bin/python node bench/step.mjs
//
// Needs a build (`npx -y pnpm@12 build`) and a Python with torch and transformers. Prints the median of the rounds'
// medians, and Baleen's speed over the best peer's; the last line is JSON.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const here = dirname(fileURLToPath(import.meta.url));
const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '3' }, threads: { type: 'string', default: '2' } },
});
const rounds = Number(values.rounds);
const { threads } = values;
const python = process.env.BALEEN_PYTHON ?? 'python3';

const baleen = (precision) => [
  process.execPath,
  join(here, '../packages/cli/bin/baleen.js'),
  ...['bench', 'step', '--preset', 'small', '--precision', precision],
  ...['--threads', threads, '--json'],
];
const torch = (...options) => [
  python,
  join(here, 'torch_v3_step.py'),
  ...['--threads', threads],
  ...options,
];
const runners = {
  'baleen fp8': baleen('fp8'),
  'baleen bf16': baleen('bf16'),
  'torch bf16': torch('--precision', 'bf16'),
  'torch bf16, compiled': torch('--precision', 'bf16', '--compile'),
  'torch fp32': torch('--precision', 'fp32'),
};

/** @param {string[]} command */
function secondsOf([program, ...args]) {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} failed:\n${stderr}`);
  return JSON.parse(stdout.trim().split('\n').at(-1)).medianStepSeconds;
}

/** @param {number[]} list */
const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

const measured = Object.fromEntries(Object.keys(runners).map((name) => [name, []]));
for (let round = 0; round < rounds; round += 1)
  for (const [name, command] of Object.entries(runners)) {
    const seconds = secondsOf(command);
    measured[name].push(seconds);
    console.error(`round ${round + 1}: ${name.padEnd(22)} ${seconds.toFixed(3)} s`);
  }
const medians = Object.fromEntries(
  Object.entries(measured).map(([name, list]) => [name, median(list)]),
);
const best = Math.min(
  ...Object.entries(medians).flatMap(([name, seconds]) =>
    name.startsWith('torch') ? [seconds] : [],
  ),
);
console.log(
  JSON.stringify({
    threads: Number(threads),
    rounds,
    seconds: medians,
    ratio: Number((best / medians['baleen fp8']).toFixed(2)),
  }),
);
