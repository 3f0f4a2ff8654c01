// Phases inside a computation: lanes that follow their lists, the share of a GPU that communicates, the published profile.
import { describe, expect, test } from 'vitest';

import {
  costsOfPhases,
  generateSchedule,
  type PhaseTimes,
  phaseTimeline,
  simulate,
  stageTimes,
} from '../src/index';

/** Two layers whose phases all differ. */
const times: PhaseTimes = {
  layers: 2,
  forward: { attention: 3, dispatch: 2, experts: 4, combine: 5 },
  inputGrad: { attention: 6, dispatch: 3, experts: 5, combine: 2 },
  weightGrad: { attention: 1, experts: 2 },
};

test('alone, phases follow each other', () => {
  const { duration, compute, communication, hidden, spans } = phaseTimeline('forward', times);
  expect([duration, compute, communication, hidden]).toEqual([28, 14, 14, 0]);
  expect(spans.map(({ phase, layer, start }) => [phase, layer, start]).slice(3, 6)).toEqual([
    ['combine', 0, 9],
    ['attention', 1, 14],
    ['dispatch', 1, 17],
  ]);
  expect(phaseTimeline('inputGrad', times).duration).toBe(32);
  expect(phaseTimeline('weightGrad', times).duration).toBe(6);
  expect(phaseTimeline('fullBackward', times).duration).toBe(38);
  // Back through the layers from the last to the first.
  expect(phaseTimeline('inputGrad', times).spans.map(({ layer }) => layer)).toEqual([
    1, 1, 1, 1, 0, 0, 0, 0,
  ]);
});

test('a pair, by hand', () => {
  const { spans, duration, compute, communication, hidden } = phaseTimeline('overlap', times);
  const line = (lane: string): string =>
    spans
      .filter((span) => span.lane === lane)
      .map(({ part, phase, layer, start, end }) => `${part[0]}.${phase[0]}${layer} ${start}-${end}`)
      .join(', ');
  expect(line('compute')).toBe(
    'f.a0 0-3, i.e1 3-8, w.e1 8-10, f.e0 10-14, i.a1 14-20, w.a1 20-21, ' +
      'f.a1 21-24, i.e0 24-29, w.e0 29-31, f.e1 31-35, i.a0 35-41, w.a0 41-42',
  );
  expect(line('communication')).toBe(
    'i.c1 0-2, f.d0 3-5, i.d1 8-11, f.c0 14-19, i.c0 20-22, f.d1 24-26, i.d0 29-32, f.c1 35-40',
  );
  expect([duration, compute, communication, hidden]).toEqual([42, 42, 24, 24]);
  expect(costsOfPhases(times)).toEqual({ forward: 28, inputGrad: 32, weightGrad: 6, overlap: 42 });
});

test('communication that nothing hides stays', () => {
  const slow = { ...times, forward: { ...times.forward, combine: 30 } };
  const { duration, communication, hidden } = phaseTimeline('overlap', slow);
  // The combine of the first layer holds up the attention of the second, the last one the end.
  expect(communication - hidden).toBeGreaterThan(30);
  expect(duration).toBeGreaterThan(42 + 30);
});

describe('the share of a GPU that communicates (§3.2.2: 20 of 132 SMs)', () => {
  test('slows compute in a pair, and only there', () => {
    const processors = { total: 132, communication: 20 };
    const shared = { ...times, processors };
    expect(phaseTimeline('overlap', shared).compute).toBeCloseTo((42 * 132) / 112, 9);
    expect(phaseTimeline('overlap', shared).communication).toBeCloseTo(24, 9);
    expect(phaseTimeline('forward', shared).duration).toBe(28);
  });

  test('times measured beside communication are shorter alone', () => {
    const processors = { total: 132, communication: 20, measuredOn: 112 };
    const shared = { ...times, processors };
    expect(phaseTimeline('overlap', shared).duration).toBeCloseTo(42, 9);
    expect(phaseTimeline('forward', shared).duration).toBeCloseTo((14 * 112) / 132 + 14, 9);
  });

  test('too few make communication slower, more than the link needs do not make it faster', () => {
    const of = (communication: number): number =>
      phaseTimeline('overlap', { ...times, processors: { total: 132, communication, filling: 20 } })
        .communication;
    expect(of(10)).toBeCloseTo(48, 9);
    expect(of(40)).toBeCloseTo(24, 9);
  });

  test.each([
    [{ total: 132, communication: 0 }, 'processors.communication'],
    [{ total: 132, communication: 132 }, 'processors.communication'],
    [{ total: 132, communication: 20, measuredOn: 140 }, 'processors.measuredOn'],
    [{ total: 132, communication: 20, filling: NaN }, 'processors.filling'],
  ])('%o is refused', (processors, path) => {
    expect(() => phaseTimeline('overlap', { ...times, processors })).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_SCHEDULE_COSTS', path }),
    );
  });

  test('as is a time that cannot be', () => {
    const spoilt = { ...times, inputGrad: { ...times.inputGrad, dispatch: -2 } };
    expect(() => costsOfPhases(spoilt)).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_SCHEDULE_COSTS', path: 'inputGrad.dispatch' }),
    );
  });
});

test('a schedule with phases takes the times of its computations, and knows what is exposed', () => {
  const schedule = generateSchedule('dualpipe', { ranks: 4, microBatches: 10 });
  const phased = simulate(schedule, { times });
  const plain = simulate(schedule, { times: costsOfPhases(times) });
  expect(phased.total).toBe(plain.total);
  expect(plain.phases).toBeNull();
  // Outside of pairs no communication is hidden: 14 of a forward, 10 of a backward; in them all of it.
  const alone = phased.ranks[0].computations.map(({ action: { kind } }) => kind);
  const count = (...kinds: string[]): number => alone.filter((kind) => kinds.includes(kind)).length;
  expect(phased.exposed[0]).toBe(14 * count('forward') + 10 * count('inputGrad', 'fullBackward'));
});

describe('times of a rank’s share', () => {
  const cut = (stages: number, ranks = 1) => ({ method: 'mine', ranks, stages });

  test('four times are divided, layers are spread', () => {
    const four = { forward: 3, inputGrad: 6, weightGrad: 0 };
    expect(stageTimes(four, cut(3))).toEqual({ forward: 1, inputGrad: 2, weightGrad: 0 });
    expect(stageTimes({ ...four, overlap: 9 }, cut(3))).toMatchObject({ overlap: 3 });
    expect(stageTimes(times, cut(2))).toEqual({ ...times, layers: 1 });
    expect(stageTimes({ ...times, layers: 49 }, cut(49))).toMatchObject({ layers: 1 }); // 49 · (1 / 49) < 1
  });

  test.each([
    [1, cut(2), 'take layers 2'],
    [4, cut(3), 'take layers 3'],
    [4, cut(3, 2), 'take layers 3'],
    [0.5, cut(1), 'take layers 1'],
  ])('layers %d cannot be spread so', (layers, schedule, hint) => {
    expect(() => stageTimes({ ...times, layers }, schedule)).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_SCHEDULE_LAYERS', path: 'layers', hint }),
    );
  });
});
