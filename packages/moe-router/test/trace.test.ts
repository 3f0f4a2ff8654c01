// Traces: read as they were written, and routed again as the run would have routed them.
import { describe, expect, test } from 'vitest';

import { randomFrom, values } from '../../../test/support';
import {
  Balancer,
  balancePolicy,
  deviceLoads,
  drawLoads,
  isTrace,
  maxViolation,
  placeExperts,
  type ReplayOptions,
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
  return { trace: { experts, layers, choice, batches }, loads };
}

test('what is written is read back, to the bit', () => {
  const plain: RoutingTrace = {
    experts: 4,
    layers: 2,
    choice: { expertsPerToken: 2 },
    batches: [
      { step: 1, layer: 0, scores: values(8, 1) },
      { step: 1, layer: 1, scores: values(12, 2) },
      { step: 2, layer: 0, scores: new Float32Array(0) },
    ],
  };
  expect(readTrace(writeTrace(plain))).toEqual(plain);
  const trace: RoutingTrace = {
    ...plain,
    choice: { ...choice, groupBest: 1 },
    bias: [values(4, 3), values(4, 4)],
    domains: ['prose', 'Ψ'],
    batches: plain.batches.map((batch) => ({
      ...batch,
      domains: Int32Array.from({ length: batch.scores.length / 4 }, (_, t) => t % 2),
    })),
  };
  const bytes = writeTrace(trace);
  expect(isTrace(bytes)).toBe(true);
  expect(readTrace(bytes)).toEqual(trace);
  // Wherever the bytes lie.
  const shifted = new Uint8Array(bytes.length + 3).subarray(3);
  shifted.set(bytes);
  expect(readTrace(shifted)).toEqual(trace);
});

test('under the run’s own policy a trace gives the run’s own loads', () => {
  const { trace, loads } = run(0.02);
  const policy = balancePolicy({ speed: 0.02 });
  const replayed = replayTrace(readTrace(writeTrace(trace)), { policy });
  expect(replayed.steps).toEqual(Array.from({ length: 30 }, (_, s) => s + 1));
  expect(replayed.loads.map((sample) => sample.map((list) => [...list]))).toEqual(loads);
});

test('under another it shows what that would have made of the run, and can be drawn', () => {
  const { trace } = run(0);
  const violationOf = (speed: number | ((done: number) => number)): number => {
    const { loads, steps } = replayTrace(trace, { policy: balancePolicy({ speed }) });
    expect(drawLoads(summarizeLoads({ loads, steps }))).toContain('data-load');
    return maxViolation([...loads[29][0]]);
  };
  const [unbalanced, balanced] = [violationOf(0), violationOf(0.02)];
  expect(balanced).toBeLessThan(unbalanced / 2);
  // Schedules see how far the trace is.
  expect(violationOf((done) => (done > 0 ? 0 : 0.02))).toBe(unbalanced);
});

test('biases of the trace choose with its scores, unless others do or none', () => {
  const bias = [Float32Array.of(0, 0, 0, 0, 0, 9), new Float32Array(experts)];
  const trace = { ...run(0).trace, bias };
  const lastOf = (options?: ReplayOptions): number => replayTrace(trace, options).loads[0][0][5];
  // All tokens reach the expert that a bias prefers, in both micro-batches.
  expect(lastOf()).toBe(2 * tokens);
  expect(lastOf({ bias: null })).toBeLessThan(tokens);
  expect(lastOf({ bias: [bias[1], bias[0]] })).toBe(lastOf({ bias: null }));
  // Another top-k, without groups.
  const { loads } = replayTrace(trace, { choice: { expertsPerToken: 6, groupsPerToken: 3 } });
  expect([...loads[0][0]]).toEqual(Array.from({ length: experts }, () => 2 * tokens));
});

test('which experts and domains go together', () => {
  const domains = ['even', 'odd'];
  // Even tokens ask for experts 0 and 1, odd ones for 1 and 2.
  const own = Int32Array.of(0, 1, 0);
  const scores = Float32Array.of(0.9, 0.8, 0, 0, 0, 0.9, 0.8, 0, 0.9, 0.8, 0, 0);
  const batch = { step: 1, layer: 0, scores, domains: own };
  const trace = { experts: 4, layers: 1, choice: { expertsPerToken: 2 }, domains };
  const replayed = replayTrace({ ...trace, batches: [batch, { ...batch, step: 2 }] });
  expect(replayed.domainLoads?.map((loads) => [...loads])).toEqual([[4, 4, 0, 0, 0, 2, 2, 0]]);
  expect([...replayed.coActivation[0]]).toEqual(
    [4, 4, 0, 0].concat([4, 6, 2, 0], [0, 2, 2, 0], [0, 0, 0, 0]),
  );
  expect(replayTrace(run(0).trace).domainLoads).toBeNull();
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
      choice: { expertsPerToken: 2 },
      domains: ['a', 'b'],
      batches: [
        { step: 1, layer: 0, scores: new Float32Array(8), domains: new Int32Array(2), ...batch },
      ],
    });
    for (const [path, batch] of [
      ['step', { step: 0.5 }],
      ['layer', { layer: 1 }],
      ['scores', { scores: new Float32Array(7) }],
      ['domains', { domains: new Int32Array(3) }],
      ['domains[1]', { domains: Int32Array.of(0, 2) }],
      ['domains', { domains: undefined }],
    ] as const)
      expect(() => writeTrace(one(batch)), path).toThrow(refusal(`batches[0].${path}`));
    const { domains, ...unnamed } = one({});
    expect(domains).toHaveLength(2);
    expect(() => writeTrace(unnamed)).toThrow(refusal('batches[0].domains'));
    expect(() => writeTrace({ ...one({}), layers: 2 })).toThrow(refusal('layers'));
    expect(() => writeTrace({ ...one({}), bias: [] })).toThrow(refusal('bias'));
    const twice = one({}).batches.concat(one({ step: 0 }).batches);
    expect(() => replayTrace({ ...one({}), batches: twice })).toThrow(refusal('batches[1].step'));
    expect(() => replayTrace(one({}), { bias: [new Float32Array(3)] })).toThrow(refusal('bias[0]'));
    expect(() => replayTrace(one({}), { choice: { expertsPerToken: 5 } })).toThrow(
      refusal('expertsPerToken'),
    );
    expect(() =>
      deviceLoads([1, 2], placeExperts([1, 2, 3], { experts: 3, slots: 3, devices: 1 })),
    ).toThrow(refusal('loads'));
  });
});

test('whatever a file holds, it is read as it is or refused', () => {
  const random = randomFrom(4);
  const { batches, ...rest } = run(0).trace;
  const bytes = writeTrace({ ...rest, batches: batches.slice(0, 8) });
  const length = new DataView(bytes.buffer).getUint32(8, true);
  let read = 0;
  for (let round = 0; round < 3000; round += 1) {
    let file = bytes.slice();
    const span = random() < 0.8 ? 12 + length : file.length;
    for (let count = Math.floor(random() * 3); count >= 0; count -= 1)
      file[Math.floor(random() * span)] =
        random() < 0.5 ? 48 + Math.floor(random() * 10) : Math.floor(random() * 128);
    if (random() < 0.2) file = file.subarray(0, Math.floor(random() * file.length));
    try {
      const trace = readTrace(file);
      expect(replayTrace(trace).loads.length).toBeGreaterThan(0);
      read += 1;
    } catch (error) {
      // A choice that cannot be is found where it is made.
      expect((error as { code?: string }).code).toMatch(/^ERR_BALEEN_ROUTER_(TRACE|SIZES)$/);
    }
  }
  expect(read).toBeGreaterThan(50);
});
