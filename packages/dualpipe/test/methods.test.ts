// The generators: every schedule they make is valid and cannot deadlock, small ones are written out, sizes are refused.
import { describe, expect, test } from 'vitest';

import {
  type Action,
  generateSchedule,
  type Method,
  type MethodSizes,
  parseSchedule,
  replicasOf,
  type Schedule,
  validateSchedule,
} from '../src/index';
import { names, randomSchedules } from './random';

/** A rank's computations in short: F B (input) W, D (full backward), F|D pairs; stage.micro-batch behind each. */
function short(list: readonly Action[]): string {
  const letters = { forward: 'F', inputGrad: 'B', weightGrad: 'W', fullBackward: 'D' };
  return list
    .flatMap((action) => {
      if (action.kind === 'send' || action.kind === 'receive') return [];
      if (action.kind === 'overlap') {
        const { forward: f, backward: b } = action;
        return [`F${f.stage}.${f.microBatch}|D${b.stage}.${b.microBatch}`];
      }
      return [`${letters[action.kind]}${action.stage}.${action.microBatch}`];
    })
    .join(' ');
}

const lists = (method: Method, sizes: MethodSizes): string[] =>
  generateSchedule(method, sizes).actions.map(short);

test('3,000 random schedules are valid under rendezvous and with buffered sends, and hold what they promise', () => {
  const seen = new Set<Method>();
  for (const { method, sizes, schedule } of randomSchedules(3000, 1)) {
    const name = `${method} ${JSON.stringify(sizes)}`;
    const report = validateSchedule(schedule);
    expect(report, name).toEqual(validateSchedule(schedule, { semantics: 'buffered' }));
    // The promise is not merely kept: some rank needs all of it.
    expect(
      report.peakInFlight.some((peak, rank) => peak === schedule.maxInFlight?.[rank]),
      name,
    ).toBe(true);
    const { stages, microBatches, pipelines } = schedule;
    const borders = pipelines.reduce((sum, { rankOfStage, microBatches: own }) => {
      const between = rankOfStage.filter((rank, s) => s > 0 && rank !== rankOfStage[s - 1]);
      return sum + 2 * own.length * between.length;
    }, 0);
    expect(report.messages, name).toBe(borders);
    expect(stages * microBatches, name).toBeLessThanOrEqual(report.computations);
    seen.add(method);
  }
  expect(seen.size).toBe(names.length);
});

describe('written out', () => {
  test('gpipe', () => {
    expect(lists('gpipe', { ranks: 2, microBatches: 2 })).toEqual([
      'F0.0 F0.1 D0.0 D0.1',
      'F1.0 F1.1 D1.0 D1.1',
    ]);
  });

  test('1f1b, also with fewer micro-batches than ranks', () => {
    expect(lists('1f1b', { ranks: 3, microBatches: 4 })).toEqual([
      'F0.0 F0.1 F0.2 D0.0 F0.3 D0.1 D0.2 D0.3',
      'F1.0 F1.1 D1.0 F1.2 D1.1 F1.3 D1.2 D1.3',
      'F2.0 D2.0 F2.1 D2.1 F2.2 D2.2 F2.3 D2.3',
    ]);
    expect(lists('1f1b', { ranks: 3, microBatches: 1 })).toEqual([
      'F0.0 D0.0',
      'F1.0 D1.0',
      'F2.0 D2.0',
    ]);
  });

  test('interleaved: two ranks, stages 0 and 2, 1 and 3', () => {
    expect(lists('interleaved', { ranks: 2, microBatches: 2 })).toEqual([
      'F0.0 F0.1 F2.0 F2.1 D2.0 D2.1 D0.0 D0.1',
      'F1.0 F1.1 F3.0 D3.0 F3.1 D3.1 D1.0 D1.1',
    ]);
  });

  test('zb1p: rank r is r gradients of weights behind', () => {
    expect(lists('zb1p', { ranks: 3, microBatches: 4 })).toEqual([
      'F0.0 F0.1 F0.2 B0.0 W0.0 F0.3 B0.1 W0.1 B0.2 W0.2 B0.3 W0.3',
      'F1.0 F1.1 B1.0 F1.2 B1.1 W1.0 F1.3 B1.2 W1.1 B1.3 W1.2 W1.3',
      'F2.0 B2.0 F2.1 B2.1 F2.2 B2.2 W2.0 F2.3 B2.3 W2.1 W2.2 W2.3',
    ]);
  });

  test('dualpipe: the eight steps on an outer and a middle rank', () => {
    const sizes = { ranks: 4, microBatches: 10 };
    const [outer, middle, mirrored] = lists('dualpipe', sizes);
    expect(outer).toBe(
      [
        'F0.0 F0.1', // 1
        'F0.2 F3.5', // 2
        'B3.5 W3.5 F3.6', // 3
        'F0.3|D3.6 F3.7|D0.0 F0.4|D3.7 F3.8|D0.1', // 4
        'D3.8 F3.9|D0.2', // 5
        'D3.9 B0.3', // 6
        'W0.3 B0.4', // 7
        'W0.4', // 8
      ].join(' '),
    );
    expect(middle).toBe(
      [
        'F1.0 F2.5 F1.1 F2.6', // 2
        'F1.2 D2.5 F2.7|D1.0 F1.3|D2.6 F2.8|D1.1 F1.4|D2.7 F2.9|D1.2', // 4
        'D2.8 D1.3 B2.9 B1.4', // 6
        'W2.9 W1.4', // 8
      ].join(' '),
    );
    // The other half does the same with the directions exchanged.
    const exchanged = middle.replaceAll(
      /([FBWD])(\d)\.(\d)/g,
      (_, letter: string, stage: string, m: string) => `${letter}${stage}.${(Number(m) + 5) % 10}`,
    );
    expect(mirrored).toBe(exchanged);
  });

  test('dualpipev is one half of dualpipe with a micro-batch that comes back', () => {
    const [outer, middle] = lists('dualpipev', { ranks: 2, microBatches: 5 });
    const folded = (text: string): string =>
      text.replaceAll(/(\d)\.(\d)/g, (_, s: string, m: string) => `${s}.${Number(m) % 5}`);
    const half = lists('dualpipe', { ranks: 4, microBatches: 10 });
    expect(outer).toBe(folded(half[0]));
    expect(middle).toBe(folded(half[1]));
  });
});

test('a stage and its micro-batch say where it runs; mirrored stages are on two ranks', () => {
  const dual = generateSchedule('dualpipe', { ranks: 6, microBatches: 12 });
  expect(replicasOf(dual)).toEqual([
    [0, 5],
    [1, 4],
    [2, 3],
    [2, 3],
    [1, 4],
    [0, 5],
  ]);
  const v = generateSchedule('dualpipev', { ranks: 3, microBatches: 6 });
  expect(replicasOf(v)).toEqual([[0], [1], [2], [2], [1], [0]]);
});

test('neighbouring stages of one rank need no message', () => {
  const { actions } = generateSchedule('dualpipev', { ranks: 2, microBatches: 4 });
  const turn = actions[1].filter(({ kind }) => kind === 'send') as Extract<
    Action,
    { kind: 'send' }
  >[];
  expect(turn.some(({ stage, tensor }) => stage === 1 && tensor === 'activation')).toBe(false);
  const alone = generateSchedule('interleaved', { ranks: 1, microBatches: 3, stagesPerRank: 4 });
  expect(validateSchedule(alone).messages).toBe(0);
});

test('a schedule is JSON', () => {
  for (const { schedule } of randomSchedules(60, 77)) {
    const back: Schedule = parseSchedule(JSON.stringify(schedule));
    expect(back).toEqual(schedule);
  }
});

test.each([
  [
    'dualpipe',
    { ranks: 3, microBatches: 20 },
    'ranks',
    'ranks (3) is not an even number, which dualpipe needs',
    'take ranks 2',
  ],
  [
    'dualpipe',
    { ranks: 8, microBatches: 12 },
    'microBatches',
    'microBatches (12) is not an even number from 2 · ranks (16), which dualpipe needs',
    'take microBatches 16',
  ],
  [
    'dualpipe',
    { ranks: 4, microBatches: 11 },
    'microBatches',
    'microBatches (11) is not',
    'take microBatches 10',
  ],
  [
    'dualpipev',
    { ranks: 4, microBatches: 7 },
    'microBatches',
    'a number from 2 · ranks (8)',
    'take microBatches 8',
  ],
  [
    'interleaved',
    { ranks: 4, microBatches: 7 },
    'microBatches',
    'a multiple of ranks (4)',
    'take microBatches 8 (or 4)',
  ],
  [
    'interleaved',
    { ranks: 4, microBatches: 2 },
    'microBatches',
    'a multiple of ranks (4)',
    'take microBatches 4',
  ],
  [
    'interleaved',
    { ranks: 4, microBatches: 8, stagesPerRank: 1 },
    'stagesPerRank',
    '2 or more',
    'take stagesPerRank 2',
  ],
  [
    '1f1b',
    { ranks: 0, microBatches: 1 },
    'ranks',
    'ranks (0) is not a whole number from 1',
    'count from 1',
  ],
  [
    'zb1p',
    { ranks: 2, microBatches: 1.5 },
    'microBatches',
    '(1.5) is not a whole number',
    'count from 1',
  ],
  [
    'gpipe',
    { ranks: 2, microBatches: 2, stagesPerRank: 2 },
    'stagesPerRank',
    'is not 1, which gpipe has',
    'interleaved',
  ],
] as const)('%s refuses %o', (method, sizes, path, message, hint) => {
  expect(() => generateSchedule(method, sizes)).toThrow(
    expect.objectContaining({
      code: 'ERR_BALEEN_SCHEDULE_SIZES',
      path,
      message: expect.stringContaining(message) as string,
      hint: expect.stringContaining(hint) as string,
    }),
  );
});

test('an unknown method is refused', () => {
  expect(() => generateSchedule('pipedream' as Method, { ranks: 1, microBatches: 1 })).toThrow(
    expect.objectContaining({ code: 'ERR_BALEEN_SCHEDULE_METHOD', path: 'method' }),
  );
});
