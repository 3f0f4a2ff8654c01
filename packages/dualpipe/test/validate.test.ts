// The validator: what is wrong is refused, and its place is named. Random changes of random schedules are in mutations.test.ts.
import { describe, expect, test } from 'vitest';

import {
  type Action,
  generateSchedule,
  type Schedule,
  validateSchedule,
  withMessages,
} from '../src/index';
import { fault, isMessage } from './fault';

/** A copy whose lists may be changed. */
function copy(schedule: Schedule): Schedule & { actions: Action[][] } {
  return structuredClone(schedule) as Schedule & { actions: Action[][] };
}

/** Two ranks, one micro-batch. */
function pair(): Schedule & { actions: Action[][] } {
  return copy(generateSchedule('1f1b', { ranks: 2, microBatches: 1 }));
}

describe('the first offending action is named', () => {
  const cases: [string, (schedule: Schedule & { actions: Action[][] }) => void, object][] = [
    [
      'a computation on the wrong rank',
      ({ actions }) => actions[1].unshift({ kind: 'forward', stage: 0, microBatch: 0 }),
      {
        code: 'ERR_BALEEN_SCHEDULE_PLACE',
        path: 'actions[1][0]',
        message:
          'actions[1][0], forward of stage 0, micro-batch 0, is on rank 1, but stage 0 lies on rank 0 for micro-batch 0',
      },
    ],
    [
      'a forward twice',
      ({ actions }) => actions[0].push({ kind: 'forward', stage: 0, microBatch: 0 }),
      { code: 'ERR_BALEEN_SCHEDULE_REPEATED', path: 'actions[0][4]' },
    ],
    [
      'weight gradients twice: alone after a full backward',
      ({ actions }) => actions[0].push({ kind: 'weightGrad', stage: 0, microBatch: 0 }),
      { code: 'ERR_BALEEN_SCHEDULE_REPEATED', path: 'actions[0][4]' },
    ],
    [
      'a forward before its activation',
      ({ actions }) => actions[1].reverse(),
      { code: 'ERR_BALEEN_SCHEDULE_ORDER', path: 'actions[1][0]' },
    ],
    [
      'a backward before its gradient',
      ({ actions }) => {
        actions[0].splice(2, 1);
      },
      {
        code: 'ERR_BALEEN_SCHEDULE_ORDER',
        path: 'actions[0][2]',
        message:
          'actions[0][2], full backward of stage 0, micro-batch 0, comes before the receive of the gradient of stage 1, micro-batch 0 from rank 1',
      },
    ],
    [
      'a backward that is missing',
      ({ actions }) => {
        actions[0].splice(3, 1, { kind: 'inputGrad', stage: 0, microBatch: 0 });
      },
      {
        code: 'ERR_BALEEN_SCHEDULE_MISSING',
        path: 'actions[0]',
        message: 'actions[0] has no weight gradient of stage 0, micro-batch 0',
      },
    ],
    [
      'a send without a receive',
      ({ actions }) => {
        actions[0].splice(2, 2);
        actions[0].push({ kind: 'fullBackward', stage: 0, microBatch: 0 });
      },
      { code: 'ERR_BALEEN_SCHEDULE_ORDER', path: 'actions[0][2]' },
    ],
    [
      'a receive without a send',
      ({ actions }) => actions[0].splice(1, 1),
      { code: 'ERR_BALEEN_SCHEDULE_UNMATCHED', path: 'actions[1][0]' },
    ],
    [
      'a send to a stage that is not there',
      ({ actions }) =>
        actions[1].push({ kind: 'send', tensor: 'activation', stage: 1, microBatch: 0, peer: 0 }),
      { code: 'ERR_BALEEN_SCHEDULE_PLACE', path: 'actions[1][4]' },
    ],
    [
      'a stage outside the model',
      ({ actions }) => actions[1].push({ kind: 'forward', stage: 2, microBatch: 0 }),
      { code: 'ERR_BALEEN_SCHEDULE_PLACE', path: 'actions[1][4]' },
    ],
    [
      'a rank that is none',
      (schedule) => {
        Object.assign(schedule, { pipelines: [{ rankOfStage: [0, 2], microBatches: [0] }] });
      },
      { code: 'ERR_BALEEN_SCHEDULE_PIPELINES', path: 'pipelines[0].rankOfStage[1]' },
    ],
    [
      'a micro-batch in two pipelines',
      (schedule) => {
        Object.assign(schedule, { pipelines: [...schedule.pipelines, ...schedule.pipelines] });
      },
      { code: 'ERR_BALEEN_SCHEDULE_PIPELINES', path: 'pipelines[1].microBatches[0]' },
    ],
    [
      'a micro-batch in none',
      (schedule) => {
        Object.assign(schedule, { microBatches: 2 });
      },
      { code: 'ERR_BALEEN_SCHEDULE_PIPELINES', path: 'pipelines' },
    ],
    [
      'too few lists',
      ({ actions }) => actions.pop(),
      { code: 'ERR_BALEEN_SCHEDULE_PIPELINES', path: 'actions' },
    ],
  ];
  test.each(cases)('%s', (_, spoil, expected) => {
    const schedule = pair();
    expect(fault(schedule)).toBeNull();
    spoil(schedule);
    expect(fault(schedule)).toMatchObject(expected);
  });
});

test.each<[string, (schedule: Schedule & { actions: Action[][] }) => void, string, string]>([
  [
    'a kind that is none',
    ({ actions }) => Object.assign(actions[0][3], { kind: 'backward' }),
    'actions[0][3]',
    '({"kind":"backward","stage":0,"microBatch":0}) is no action',
  ],
  [
    'a kind that every object has',
    ({ actions }) => Object.assign(actions[0][3], { kind: 'toString' }),
    'actions[0][3]',
    'is no action',
  ],
  ['no action', ({ actions }) => actions[1].push(null as never), 'actions[1][4]', '(null) is no'],
  [
    'a pair without its halves',
    ({ actions }) => actions[1].push({ kind: 'overlap' } as never),
    'actions[1][4]',
    'is no action',
  ],
  [
    'a tensor that is none',
    ({ actions }) => Object.assign(actions[0][1], { tensor: 'weights' }),
    'actions[0][1]',
    'is no action',
  ],
  [
    'a message without a peer',
    ({ actions }) => Object.assign(actions[0][1], { peer: undefined }),
    'actions[0][1]',
    'is no action',
  ],
  ['a list that is none', ({ actions }) => (actions[1] = {} as never), 'actions[1]', 'not a list'],
  ['no lists', (s) => Object.assign(s, { actions: undefined }), 'actions', '(nothing) is not a'],
  [
    'a pipeline that is none',
    (s) => Object.assign(s, { pipelines: [null] }),
    'pipelines[0].rankOfStage',
    '(nothing) is not a list',
  ],
  [
    'a bound that is no list',
    (s) => Object.assign(s, { maxInFlight: 3 }),
    'maxInFlight',
    '(3) is not a list',
  ],
])('what nobody parsed: %s', (_, spoil, path, message) => {
  const schedule = pair();
  spoil(schedule);
  expect(fault(schedule)).toMatchObject({
    code: 'ERR_BALEEN_SCHEDULE_FORM',
    path,
    message: expect.stringContaining(message) as string,
    hint: 'parseSchedule says what does not fit',
  });
});

test('a rank that would hold more activations than it promises', () => {
  const schedule = copy(generateSchedule('1f1b', { ranks: 2, microBatches: 4 }));
  const bound = { ...schedule, maxInFlight: [1, 1] };
  expect(fault(bound)).toMatchObject({
    code: 'ERR_BALEEN_SCHEDULE_MEMORY',
    path: 'actions[0][2]',
    message: expect.stringContaining(
      'brings rank 0 to 2 activations; maxInFlight[0] is 1',
    ) as string,
  });
  // Nobody has to promise anything.
  delete (schedule as { maxInFlight?: unknown }).maxInFlight;
  expect(validateSchedule(schedule).peakInFlight).toEqual([2, 1]);
});

test('messages between two ranks keep their order', () => {
  const schedule = copy(generateSchedule('gpipe', { ranks: 2, microBatches: 2 }));
  const [, list] = schedule.actions;
  const receives = list.filter(({ kind }) => kind === 'receive');
  schedule.actions[1] = [
    receives[1],
    receives[0],
    ...list.filter(({ kind }) => kind !== 'receive'),
  ];
  expect(fault(schedule)).toMatchObject({
    code: 'ERR_BALEEN_SCHEDULE_MESSAGE_ORDER',
    path: 'actions[1][0]',
  });
});

describe('deadlock', () => {
  /** Each rank has the first stage of one pipeline and sends before it receives. */
  function crossed(): Schedule & { actions: Action[][] } {
    const ends = (rank: number): Action[] => {
      const [own, other, peer] = [rank, 1 - rank, 1 - rank];
      return [
        { kind: 'forward', stage: 0, microBatch: own },
        { kind: 'send', tensor: 'activation', stage: 0, microBatch: own, peer },
        { kind: 'receive', tensor: 'activation', stage: 0, microBatch: other, peer },
        { kind: 'forward', stage: 1, microBatch: other },
        { kind: 'fullBackward', stage: 1, microBatch: other },
        { kind: 'send', tensor: 'gradient', stage: 1, microBatch: other, peer },
        { kind: 'receive', tensor: 'gradient', stage: 1, microBatch: own, peer },
        { kind: 'fullBackward', stage: 0, microBatch: own },
      ];
    };
    return {
      format: 'baleen-schedule/1',
      method: 'by hand',
      ranks: 2,
      stages: 2,
      microBatches: 2,
      pipelines: [
        { rankOfStage: [0, 1], microBatches: [0] },
        { rankOfStage: [1, 0], microBatches: [1] },
      ],
      actions: [ends(0), ends(1)],
    };
  }

  test('sends and receives that stand next to each other are one batch', () => {
    expect(fault(crossed())).toBeNull();
  });

  test('a computation between a send and a receive parts them: only buffers help', () => {
    const schedule = crossed();
    schedule.microBatches = 4;
    schedule.pipelines = [
      { rankOfStage: [0, 1], microBatches: [0, 2] },
      { rankOfStage: [1, 0], microBatches: [1, 3] },
    ];
    // The forward of a further micro-batch comes before the receive, on both ranks.
    schedule.actions = schedule.actions.map((list, rank) => {
      const own = rank + 2;
      const other = 3 - rank;
      const peer = 1 - rank;
      return [
        ...list.slice(0, 2),
        { kind: 'forward', stage: 0, microBatch: own },
        ...list.slice(2),
        { kind: 'send', tensor: 'activation', stage: 0, microBatch: own, peer },
        { kind: 'receive', tensor: 'activation', stage: 0, microBatch: other, peer },
        { kind: 'forward', stage: 1, microBatch: other },
        { kind: 'fullBackward', stage: 1, microBatch: other },
        { kind: 'send', tensor: 'gradient', stage: 1, microBatch: other, peer },
        { kind: 'receive', tensor: 'gradient', stage: 1, microBatch: own, peer },
        { kind: 'fullBackward', stage: 0, microBatch: own },
      ];
    });
    expect(fault(schedule, 'buffered')).toBeNull();
    expect(fault(schedule)).toMatchObject({
      code: 'ERR_BALEEN_SCHEDULE_DEADLOCK',
      path: 'actions[0][1]',
      message:
        'actions[0][1], send of the activation of stage 0, micro-batch 0 to rank 1, waits for ever under rendezvous: ' +
        'rank 0 at send of the activation of stage 0, micro-batch 0 to rank 1, which waits for ' +
        'rank 1 at send of the activation of stage 0, micro-batch 1 to rank 0, which waits for rank 0',
    });
  });

  test('ranks that wait for each other’s messages do so under any semantics', () => {
    const schedule = crossed();
    schedule.actions = schedule.actions.map((list) => [
      list[2],
      list[3],
      list[0],
      list[1],
      ...list.slice(4),
    ]);
    for (const semantics of ['rendezvous', 'buffered'] as const)
      expect(fault(schedule, semantics)).toMatchObject({
        code: 'ERR_BALEEN_SCHEDULE_DEADLOCK',
        path: semantics === 'buffered' ? 'actions[0][1]' : 'actions[0][0]',
      });
  });

  test('computations that wait for each other cannot be given messages', () => {
    const { actions, ...rest } = crossed();
    const computations = actions.map((list) => {
      const own = list.filter((action) => !isMessage(action));
      return [own[1], own[0], own[2], own[3]];
    });
    expect(() => withMessages({ ...rest, computations })).toThrow(
      expect.objectContaining({
        code: 'ERR_BALEEN_SCHEDULE_DEADLOCK',
        path: 'computations[0][0]',
      }),
    );
  });
});
