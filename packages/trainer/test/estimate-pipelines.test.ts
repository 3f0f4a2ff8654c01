// The estimate of a pipeline's intermediate memory is what a run takes, to the byte.
import { expect, test } from 'vitest';

import { estimate, type TrainConfig } from '../src/index';
import { smallRun, temporaryFolder } from './helpers';
import { runAll } from './run-layouts';

/** Three layers and a depth, eight micro-batches. */
function config(changes: Partial<TrainConfig>): TrainConfig {
  const batch = { sequence: 16, sequences: 8, microBatch: 1 };
  const ramp = { rampFrom: 8, rampShare: 0, rampBy: null };
  const run = smallRun(temporaryFolder(), { batch: { ...batch, ...ramp }, steps: 2, ...changes });
  return { ...run, model: { ...run.model, layers: 3 } };
}

test.each(['gpipe', '1f1b', 'interleaved', 'zb1p', 'dualpipe', 'dualpipev'] as const)(
  '%s',
  { timeout: 60_000 },
  async (schedule) => {
    const taken = new Set<number>();
    for (const deterministic of [false, true]) {
      const layout = { ranks: 2, pp: 2, schedule, ep: 1, deterministic };
      const run = config({ layout, precision: 'fp8' });
      const { result } = await runAll(run);
      expect(estimate(run, { peaks: null }).bytes.region).toBe(result.peakRegionBytes);
      taken.add(result.peakRegionBytes);
    }
    // Only where gradients of weights are put off it makes a difference.
    expect(taken.size).toBe(['zb1p', 'dualpipe', 'dualpipev'].includes(schedule) ? 2 : 1);
  },
);

test('a pipeline that counts for a balance loss over the batch takes no more', async () => {
  const layout = { ranks: 2, pp: 2, schedule: '1f1b', ep: 1, deterministic: false } as const;
  const run = config({ layout });
  const counting = { ...run, balance: { ...run.balance, lossOver: 'batch' } } as const;
  const { result } = await runAll(counting);
  const { region } = estimate(counting, { peaks: null }).bytes;
  expect(region).toBeGreaterThanOrEqual(result.peakRegionBytes);
  expect(region).toBeLessThan(1.1 * result.peakRegionBytes);
});
