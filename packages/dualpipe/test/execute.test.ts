// The executor by itself: all ranks in one thread, over a link in memory. What real ranks do is in pipeline.test.ts.
import { describe, expect, test } from 'vitest';

import {
  execute,
  generateSchedule,
  type Handle,
  type MessageLink,
  measuredTimeline,
  phaseTimeline,
  ReplicaSums,
  readChromeTrace,
  type Schedule,
  type Stage,
  timedStage,
  toChromeTrace,
} from '../src/index';
import { memoryLinks, runAll } from './in-memory';
import { randomSchedules } from './random';

test('300 random schedules: every stage gets what the stage beside it made, and does everything once', async () => {
  for (const { method, sizes, schedule } of randomSchedules(300, 5)) {
    const { stages, microBatches, actions } = schedule;
    const done: string[] = [];
    const wrong: string[] = [];
    const executions = await runAll<string>(schedule, (s) => [
      {
        kind: 'compute',
        forward: (m, input) => {
          if (input !== (s === 0 ? null : `a${s - 1}.${m}`)) wrong.push(`a${s}.${m} got ${input}`);
          done.push(`a${s}.${m}`);
          return `a${s}.${m}`;
        },
        inputGrad: (m, grad) => {
          if (grad !== (s === stages - 1 ? null : `g${s + 1}.${m}`))
            wrong.push(`g${s}.${m} got ${grad}`);
          done.push(`g${s}.${m}`);
          return `g${s}.${m}`;
        },
        weightGrad: (m) => {
          done.push(`w${s}.${m}`);
        },
      },
    ]);
    const name = `${method} ${JSON.stringify(sizes)}`;
    expect(wrong, name).toEqual([]);
    expect(done.length, name).toBe(3 * stages * microBatches);
    expect(new Set(done).size, name).toBe(done.length);
    for (const { rank, computations, messages } of executions)
      expect(computations.length + messages.length, name).toBe(actions[rank].length);
  }
});

test('a schedule that was changed after it ran is proven again', async () => {
  const schedule = generateSchedule('1f1b', { ranks: 1, microBatches: 3 });
  const list = [...schedule.actions[0]];
  const own = { ...schedule, actions: [list] };
  const stage: Stage<number> = [{ kind: 'compute', forward: () => null, inputGrad: () => null }];
  const stages = new Map([[0, stage]]);
  expect((await execute(own, 0, { stages })).computations).toHaveLength(6);
  list.pop();
  await expect(execute(own, 0, { stages })).rejects.toMatchObject({
    code: 'ERR_BALEEN_SCHEDULE_MISSING',
  });
});

/** A schedule of one rank that overlaps a forward with a backward. */
const pair: Schedule = {
  ...{ format: 'baleen-schedule/1', method: 'by hand', ranks: 1, stages: 1, microBatches: 2 },
  pipelines: [{ rankOfStage: [0], microBatches: [0, 1] }],
  actions: [
    [
      { kind: 'forward', stage: 0, microBatch: 0 },
      {
        kind: 'overlap',
        forward: { stage: 0, microBatch: 1 },
        backward: { stage: 0, microBatch: 0 },
      },
      { kind: 'fullBackward', stage: 0, microBatch: 1 },
    ],
  ],
};

/** Layers of four phases that write down what they do. */
function writing(layers: number, log: string[]): Stage<string> {
  const note = (what: string): string => {
    log.push(what);
    return what;
  };
  const communicated = (what: string): Handle<string> => {
    note(`begin ${what}`);
    return { done: Promise.resolve(), wait: () => what };
  };
  return Array.from({ length: layers }, (_, l) =>
    ['attention', 'dispatch', 'experts', 'combine'].map((phase): Stage<string>[number] =>
      phase === 'attention' || phase === 'experts'
        ? {
            kind: 'compute',
            forward: () => note(`forward ${phase} ${l}`),
            inputGrad: () => note(`inputGrad ${phase} ${l}`),
            weightGrad: () => {
              note(`weightGrad ${phase} ${l}`);
            },
          }
        : {
            kind: 'communication',
            forward: () => communicated(`forward ${phase} ${l}`),
            inputGrad: () => communicated(`inputGrad ${phase} ${l}`),
          },
    ),
  ).flat();
}

describe('phases', () => {
  test.each([1, 2, 3])(
    'a pair of %i layers computes and communicates in the published order',
    async (layers) => {
      const log: string[] = [];
      await execute(pair, 0, { stages: new Map([[0, writing(layers, log)]]) });
      const own = log.slice(4 * layers, -6 * layers);
      const times = { attention: 1, dispatch: 1, experts: 1, combine: 1 };
      const { spans } = phaseTimeline('overlap', {
        ...{ layers, forward: times, inputGrad: times, weightGrad: { attention: 1, experts: 1 } },
      });
      for (const lane of ['compute', 'communication']) {
        const mine = own.filter((line) => line.startsWith('begin') === (lane === 'communication'));
        const published = spans
          .filter((span) => span.lane === lane)
          .map(({ part, phase, layer }) => `${part} ${phase} ${layer}`);
        expect(mine.map((line) => line.replace('begin ', ''))).toEqual(published);
      }
      // Each communication begins before the compute that hides it.
      expect(own.slice(0, 7)).toEqual([
        `begin inputGrad combine ${layers - 1}`,
        'forward attention 0',
        'begin forward dispatch 0',
        `inputGrad experts ${layers - 1}`,
        `begin inputGrad dispatch ${layers - 1}`,
        `weightGrad experts ${layers - 1}`,
        'forward experts 0',
      ]);
    },
  );

  test('alone, one phase follows the other', async () => {
    const log: string[] = [];
    await execute(pair, 0, { stages: new Map([[0, writing(1, log)]]) });
    expect(log.slice(-6)).toEqual([
      'begin inputGrad combine 0',
      'inputGrad experts 0',
      'weightGrad experts 0',
      'begin inputGrad dispatch 0',
      'inputGrad attention 0',
      'weightGrad attention 0',
    ]);
  });

  test('a pair of stages of different lengths goes to the end of both', async () => {
    const log: string[] = [];
    const forward = { stage: 1, microBatch: 1 };
    const backward = { stage: 0, microBatch: 0 };
    const single = (kind: 'forward' | 'fullBackward', stage: number, microBatch: number) =>
      ({ kind, stage, microBatch }) as const;
    const schedule: Schedule = {
      ...{ ...pair, stages: 2, pipelines: [{ rankOfStage: [0, 0], microBatches: [0, 1] }] },
      actions: [
        [
          ...[single('forward', 0, 0), single('forward', 1, 0), single('fullBackward', 1, 0)],
          ...[single('forward', 0, 1), { kind: 'overlap', forward, backward } as const],
          ...[single('fullBackward', 1, 1), single('fullBackward', 0, 1)],
        ],
      ],
    };
    const stages = new Map([
      [0, writing(1, log)],
      [1, writing(3, log)],
    ]);
    await execute(schedule, 0, { stages });
    expect(log).toHaveLength(2 * (4 + 6) * 4);
  });

  test('waiting for them is counted', async () => {
    const exchange = (ms: number): Handle<void> => ({
      done: new Promise((resolve) => setTimeout(resolve, ms)),
      wait: () => undefined,
    });
    const times = {
      layers: 1,
      forward: { attention: 0, dispatch: 20, experts: 0, combine: 20 },
      inputGrad: { attention: 0, dispatch: 0, experts: 0, combine: 0 },
      weightGrad: { attention: 0, experts: 0 },
    };
    const schedule = generateSchedule('gpipe', { ranks: 1, microBatches: 1 });
    const stage = timedStage(times, { output: () => 0, exchange });
    const { exposed } = await execute(schedule, 0, { stages: new Map([[0, stage]]) });
    expect(exposed).toBeGreaterThan(38); // a timer may be a moment early
  });
});

/** Phases that do nothing. */
const idle: Stage<number> = [{ kind: 'compute', forward: (m) => m, inputGrad: (m) => m }];

describe('refused', () => {
  const schedule = generateSchedule('1f1b', { ranks: 2, microBatches: 2 });
  const stages = new Map([[0, idle]]);
  const [link] = memoryLinks<number>(2);

  test.each([
    ['a rank that is not there', 2, { stages, link }, 'STAGES', 'rank'],
    ['a stage that is missing', 0, { stages: new Map(), link }, 'STAGES', 'stages.get(0)'],
    ['no link', 0, { stages }, 'STAGES', 'actions[0][1]'],
  ])('%s', async (_, rank, options, what, path) => {
    await expect(execute(schedule, rank, options)).rejects.toMatchObject({
      ...{ code: `ERR_BALEEN_SCHEDULE_${what}`, path },
    });
  });

  test('a schedule that is wrong, before anything runs', async () => {
    const actions = [schedule.actions[0], schedule.actions[1].toSpliced(0, 1)];
    await expect(execute({ ...schedule, actions }, 0, { stages, link })).rejects.toMatchObject({
      ...{ code: 'ERR_BALEEN_SCHEDULE_ORDER', path: 'actions[1][0]' },
    });
  });

  test('an output that others wait for and a stage does not return', async () => {
    const empty: Stage<number> = [{ ...idle[0], forward: () => null } as Stage<number>[number]];
    const options = { stages: new Map([[0, empty]]), link };
    await expect(execute(schedule, 0, options)).rejects.toMatchObject({
      message:
        'actions[0][0], forward of stage 0, micro-batch 0, failed: the stage returned no output',
    });
  });

  test('what a link throws, by its action, with the code and the ranks to blame', async () => {
    const lost = Object.assign(new Error('recv: rank 1 died'), {
      ...{ code: 'ERR_BALEEN_COMM_RANK_FAILED', hint: 'see rank 1', ranks: [1] },
    });
    const broken: MessageLink<number> = {
      ...link,
      receive: () => ({ done: Promise.reject(lost), wait: () => 0 }),
    };
    await expect(execute(schedule, 0, { stages, link: broken })).rejects.toMatchObject({
      ...{ code: 'ERR_BALEEN_COMM_RANK_FAILED', hint: 'see rank 1', ranks: [1], cause: lost },
      ...{ path: 'actions[0][4]' },
      message:
        'actions[0][4], receive of the gradient of stage 1, micro-batch 0 from rank 1, failed: recv: rank 1 died',
    });
  });

  test('what a link throws of a send, at the end of the list', async () => {
    const broken: MessageLink<number> = {
      ...link,
      send: () => ({ done: Promise.reject(new Error('the cable is cut')), wait: () => undefined }),
    };
    const schedule1 = generateSchedule('gpipe', { ranks: 2, microBatches: 1 });
    await expect(
      execute(schedule1, 1, {
        stages: new Map([[1, idle]]),
        link: { ...broken, receive: () => ({ done: Promise.resolve(), wait: () => 1 }) },
      }),
    ).rejects.toMatchObject({
      ...{ code: 'ERR_BALEEN_SCHEDULE_FAILED', path: 'actions[1][3]' },
      message: expect.stringContaining('send of the gradient of stage 1') as string,
    });
  });

  test('stages that sleep, without what their phases need', () => {
    const times = { attention: 1, dispatch: 1, experts: 1, combine: 1 };
    const phased = { layers: 1, forward: times, inputGrad: times, weightGrad: times };
    const output = (): number => 0;
    expect(() => timedStage(phased, { output })).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_SCHEDULE_STAGES', path: 'exchange' }),
    );
    const negative = { forward: -1, inputGrad: 1, weightGrad: 1 };
    expect(() => timedStage(negative, { output })).toThrow(
      expect.objectContaining({ code: 'ERR_BALEEN_SCHEDULE_COSTS', path: 'forward' }),
    );
  });
});

describe('measured', () => {
  test('what ran is drawn and written like a simulation', async () => {
    const schedule = generateSchedule('dualpipe', { ranks: 4, microBatches: 8 });
    const executions = await runAll(schedule, () =>
      timedStage({ forward: 0.2, inputGrad: 0.2, weightGrad: 0.2 }, { output: () => 0 }),
    );
    const timeline = measuredTimeline(schedule, executions.toReversed());
    expect(timeline.ranks.map(({ peakInFlight }) => peakInFlight)).toEqual([5, 5, 5, 5]);
    expect(Math.min(...timeline.ranks.map(({ computations: [first] }) => first.start))).toBe(0);
    // One thread: ranks compute one after the other.
    const busy = timeline.ranks.reduce((sum, rank) => sum + rank.busy, 0);
    expect(busy).toBeGreaterThanOrEqual(0.2 * 3 * 4 * 8);
    for (const { start, end } of timeline.transfers) expect(end).toBeGreaterThanOrEqual(start);
    const back = readChromeTrace(JSON.stringify(toChromeTrace(timeline)));
    expect(back.schedule).toEqual(schedule);
    expect(back.total).toBeCloseTo(timeline.total, 6);
  });

  test('a rank that is missing is named', () => {
    const schedule = generateSchedule('gpipe', { ranks: 2, microBatches: 1 });
    const first = { rank: 0, computations: [], messages: [], exposed: 0 };
    expect(() => measuredTimeline(schedule, [first])).toThrow(
      expect.objectContaining({
        code: 'ERR_BALEEN_SCHEDULE_RANKS',
        message: 'executions has 0 of rank 1',
      }),
    );
  });
});

test('gradients are added up among the ranks of each stage, in groups split off together', () => {
  const schedule = generateSchedule('dualpipe', { ranks: 4, microBatches: 8 });
  const colors: (number | null)[] = [];
  const added: string[] = [];
  for (const rank of [0, 1, 2, 3]) {
    const sums = new ReplicaSums<string>(schedule, {
      rank,
      split: (color) => {
        colors.push(color);
        return { allReduce: (out) => added.push(`${rank}: ${out}`), close: () => undefined };
      },
    });
    sums.add((stage) => [`w${stage}`, `b${stage}`]);
  }
  expect(colors).toEqual([0, 1, 1, 0]);
  expect(added.slice(0, 8)).toEqual([
    ...['0: w0', '0: b0', '0: w3', '0: b3'],
    ...['1: w1', '1: b1', '1: w2', '1: b2'],
  ]);
});

test('stages on ranks that are not the same for all are added up in turn', () => {
  const schedule: Schedule = {
    ...{ format: 'baleen-schedule/1', method: 'by hand', ranks: 3, stages: 3, microBatches: 2 },
    pipelines: [
      { rankOfStage: [0, 1, 2], microBatches: [0] },
      { rankOfStage: [1, 2, 2], microBatches: [1] },
    ],
    actions: [[], [], []],
  };
  const colors = [0, 1, 2].map((rank) => {
    const own: (number | null)[] = [];
    new ReplicaSums(schedule, {
      rank,
      split: (color) => {
        own.push(color);
        return null;
      },
    });
    return own;
  });
  // Stage 0 on ranks 0 and 1, stage 1 on ranks 1 and 2, stage 2 on one.
  expect(colors).toEqual([
    [0, null],
    [0, 0],
    [null, 0],
  ]);
});
