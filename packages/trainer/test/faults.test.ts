// Ranks that die, hang or fall behind: they are named within the deadline, nothing saved is lost, and a run that is begun
// again has the losses of one that nothing befell.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import {
  type Fault,
  faultOf,
  listCheckpoints,
  readMetrics,
  type TrainConfig,
  type TrainEvent,
  type TrainOptions,
  type TrainResult,
  train,
} from '../src/index';
import { Pace } from '../src/ranks/pace';
import { failure, only, smallRun, temporaryFolder } from './helpers';

/** A run of 6 steps on two ranks with half of the experts each, saved after every other step. */
function ranksRun(folder: string): TrainConfig {
  return smallRun(folder, {
    batch: { sequence: 16, sequences: 2, microBatch: 1, rampFrom: 2, rampShare: 0, rampBy: null },
    checkpoint: { every: 2, keep: 9 },
    layout: { ranks: 2, ep: 2, deterministic: false, pp: 1, schedule: 'dualpipe' },
  });
}

interface Ran {
  events: TrainEvent[];
  result: TrainResult | null;
  error: Error & { code?: string; hint?: string; jobRanks?: number[] };
}

async function runRanks(config: TrainConfig, options: TrainOptions): Promise<Ran> {
  const events: TrainEvent[] = [];
  const run = train(config, options);
  try {
    for (;;) {
      const next = await run.next();
      if (next.done) return { events, result: next.value, error: new Error('none') };
      events.push(next.value);
    }
  } catch (error) {
    return { events, result: null, error: error as Error };
  }
}

const faults = (...texts: string[]): Fault[] => texts.map(faultOf);
const steps = (events: readonly TrainEvent[]): [number, number, number][] =>
  only(events, 'step').map(({ step, loss, gradNorm }) => [step, loss, gradNorm]);

test('a rank that dies is named, and the run goes on from its last checkpoint to the same bits', async () => {
  const folder = temporaryFolder();
  const config = ranksRun(folder);
  const whole = await runRanks(config, {});
  const out = join(folder, 'run');
  const once = await runRanks(config, { out, inject: faults('kill-rank=1@step=4') });
  expect(once.error).toMatchObject({
    code: 'ERR_BALEEN_COMM_RANK_FAILED',
    message: 'rank 1 exited with code 137 before its work was done',
    hint: `all up to step 2 is saved: go on with --resume ${out}, or let it go on by itself with --max-restarts 3`,
    jobRanks: [1],
  });
  expect(steps(once.events)).toEqual(steps(whole.events).slice(0, 3));
  // Whole, and free for others.
  expect(listCheckpoints(out).map(({ step }) => step)).toEqual([2]);
  expect(readdirSync(out)).not.toContain('train.lock');

  const again = await runRanks(config, {
    ...{ resume: out, maxRestarts: 2, deadlineMs: 3000 },
    inject: faults('kill-rank=0@step=4', 'hang-rank=1@step=6'),
  });
  expect(again.error.message).toBe('none');
  expect(only(again.events, 'restart')).toMatchObject([
    {
      restart: 1,
      of: 2,
      step: 2,
      reached: 3,
      ranks: [0],
      reason: expect.stringMatching('rank 0') as string,
    },
    {
      restart: 2,
      of: 2,
      step: 4,
      reached: 5,
      ranks: [1],
      reason: expect.stringMatching('3000 ms') as string,
    },
  ]);
  expect(again.result?.restarts).toBe(2);
  expect(again.result?.valLoss).toBe(whole.result?.valLoss);
  // What it wrote is one run: every step once, with the losses of a run that nothing befell.
  const metrics = readMetrics(out);
  expect(steps(metrics)).toEqual(steps(whole.events));
  expect(only(metrics, 'restart')).toEqual(only(again.events, 'restart'));
  expect(only(metrics, 'end')).toHaveLength(1);
});

test('a run that saved nothing begins anew, until restarts are used up', async () => {
  const folder = temporaryFolder();
  const out = join(folder, 'run');
  const config = { ...ranksRun(folder), checkpoint: { every: 0, keep: 1 } };
  const { events, error } = await runRanks(config, {
    ...{ out, maxRestarts: 1 },
    inject: faults('kill-rank=1@step=1', 'kill-rank=0@step=2'),
  });
  expect(only(events, 'restart')).toMatchObject([{ step: 0, reached: 0, ranks: [1] }]);
  expect(steps(events).map(([step]) => step)).toEqual([1]);
  expect(error.code).toBe('ERR_BALEEN_COMM_RANK_FAILED');
  expect(error.message).toBe(
    'rank 0 exited with code 137 before its work was done; begun again 1 time, as often as --max-restarts allows',
  );
  expect(error.hint).toContain('nothing was saved yet');
});

test('what would come again is not tried again', async () => {
  const folder = temporaryFolder();
  const config = ranksRun(folder);
  config.schedule = structuredClone(config.schedule);
  config.schedule.learningRate = {
    ...config.schedule.learningRate,
    ...{ peak: 1e30, warmupShare: 0, constantShare: 0.5 },
  };
  const { events, error } = await runRanks(config, { maxRestarts: 3 });
  expect(error.code).toBe('ERR_BALEEN_TRAIN_NOT_FINITE');
  expect(only(events, 'restart')).toEqual([]);
});

test('every step says what each rank computed, and a rank that the others wait for is named once', () => {
  const pace = new Pace();
  const slow = Array.from({ length: 60 }, (_, i) => pace.add(i + 1, [1, 1, 4, 1], [1, 1, 2, 1]));
  expect(slow.filter((event) => event !== null)).toEqual([
    { type: 'slow', step: 20, rank: 2, computed: 4, others: 2 },
  ]);
  // More micro-batches are no reason.
  const even = new Pace();
  for (let step = 1; step < 40; step += 1) expect(even.add(step, [1, 2], [1, 2])).toBeNull();
});

test('a rank that is slowed down is named', { timeout: 120_000 }, async () => {
  const config = { ...ranksRun(temporaryFolder()), steps: 26, checkpoint: { every: 0, keep: 1 } };
  const { events, result } = await runRanks(config, { inject: faults('slow-rank=1@step=1') });
  expect(only(events, 'slow')).toMatchObject([{ rank: 1 }]);
  const [first, second] = result?.computed ?? [];
  expect(second).toBeGreaterThan(first);
  expect(second).toBeLessThanOrEqual(1);
});

test.each([
  ['kill-rank=1', 'inject (kill-rank=1) is no fault'],
  ['kill-rank=2@step=1', 'inject (kill-rank=2@step=1): there is no rank 2, of 2'],
  ['hang-rank=1@step=7', 'inject (hang-rank=1@step=7): there is no step 7, of 6'],
])('%s is refused', async (text, message) => {
  const config = ranksRun(temporaryFolder());
  const work = async (): Promise<Ran> => {
    const ran = await runRanks(config, { inject: faults(text) });
    throw ran.error;
  };
  expect(await failure(work())).toMatchObject({ code: 'ERR_BALEEN_USAGE_INJECT', message });
});

test.each([
  ['-n', ['mpirun', '-n', '4'], 'launch (mpirun -n 4) says -n itself'],
  ['nothing', ['false'], 'launch (false): it ended with code 1 before a rank had begun'],
  [
    'no program',
    ['no-such-launcher'],
    'launch (no-such-launcher): it could not be started (spawn no-such-launcher ENOENT) before a rank had begun',
  ],
])('a launcher with %s is refused', async (_, launch, message) => {
  const { error, events } = await runRanks(ranksRun(temporaryFolder()), { launch, maxRestarts: 2 });
  expect(error).toMatchObject({ code: 'ERR_BALEEN_USAGE_LAUNCH', message });
  expect(events).toEqual([]);
});
