// The validator on random schedules that were changed in one place: they are refused, and the place is named.
import { expect, test } from 'vitest';

import { type Action, describeAction, type Message, type Schedule } from '../src/index';
import { fault, isMessage } from './fault';
import { drawn, randomSchedules } from './random';

/** The ways to spoil a list at a position; null where this one has nothing to spoil there. */
const mutations: Record<
  string,
  (list: Action[], at: number, random: () => number, schedule: Schedule) => boolean
> = {
  drop: (list, at) => {
    list.splice(at, 1);
    return true;
  },
  duplicate: (list, at, random) => {
    list.splice(drawn(random, at, list.length), 0, structuredClone(list[at]));
    return true;
  },
  // An action and a later one that needs it.
  swap: (list, at) => {
    const first = list[at];
    if (isMessage(first) || first.kind === 'overlap') return false;
    const other = list.findIndex(
      (each, i) =>
        i > at &&
        each.kind !== 'overlap' &&
        each.stage === first.stage &&
        each.microBatch === first.microBatch &&
        (first.kind === 'forward' || each.kind === 'weightGrad') &&
        each.kind !== 'receive',
    );
    if (other < 0) return false;
    [list[at], list[other]] = [list[other], first];
    return true;
  },
  'retarget the micro-batch': (list, at, random, { microBatches }) => {
    const action = list[at];
    const cell = action.kind === 'overlap' ? action.forward : action;
    if (microBatches === 1) return false;
    cell.microBatch = (cell.microBatch + drawn(random, 1, microBatches - 1)) % microBatches;
    return true;
  },
  'retarget the stage': (list, at, random, { stages }) => {
    const action = list[at];
    const cell = action.kind === 'overlap' ? action.backward : action;
    if (stages === 1) return false;
    cell.stage = (cell.stage + drawn(random, 1, stages - 1)) % stages;
    return true;
  },
  'retarget the peer': (list, at, random, { ranks }) => {
    const action = list[at];
    if (!isMessage(action)) return false;
    action.peer = (action.peer + drawn(random, 1, ranks - 1)) % ranks;
    return true;
  },
  'send for receive': (list, at) => {
    const action = list[at];
    if (!isMessage(action)) return false;
    action.kind = action.kind === 'send' ? 'receive' : 'send';
    return true;
  },
  'activation for gradient': (list, at) => {
    const action = list[at];
    if (!isMessage(action)) return false;
    action.tensor = action.tensor === 'activation' ? 'gradient' : 'activation';
    return true;
  },
};

/** Schedules to spoil. */
const pool = [...randomSchedules(1200, 5)];

test.each(Object.entries(mutations))('%s: 200 mutated schedules are refused', (name, mutate) => {
  let refused = 0;
  for (const { schedule, method, random } of pool) {
    const rank = drawn(random, 0, schedule.ranks - 1);
    const list = structuredClone(schedule.actions[rank]) as Action[];
    const spoilt = { ...schedule, actions: schedule.actions.with(rank, list) };
    const at = drawn(random, 0, list.length - 1);
    const before = list[at] as Action | undefined;
    if (before === undefined || !mutate(list, at, random, schedule)) continue;
    const error = fault(spoilt);
    const what = `${method} ${name} of ${describeAction(before)} at [${rank}][${at}]`;
    expect(error?.code, what).toMatch(/^ERR_BALEEN_SCHEDULE_[A-Z_]+$/);
    expect(error?.hint, what).not.toBe('');
    // The path leads to the action that the message names.
    const place = /^actions\[(\d+)\]\[(\d+)\]$/.exec(error?.path ?? '');
    if (place)
      expect(error?.message, what).toContain(
        describeAction(spoilt.actions[Number(place[1])][Number(place[2])]),
      );
    else expect(error?.code, what).toBe('ERR_BALEEN_SCHEDULE_MISSING');
    refused += 1;
    if (refused === 200) break;
  }
  expect(refused).toBe(200);
});

test('neighbours swapped where messages have an order: 200 schedules are refused at the receive', () => {
  let refused = 0;
  for (const { schedule, method } of pool) {
    const found = schedule.actions.flatMap((list, rank) =>
      list.flatMap((action, at) => {
        const next = list.at(at + 1);
        const both = isMessage(action) && next && isMessage(next);
        return both && action.kind === next.kind && action.peer === next.peer
          ? [{ rank, at, first: action, second: next }]
          : [];
      }),
    );
    for (const { rank, at, first, second } of found.slice(0, 3)) {
      const list = schedule.actions[rank].with(at, second).with(at + 1, first);
      const error = fault({ ...schedule, actions: schedule.actions.with(rank, list) });
      // The first receive that is not what was sent: of the first message, or of the one that came in its place.
      const [there, received]: [number, Message] =
        first.kind === 'receive'
          ? [rank, second]
          : [first.peer, { ...first, kind: 'receive', peer: rank }];
      const words = describeAction(received);
      const position = (first.kind === 'receive' ? list : schedule.actions[there]).findIndex(
        (each) => describeAction(each) === words,
      );
      expect(error, `${method} at [${rank}][${at}]`).toMatchObject({
        code: 'ERR_BALEEN_SCHEDULE_MESSAGE_ORDER',
        path: `actions[${there}][${position}]`,
        message: expect.stringContaining(words) as string,
      });
      refused += 1;
    }
    if (refused >= 200) break;
  }
  expect(refused).toBeGreaterThanOrEqual(200);
});

/** What an action waits for under buffered sends: the computation before it, and the messages it needs. */
function waitsOf({ actions }: Schedule): Map<Action, Action[]> {
  const sends = new Map<string, Action>();
  const key = ({ tensor, stage, microBatch }: Message): string =>
    [tensor, stage, microBatch].join();
  for (const action of actions.flat()) if (action.kind === 'send') sends.set(key(action), action);
  const waits = new Map<Action, Action[]>();
  for (const list of actions) {
    let before: Action[] = [];
    let arriving: Message[] = [];
    for (const action of list) {
      if (action.kind === 'receive') {
        arriving.push(action);
        const send = sends.get(key(action));
        waits.set(action, [...before, ...(send ? [send] : [])]);
        continue;
      }
      const needed = isMessage(action) ? [] : arriving.filter((each) => isFor(action, each));
      waits.set(action, [...before, ...needed]);
      if (isMessage(action)) continue;
      arriving = arriving.filter((each) => !needed.includes(each));
      before = [action];
    }
  }
  return waits;
}

/** Whether a computation needs what a receive brings. */
function isFor(action: Action, { tensor, stage, microBatch }: Message): boolean {
  if (isMessage(action) || action.kind === 'weightGrad') return false;
  const [forward, backward] =
    action.kind === 'overlap'
      ? [action.forward, action.backward]
      : action.kind === 'forward'
        ? [action, null]
        : [null, action];
  const cell = tensor === 'activation' ? forward : backward;
  return (
    cell?.microBatch === microBatch && cell.stage === stage + (tensor === 'activation' ? 1 : -1)
  );
}

/**
 * Moves a computation with its receive before a send of its rank without which nothing would be sent for it, where neither the
 * rank's own list nor the order of messages forbids that.
 */
function* circles(
  schedule: Schedule,
): Generator<{ changed: Schedule; rank: number; moved: Action }> {
  const waits = waitsOf(schedule);
  for (const [rank, list] of schedule.actions.entries())
    for (const [at, moved] of list.entries()) {
      if (isMessage(moved) || moved.kind === 'weightGrad') continue;
      const receives = list
        .slice(0, at)
        .filter((each) => isMessage(each) && each.kind === 'receive' && isFor(moved, each));
      if (receives.length !== 1) continue;
      // Where it is received changes; what it waits for on the other rank does not.
      const sent = waits.get(receives[0])?.filter(({ kind }) => kind === 'send');
      const needed = new Set<Action>(sent);
      for (const each of needed) for (const more of waits.get(each) ?? []) needed.add(more);
      const from = list.indexOf(receives[0]);
      const to = list.findLastIndex(
        (each, i) => i < from && each.kind === 'send' && needed.has(each),
      );
      if (to < 0) continue;
      const between = list.slice(to, at).filter((each) => each !== receives[0]);
      const rest = [...list.slice(0, to), receives[0], moved, ...between, ...list.slice(at + 1)];
      yield { changed: { ...schedule, actions: schedule.actions.with(rank, rest) }, rank, moved };
    }
}

test('a computation moved before a send that it waits for in a circle: 200 schedules are refused as deadlocks', () => {
  let refused = 0;
  const methods = new Set<string>();
  for (const { schedule, method } of pool) {
    let taken = 0;
    for (const { changed, rank, moved } of circles(schedule)) {
      const error = fault(changed, 'buffered');
      // Its own list may forbid it: a gradient before its forward, a message before an earlier one.
      if (
        error?.code === 'ERR_BALEEN_SCHEDULE_ORDER' ||
        error?.code === 'ERR_BALEEN_SCHEDULE_MESSAGE_ORDER'
      )
        continue;
      const what = `${method}: ${describeAction(moved)} on rank ${rank}`;
      expect(error?.code, what).toBe('ERR_BALEEN_SCHEDULE_DEADLOCK');
      // The circle goes through it, and the path leads to an action that stands still.
      expect(error?.message, what).toContain(`rank ${rank} at ${describeAction(moved)}`);
      const [, r, p] = /^actions\[(\d+)\]\[(\d+)\]$/.exec(error?.path ?? '') ?? [];
      expect(error?.message, what).toContain(
        `rank ${r} at ${describeAction(changed.actions[Number(r)][Number(p)])}`,
      );
      // What does not end where sends never wait does not end where they do.
      expect(fault(changed)?.code, what).toBe('ERR_BALEEN_SCHEDULE_DEADLOCK');
      methods.add(method);
      refused += 1;
      taken += 1;
      if (taken === 3) break;
    }
    if (refused >= 200) break;
  }
  expect(refused).toBeGreaterThanOrEqual(200);
  expect(methods.size).toBeGreaterThan(3);
});
