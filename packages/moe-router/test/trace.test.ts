// Traces: read as they were written, and routed again as the run would have routed them.
import { describe, expect, test } from 'vitest';

import { randomFrom, values } from '../../../test/support';
import {
  Balancer,
  balancePolicy,
  deviceLoads,
  drawLoads,
  maxViolation,
  placeExperts,
  type RoutingTrace,
  readTrace,
  replayTrace,
  routeTokens,
  summarizeLoads,
  writeTrace,
} from '../src/index';

const [experts, tokens, layers] = [6, 64, 2];
const choice = { expertsPerToken: 2, groups: 3, groupsPerToken: 2 };

/** A run of 30 steps of two micro-batches, and the loads that it had. */
function run(speed: number) {
  const random = randomFrom(9);
  const balancers = Array.from(
    { length: layers },
    () => new Balancer(experts, balancePolicy({ speed })),
  );
  const batches: RoutingTrace['batches'][number][] = [];
  const loads: number[][][] = [];
  for (let step = 1; step <= 30; step += 1) {
    for (let micro = 0; micro < 2; micro += 1)
      for (const [layer, balancer] of balancers.entries()) {
        const logits = Float32Array.from(
          { length: tokens * experts },
          (_, i) => 2 * random() - 0.3 * (i % experts),
        );
        const sizes = { ...choice, tokens, experts };
        const { scores, counts } = routeTokens(logits, sizes, { bias: balancer.bias });
        batches.push({ step, layer, scores });
        balancer.count(counts);
      }
    loads.push(balancers.map(({ counts }) => [...counts]));
    for (const balancer of balancers) balancer.update();
  }
  return { trace: { experts, layers, batches }, loads };
}

test('what is written is read back, to the bit', () => {
  const domains = Int32Array.of(0, 1, -2);
  const trace: RoutingTrace = {
    experts: 4,
    layers: 2,
    batches: [
      { step: 1, layer: 0, scores: values(8, 1) },
      { step: 1, layer: 1, scores: values(12, 2), domains },
      { step: 2, layer: 0, scores: new Float32Array(0) },
    ],
  };
  const bytes = writeTrace(trace);
  expect(readTrace(bytes)).toEqual(trace);
  // Wherever the bytes lie.
  const shifted = new Uint8Array(bytes.length + 3).subarray(3);
  shifted.set(bytes);
  expect(readTrace(shifted)).toEqual(trace);
});

test('under the run’s own policy a trace gives the run’s own loads', () => {
  const { trace, loads } = run(0.02);
  const replayed = replayTrace(
    readTrace(writeTrace(trace)),
    choice,
    balancePolicy({ speed: 0.02 }),
  );
  expect(replayed.steps).toEqual(Array.from({ length: 30 }, (_, s) => s + 1));
  expect(replayed.loads.map((sample) => sample.map((list) => [...list]))).toEqual(loads);
});

test('under another it shows what that would have made of the run, and can be drawn', () => {
  const { trace } = run(0);
  const violationOf = (speed: number | ((done: number) => number)): number => {
    const { loads, steps } = replayTrace(trace, choice, balancePolicy({ speed }));
    expect(drawLoads(summarizeLoads({ loads, steps }))).toContain('data-load');
    return maxViolation([...loads[29][0]]);
  };
  const [unbalanced, balanced] = [violationOf(0), violationOf(0.02)];
  expect(balanced).toBeLessThan(unbalanced / 2);
  // Schedules see how far the trace is.
  expect(violationOf((done) => (done > 0 ? 0 : 0.02))).toBe(unbalanced);
});

test('a placement planned for one step’s loads, judged by another’s', () => {
  const { loads } = run(0);
  const placement = placeExperts(loads[0][0], { experts, slots: 8, devices: 4 });
  const planned = deviceLoads(loads[0][0], placement);
  planned.forEach((load, device) => {
    expect(load).toBeCloseTo(placement.deviceLoad[device], 9);
  });
  const out = new Float64Array(4).fill(9);
  expect(deviceLoads(loads[20][0], placement, { out })).toBe(out);
  const total = (list: Iterable<number>): number => [...list].reduce((a, b) => a + b, 0);
  expect(total(out)).toBeCloseTo(total(loads[20][0]), 9);
  expect(Math.max(...out)).toBeGreaterThanOrEqual(Math.max(...planned));
});

describe('refused:', () => {
  const { trace } = run(0);
  const bytes = writeTrace(trace);
  const longer = new Uint8Array(bytes.length + 1);
  longer.set(bytes);
  const corrupt = expect.objectContaining({ code: 'ERR_BALEEN_ROUTER_TRACE' }) as Error;

  test.each<[string, Uint8Array]>([
    ['nothing', new Uint8Array(0)],
    ['another file', new Uint8Array(64)],
    ['a trace cut in its header', bytes.subarray(0, 40)],
    ['a trace cut in its scores', bytes.subarray(0, bytes.length - 1)],
    ['a trace with something behind it', longer],
  ])('%s', (_, given) => {
    expect(() => readTrace(given)).toThrow(corrupt);
  });

  test('scores and domains that do not fit', () => {
    const refusal = (path: string): unknown =>
      expect.objectContaining({ code: 'ERR_BALEEN_ROUTER_SIZES', path });
    const one = (batch: object): RoutingTrace => ({
      experts: 4,
      layers: 1,
      batches: [{ step: 1, layer: 0, scores: new Float32Array(8), ...batch }],
    });
    expect(() => writeTrace(one({ scores: new Float32Array(7) }))).toThrow(
      refusal('batches[0].scores'),
    );
    expect(() => writeTrace(one({ domains: new Int32Array(3) }))).toThrow(
      refusal('batches[0].domains'),
    );
    expect(() =>
      deviceLoads([1, 2], placeExperts([1, 2, 3], { experts: 3, slots: 3, devices: 1 })),
    ).toThrow(refusal('loads'));
  });
});
