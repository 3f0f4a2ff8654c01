// One leg of the way from a token's rank to its experts'. Flat dispatch has one, from rank to rank; two-level dispatch has two:
// over the slow link to the device of the same index on another node, then over the fast link within that node (§3.2.2).
//
// Rows before a leg are *items*: tokens, or copies of them that the leg before brought. An item goes once to a rank of the
// leg's group however many of its choices lie that way. Beside the items go their *choices* (an item, one of its experts), for
// what differs from expert to expert.
//
// Legend: K experts a token.
import type { CallOptions, Communicator } from '../communicator';

/** Which row goes where, on one leg. */
export interface Leg {
  /** Rows before the leg that are sent, by destination, ascending for each. */
  send: Int32Array;
  /** How many to each rank of the group. */
  sendCounts: Int32Array;
  /** How many from each. */
  recvCounts: Int32Array;
  /** Rows before it. */
  before: number;
  /** Rows after it. */
  after: number;
}

/** A leg, for items and for choices. */
export interface Hop {
  /** Who exchanges. */
  group: Communicator;
  /** What the ranks of the group are called among all. */
  ranks: readonly number[];
  /** Items. */
  items: Leg;
  /** Choices. */
  choices: Leg;
}

/** What lies on a rank between two legs. */
export interface Items {
  /** Experts that each item is still to reach [items, K], −1 elsewhere. */
  indices: Int32Array;
  /** Number of each choice [items, K], −1 where there is none. */
  choices: Int32Array;
  /** Choices. */
  choiceCount: number;
  /** Rank that each item began on. */
  sources: Int32Array;
}

/** Where a leg leads. */
export interface Direction {
  /** Who exchanges. */
  group: Communicator;
  /** What the ranks of the group are called among all. */
  ranks: readonly number[];
  /** Rank of the group towards an expert [experts]. */
  towards: Int32Array;
}

/** Rows by destination. */
function listed(
  count: number,
  each: (visit: (destination: number, row: number) => void) => void,
): Pick<Leg, 'send' | 'sendCounts'> {
  const sendCounts = new Int32Array(count);
  each((destination) => {
    sendCounts[destination] += 1;
  });
  const next = new Int32Array(count);
  for (let d = 1; d < count; d += 1) next[d] = next[d - 1] + sendCounts[d - 1];
  const send = new Int32Array(count === 0 ? 0 : next[count - 1] + sendCounts[count - 1]);
  each((destination, row) => {
    send[next[destination]++] = row;
  });
  return { send, sendCounts };
}

/** Whether one of an item's choices before this one goes the same way. */
function goesAlready(
  { indices }: Items,
  towards: Int32Array,
  first: number,
  slot: number,
): boolean {
  for (let s = first; s < slot; s += 1)
    if (indices[s] >= 0 && towards[indices[s]] === towards[indices[slot]]) return true;
  return false;
}

/**
 * Tells the ranks of a group what comes to them. Collective, and blocks.
 * @param from - what lies here
 * @param k - K
 * @param direction - where it goes
 * @param options - see {@link CallOptions}
 * @returns the leg, and what lies here after it, by rank of the group and in its order
 */
export function takeHop(
  from: Items,
  k: number,
  { group, ranks, towards }: Direction,
  options: CallOptions,
): { hop: Hop; to: Items } {
  const { indices, choices, sources } = from;
  const size = group.size;
  const eachSlot = (visit: (destination: number, slot: number) => void): void => {
    for (let slot = 0; slot < indices.length; slot += 1)
      if (indices[slot] >= 0) visit(towards[indices[slot]], slot);
  };
  const items = listed(size, (visit) => {
    eachSlot((destination, slot) => {
      const item = Math.floor(slot / k);
      if (!goesAlready(from, towards, item * k, slot)) visit(destination, item);
    });
  });
  const sent = listed(size, (visit) => {
    eachSlot((destination, slot) => {
      visit(destination, choices[slot]);
    });
  });
  const recvCounts = new Int32Array(size);
  group.allToAll(recvCounts, items.sendCounts, options);

  // With each item its choices that lie that way, and where it is from.
  const width = k + 1;
  const told = new Int32Array(items.send.length * width);
  let at = 0;
  for (let destination = 0; destination < size; destination += 1)
    for (let i = 0; i < items.sendCounts[destination]; i += 1, at += 1) {
      const item = items.send[at];
      for (let j = 0; j < k; j += 1) {
        const expert = indices[item * k + j];
        told[at * width + j] = expert >= 0 && towards[expert] === destination ? expert : -1;
      }
      told[at * width + k] = sources[item];
    }
  const after = recvCounts.reduce((sum, count) => sum + count, 0);
  const heard = new Int32Array(after * width);
  group.allToAll(heard, told, {
    ...options,
    sendCounts: items.sendCounts.map((count) => count * width),
    recvCounts: recvCounts.map((count) => count * width),
  });
  const { to, fromEach } = arrived(heard, k, recvCounts);
  return {
    hop: {
      group,
      ranks,
      items: { ...items, recvCounts, before: sources.length, after },
      choices: {
        ...sent,
        recvCounts: fromEach,
        before: from.choiceCount,
        after: to.choiceCount,
      },
    },
    to,
  };
}

/** Items as they arrived. Their choices are numbered in the order that they have there. */
function arrived(
  heard: Int32Array,
  k: number,
  recvCounts: Int32Array,
): { to: Items; fromEach: Int32Array } {
  const count = heard.length / (k + 1);
  const indices = new Int32Array(count * k);
  const choices = new Int32Array(count * k).fill(-1);
  const sources = new Int32Array(count);
  const fromEach = new Int32Array(recvCounts.length);
  let [choiceCount, item] = [0, 0];
  recvCounts.forEach((fromOne, rank) => {
    for (let i = 0; i < fromOne; i += 1, item += 1) {
      sources[item] = heard[item * (k + 1) + k];
      for (let j = 0; j < k; j += 1) {
        const expert = heard[item * (k + 1) + j];
        indices[item * k + j] = expert;
        if (expert < 0) continue;
        choices[item * k + j] = choiceCount++;
        fromEach[rank] += 1;
      }
    }
  });
  return { to: { indices, choices, choiceCount, sources }, fromEach };
}
