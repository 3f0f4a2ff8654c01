// Training on one rank beside two that share the machine: whole models, experts spread over both, and pipelines.
//
//   node bench/ranks.mjs                three rounds
//   node bench/ranks.mjs --rounds 5 --preset tiny --steps 40
//   node bench/ranks.mjs --launch "mpirun --bind-to none"    ranks as processes
//
// Needs a build. Runs `baleen train` with each layout in turn, so that all see the same machine, and prints the medians
// over the rounds: tokens a second, and the share of the time that ranks compute. The last line is JSON.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { alternate, launch, own, preset, rounds, steps, threads } from './alternate.mjs';

const ranks = '2';
const folder = mkdtempSync(join(tmpdir(), 'baleen-ranks-'));
let runs = 0;

/** @param {string} threads of the kernels @param {string[]} layout */
const train =
  (threads, ...layout) =>
  () => [
    ...own('train', '--preset', preset, '--steps', steps, '--batch.microBatch', '2'),
    ...['--threads', threads, '--json', '--quiet', '--out', join(folder, String((runs += 1)))],
    ...layout,
  ];
const several = (...layout) =>
  train(threads, '--ranks', ranks, ...(launch ? ['--launch', launch] : []), ...layout);

try {
  const figures = alternate(
    {
      [`one rank, ${threads} threads`]: train(threads),
      'one rank, one thread': train('1'),
      'two ranks, whole models': several(),
      'experts spread over two': several('--ep', '2'),
      ...Object.fromEntries(
        ['1f1b', 'zb1p', 'dualpipe', 'dualpipev'].map((method) => [
          `pipeline of two, ${method}`,
          several('--pp', '2', '--schedule', method),
        ]),
      ),
    },
    (name, { tokensPerSecond, computed }) => ({
      [name]: tokensPerSecond,
      ...(computed && { [`${name}: computing`]: Math.min(...computed) }),
    }),
  );
  console.log(JSON.stringify({ preset, rounds, figures }));
} finally {
  rmSync(folder, { recursive: true, force: true });
}
