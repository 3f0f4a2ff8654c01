// The simulator: published figures, the conditions of the closed forms, links, memory; everything worked out by hand.
import { describe, expect, test } from 'vitest';

import {
  type Cell,
  type Costs,
  closedForm,
  generateSchedule,
  type Method,
  type Simulation,
  simulate,
  validateSchedule,
} from '../src/index';
import { drawn, names, randomSchedules } from './random';

const unit: Costs = { forward: 1, inputGrad: 1, weightGrad: 1 };

function simulated(method: Method, ranks: number, microBatches: number, times: Costs): Simulation {
  return simulate(generateSchedule(method, { ranks, microBatches }), { times });
}

const idle = ({ ranks }: Simulation): number[] => ranks.map((rank) => Number(rank.idle.toFixed(9)));

describe('DualPipe, figures of its order (§3.2.1)', () => {
  test('8 ranks, 20 micro-batches, F = Bᵢ = W = 1, pairs of 3: 66, of which 6 idle on every rank', () => {
    const simulation = simulated('dualpipe', 8, 20, unit);
    expect(simulation.total).toBe(66);
    expect(idle(simulation)).toEqual(new Array(8).fill(6));
    expect(simulation.bubbleShare).toBeCloseTo(6 / 66, 12);
  });

  test.each([
    [2, 0],
    [4, 2],
    [8, 6],
    [16, 14],
  ])(
    '%i ranks: idle %i, R + 1 activations, whatever the number of micro-batches',
    (ranks, expected) => {
      for (const more of [0, 2, 6, 32]) {
        const simulation = simulated('dualpipe', ranks, 2 * ranks + more, unit);
        expect(idle(simulation)).toEqual(new Array(ranks).fill(expected));
        for (const { peakInFlight } of simulation.ranks) expect(peakInFlight).toBe(ranks + 1);
      }
    },
  );

  test('pairs of 2.5: 4.5 idle in the middle, 3.5 at the edges', () => {
    const times = { ...unit, overlap: 2.5 };
    for (const microBatches of [20, 64]) {
      const simulation = simulated('dualpipe', 8, microBatches, times);
      expect(idle(simulation)).toEqual([3.5, 4, 4.5, 4.5, 4.5, 4.5, 4, 3.5]);
      expect(closedForm(simulation.schedule, times)).toMatchObject({ bubble: 4.5, holds: true });
    }
  });

  test.each([
    [
      'F ≠ Bᵢ, more than the formula',
      { forward: 1, inputGrad: 0.8, weightGrad: 0.5, overlap: 2.3 },
      6.9,
      6.3,
    ],
    ['F ≠ Bᵢ, less', { forward: 1, inputGrad: 1.5, weightGrad: 0.5, overlap: 3 }, 9.5, 10.5],
    ['W > F', { forward: 1, inputGrad: 1, weightGrad: 1.2, overlap: 3.2 }, 6, 5.4],
    ['W > F, pairs shorter', { forward: 1, inputGrad: 1, weightGrad: 1.2, overlap: 3 }, 5.4, 4.8],
  ])('%s: the closed form fails, and says that it may', (_, times, found, formula) => {
    const simulation = simulated('dualpipe', 8, 20, times);
    expect(simulation.ranks[3].idle).toBeCloseTo(found, 9);
    const form = closedForm(simulation.schedule, times);
    expect(form?.bubble).toBeCloseTo(formula, 9);
    expect(form?.holds).toBe(false);
  });
});

test('the table of §3.2.1 at unit times: 8 ranks, 20 micro-batches, and V on 4 ranks with the same stages', () => {
  const row = (method: Method, ranks: number): object => {
    const simulation = simulated(method, ranks, 20, unit);
    const form = closedForm(simulation.schedule, unit);
    return {
      idle: [...new Set(idle(simulation))],
      bubble: form?.bubble,
      copies: form?.copies,
      held: Math.max(...simulation.ranks.map(({ peakInFlight }) => peakInFlight)),
      activations: form?.activations,
    };
  };
  expect(row('1f1b', 8)).toEqual({ idle: [21], bubble: 21, copies: 1, held: 8, activations: 8 });
  expect(row('zb1p', 8)).toEqual({ idle: [7], bubble: 7, copies: 1, held: 8, activations: 8 });
  expect(row('dualpipe', 8)).toEqual({ idle: [6], bubble: 6, copies: 2, held: 9, activations: 9 });
  expect(row('dualpipev', 4)).toEqual({ idle: [6], bubble: 6, copies: 1, held: 9, activations: 9 });
});

test('where a closed form says that it holds, it holds: 2,000 random sizes and times', () => {
  const held: Partial<Record<Method, number>> = {};
  for (const { schedule, method, sizes, random } of randomSchedules(2000, 300)) {
    const forward = 0.5 + random();
    const inputGrad = random() < 0.5 ? forward : 0.5 + random();
    const weightGrad = forward * random() * 1.2;
    const overlap =
      (forward + inputGrad + weightGrad) * (random() < 0.5 ? 1 : 0.6 + 0.4 * random());
    const times = { forward, inputGrad, weightGrad, overlap };
    const form = closedForm(schedule, times);
    if (!form?.holds) continue;
    held[method] = (held[method] ?? 0) + 1;
    const { ranks } = simulate(schedule, { times });
    const pairsOf = (rank: number): number =>
      ranks[rank].computations.filter(({ action }) => action.kind === 'overlap').length;
    const middle = method === 'dualpipe' ? sizes.ranks / 2 : sizes.ranks - 1;
    const shorter = forward + inputGrad + weightGrad - overlap;
    const name = `${method} ${JSON.stringify({ ...sizes, ...times })}`;
    ranks.forEach((each, rank) => {
      const fewer = (pairsOf(middle) - pairsOf(rank)) * shorter;
      expect(each.idle, name).toBeCloseTo(form.bubble - fewer, 9);
    });
  }
  for (const name of names) expect(held[name], name).toBeGreaterThan(50);
});

test('each part of the conditions is needed', () => {
  const apart = (method: Method, ranks: number, count: number, times: Costs): number => {
    const { schedule, ranks: timelines } = simulated(method, ranks, count, times);
    const form = closedForm(schedule, times);
    expect(form?.holds).toBe(false);
    return Math.abs(timelines[ranks / 2].idle - (form?.bubble ?? 0));
  };
  for (const times of [
    { forward: 1, inputGrad: 1, weightGrad: 1.2 },
    { forward: 1.2, inputGrad: 1, weightGrad: 1 },
    { forward: 1, inputGrad: 1, weightGrad: 0.9, overlap: 1.8 },
  ])
    expect(apart('dualpipe', 8, 20, times)).toBeGreaterThan(0.01);
  expect(apart('zb1p', 4, 8, { forward: 1, inputGrad: 1, weightGrad: 1.2 })).toBeGreaterThan(0.01);
  expect(apart('zb1p', 4, 8, { forward: 1, inputGrad: 0.5, weightGrad: 0.8 })).toBeGreaterThan(
    0.01,
  );
  expect(apart('zb1p', 4, 3, unit)).toBeGreaterThan(0.01);
});

test('a rank computes one thing at a time, after what it needs, and rendezvous is never sooner', () => {
  for (const { schedule, random } of randomSchedules(300, 900)) {
    const times = { forward: 0.5 + random(), inputGrad: 0.5 + random(), weightGrad: random() };
    const link = { bytes: drawn(random, 0, 3), bandwidth: 8, latency: random() / 4 };
    const free = simulate(schedule, { times });
    const buffered = simulate(schedule, { times, link });
    const rendezvous = simulate(schedule, { times, link, semantics: 'rendezvous' });
    expect(buffered.total).toBeGreaterThanOrEqual(free.total - 1e-9);
    expect(rendezvous.total).toBeGreaterThanOrEqual(buffered.total - 1e-9);
    for (const { ranks, transfers, total } of [buffered, rendezvous]) {
      for (const { computations, busy, idle: rest } of ranks) {
        computations.slice(1).forEach(({ start }, i) => {
          expect(start).toBeGreaterThanOrEqual(computations[i].end - 1e-9);
        });
        expect(busy + rest).toBeCloseTo(total, 9);
        expect(rest).toBeGreaterThan(-1e-9);
      }
      for (const { start, end } of transfers)
        expect(end - start).toBeCloseTo(link.bytes / 8 + link.latency, 9);
    }
  }
});

describe('links, by hand', () => {
  const schedule = generateSchedule('gpipe', { ranks: 2, microBatches: 2 });
  test('a message occupies the sender’s lane, and arrives a latency later', () => {
    // Forwards end at 1 and 2; messages leave 1–3 and 3–5 and arrive at 3.5 and 5.5.
    const link = { bytes: 4, bandwidth: 2, latency: 0.5 };
    const { transfers, ranks, total } = simulate(schedule, { times: unit, link });
    const activations = transfers.filter(({ tensor }) => tensor === 'activation');
    expect(activations.map(({ start, end }) => [start, end])).toEqual([
      [1, 3.5],
      [3, 5.5],
    ]);
    expect(ranks[1].computations.map(({ start }) => start)).toEqual([3.5, 5.5, 6.5, 8.5]);
    // Gradients leave when a full backward is done: 8.5 and 10.5; the second backward of rank 0 is done at 13 + 2.
    expect(total).toBe(15);
  });

  test('a link that is never in the way costs its latency once each way', () => {
    const link = { bytes: 1, bandwidth: Infinity, latency: 0.25 };
    const without = simulate(schedule, { times: unit }).total;
    expect(simulate(schedule, { times: unit, link }).total).toBe(without + 0.5);
  });

  test.each([
    [{ bytes: -1, bandwidth: 1, latency: 0 }, 'link.bytes'],
    [{ bytes: 1, bandwidth: 0, latency: 0 }, 'link.bandwidth'],
    [{ bytes: 1, bandwidth: 1, latency: NaN }, 'link.latency'],
  ])('%o is refused', (link, path) => {
    expect(() => simulate(schedule, { times: unit, link })).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_SCHEDULE_LINK', path }),
    );
  });
});

test('memory over time, by hand: ZB1P on the last of two ranks', () => {
  // F0 Bᵢ0 F1 Bᵢ1 W0 W1, begun at 1.
  const schedule = generateSchedule('zb1p', { ranks: 2, microBatches: 2 });
  const held = { activation: 100, waiting: 30 };
  const { ranks, peakBytes } = simulate(schedule, { times: unit, held });
  expect(ranks[1].memory).toEqual([
    { time: 1, inFlight: 1, waiting: 0, bytes: 100 },
    { time: 3, inFlight: 0, waiting: 1, bytes: 30 },
    { time: 3, inFlight: 1, waiting: 1, bytes: 130 },
    { time: 5, inFlight: 0, waiting: 2, bytes: 60 },
    { time: 6, inFlight: 0, waiting: 1, bytes: 30 },
    { time: 7, inFlight: 0, waiting: 0, bytes: 0 },
  ]);
  expect(peakBytes).toEqual([200, 130]);
  // Without sizes there are none.
  expect(simulate(schedule, { times: unit }).ranks[1].memory[0]).toEqual({
    ...{ time: 1, inFlight: 1, waiting: 0 },
  });
  // Micro-batches of different sizes, and stages: rank 0 holds both activations, rank 1 the second one and what the first left.
  const sized = {
    activation: ({ stage, microBatch }: Cell) => 100 * (stage + 1) + microBatch,
    waiting: ({ microBatch }: Cell) => 30 + microBatch,
  };
  expect(simulate(schedule, { times: unit, held: sized }).peakBytes).toEqual([201, 231]);
  expect(() => simulate(schedule, { times: unit, held: { ...held, waiting: -1 } })).toThrow(
    expect.objectContaining({ code: 'ERR_BALEEN_SCHEDULE_HELD', path: 'held.waiting' }),
  );
});

test('times that cannot be are refused by name', () => {
  const schedule = generateSchedule('1f1b', { ranks: 2, microBatches: 2 });
  expect(() => simulate(schedule, { times: { ...unit, weightGrad: -1 } })).toThrow(
    expect.objectContaining({ code: 'ERR_BALEEN_SCHEDULE_COSTS', path: 'weightGrad' }),
  );
});

test('a schedule that does not end is not simulated', () => {
  const schedule = generateSchedule('1f1b', { ranks: 2, microBatches: 2 });
  const actions = [schedule.actions[0].slice(0, 1), schedule.actions[1]];
  expect(() => simulate({ ...schedule, actions }, { times: unit })).toThrow(
    expect.objectContaining({ code: 'ERR_BALEEN_SCHEDULE_DEADLOCK', path: 'actions[1][1]' }),
  );
});

test('a closed form holds for the lists that the method makes only', () => {
  const schedule = generateSchedule('1f1b', { ranks: 4, microBatches: 8 });
  expect(closedForm(schedule, unit)).toMatchObject({ bubble: 9, holds: true });
  // Gradients of weights at the end: the ranks before have theirs sooner.
  const actions = schedule.actions.map((list) => [
    ...list.map((action) =>
      action.kind === 'fullBackward' ? { ...action, kind: 'inputGrad' as const } : action,
    ),
    ...list.flatMap((action) =>
      action.kind === 'fullBackward' ? [{ ...action, kind: 'weightGrad' as const }] : [],
    ),
  ]);
  const edited = { ...schedule, actions };
  validateSchedule(edited);
  expect(idle(simulate(edited, { times: unit }))).not.toContain(9);
  expect(closedForm(edited, unit)).toMatchObject({ bubble: 9, holds: false });
  // Nor under a method's name with sizes that it does not take.
  expect(closedForm({ ...schedule, method: 'dualpipe', microBatches: 6 }, unit)?.holds).toBe(false);
});

test('a schedule of one’s own has no closed form', () => {
  const schedule = generateSchedule('1f1b', { ranks: 2, microBatches: 2 });
  expect(closedForm({ ...schedule, method: 'mine' }, unit)).toBeNull();
});
