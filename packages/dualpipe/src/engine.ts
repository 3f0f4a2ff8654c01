// Runs a schedule in time: the one mechanism behind the proof that it ends, the placing of messages, and the simulation.
//
// A rank has a compute lane and a lane for what it sends. How the two go together is the semantics:
//
// - `buffered`: a send leaves as soon as the rank comes to it and its lane is free, and the rank goes on; receives are
//   posted ahead; a computation waits for the messages it needs and for nothing else.
// - `rendezvous`: a rank walks its list one batch at a time. Sends and receives that follow each other directly are posted
//   together, a transfer begins when both of its ends are posted, and the next computation begins when the whole batch is
//   complete. This is the strictest way to run a list: one that ends under rendezvous ends under any laxer way as well.
//
// Ranks are advanced as far as they come, in any order, so times are not found in order of time. They are exact under
// buffered, where each lane follows its own list. Under rendezvous a sender's transfers queue in the order they were matched.
import {
  type Action,
  type Compute,
  forEachPart,
  isMessage,
  type Message,
  Places,
  type Schedule,
} from './schedule';

/** How sends and receives hold a rank up. */
export type Semantics = 'buffered' | 'rendezvous';

/** A message on its way. */
export interface Transfer extends Pick<Message, 'tensor' | 'stage' | 'microBatch'> {
  /** Sending rank. */
  from: number;
  /** Receiving rank. */
  to: number;
  /** When it begins to leave. */
  start: number;
  /** When all of it has arrived. */
  end: number;
}

/** How to run a schedule. */
export interface RunOptions {
  /** Time that a computation takes. */
  duration: (action: Compute) => number;
  /** Time that a message occupies the sender's lane, and the further time until it arrives. */
  link: { occupied: number; latency: number };
  /** See the top of this file; `free` ignores messages: what is computed is there for every rank at once. */
  semantics: Semantics | 'free';
}

/** A run. */
export interface Run {
  /** When each action began, by rank and position; NaN where it did not, and for messages. */
  start: Float64Array[];
  /** When it ended. */
  end: Float64Array[];
  /** Every message. */
  transfers: Transfer[];
  /** Position at which each rank stands still; the length of its list where it came to the end. */
  reached: Int32Array;
}

/** The places a schedule has, and its lists. */
export type Lists = Omit<Schedule, 'actions'> & { actions: readonly (readonly Action[])[] };

/** Runs a schedule as far as it comes. */
export function run(
  schedule: Lists,
  options: RunOptions,
  places: Places = new Places(schedule),
): Run {
  return new Engine(schedule, options, places).run();
}

class Engine {
  private readonly lists: Lists['actions'];
  private readonly reached: Int32Array;
  private readonly clock: Float64Array;
  /** When a rank's lane for sends is free. */
  private readonly outFree: Float64Array;
  private readonly start: Float64Array[];
  private readonly end: Float64Array[];
  private readonly transfers: Transfer[] = [];
  /** When the result of a forward or an input gradient is there on the rank that needs it. */
  private readonly arrived: Float64Array;
  /** The rank that waits for it, or −1. */
  private readonly waiting: Int32Array;
  /** Of a message, when its first end was posted, and by which rank; rendezvous only. */
  private readonly posted: Float64Array;
  private readonly postedBy: Int32Array;
  /** Of a rank's batch: messages not complete, when the last of the others was, and the action after it; −1 outside one. */
  private readonly pending: Int32Array;
  private readonly batchEnd: Float64Array;
  private readonly afterBatch: Int32Array;
  private readonly stack: number[] = [];

  constructor(
    { ranks, actions }: Lists,
    private readonly options: RunOptions,
    private readonly places: Places,
  ) {
    this.lists = actions;
    this.reached = new Int32Array(ranks);
    this.clock = new Float64Array(ranks);
    this.outFree = new Float64Array(ranks);
    this.start = actions.map((list) => new Float64Array(list.length).fill(NaN));
    this.end = actions.map((list) => new Float64Array(list.length).fill(NaN));
    const results = 2 * places.cells;
    this.arrived = new Float64Array(results).fill(NaN);
    this.waiting = new Int32Array(results).fill(-1);
    this.posted = new Float64Array(results).fill(NaN);
    this.postedBy = new Int32Array(results).fill(-1);
    this.pending = new Int32Array(ranks);
    this.batchEnd = new Float64Array(ranks);
    this.afterBatch = new Int32Array(ranks).fill(-1);
  }

  run(): Run {
    for (let rank = this.lists.length - 1; rank >= 0; rank -= 1) this.stack.push(rank);
    for (let rank = this.stack.pop(); rank !== undefined; rank = this.stack.pop())
      this.advance(rank);
    const { start, end, transfers, reached } = this;
    return { start, end, transfers, reached };
  }

  private advance(rank: number): void {
    const list = this.lists[rank];
    while (this.reached[rank] < list.length) {
      const action = list[this.reached[rank]];
      if (!isMessage(action)) {
        if (!this.compute(rank, action)) return;
      } else if (this.options.semantics !== 'rendezvous') {
        if (this.options.semantics === 'buffered' && action.kind === 'send')
          this.transfer(action, rank, action.peer, this.clock[rank]);
        this.reached[rank] += 1;
      } else if (!this.batch(rank, list)) return;
    }
  }

  /** A computation, unless it lacks something: then its rank is woken when that comes. */
  private compute(rank: number, action: Compute): boolean {
    let begin = this.clock[rank];
    let lacking = -1;
    forEachPart(action, (part, cell) => {
      const input = this.places.inputOf(part, cell);
      // The gradients of an action come after its own forward or input gradient, or after an earlier action's.
      if (input < 0 || lacking >= 0) return;
      const at = this.arrived[input];
      if (Number.isNaN(at)) lacking = input;
      else begin = Math.max(begin, at);
    });
    if (lacking >= 0) {
      this.waiting[lacking] = rank;
      return false;
    }
    const position = this.reached[rank];
    const end = begin + this.options.duration(action);
    this.start[rank][position] = begin;
    this.end[rank][position] = end;
    this.clock[rank] = end;
    this.reached[rank] += 1;
    forEachPart(action, (part, cell) => {
      if (part === 'weightGrad') return;
      const id = this.places.of(cell) + (part === 'inputGrad' ? this.places.cells : 0);
      const next = cell.stage + (part === 'forward' ? 1 : -1);
      if (next < 0 || next >= this.places.stages) return;
      const there = this.places.rankOf[next * this.places.microBatches + cell.microBatch];
      if (this.options.semantics === 'free' || there === rank) this.arrive(id, end);
    });
    return true;
  }

  private arrive(id: number, time: number): void {
    this.arrived[id] = time;
    if (this.waiting[id] >= 0) this.stack.push(this.waiting[id]);
    this.waiting[id] = -1;
  }

  /** Puts a message on the sender's lane. */
  private transfer(message: Message, from: number, to: number, ready: number): number {
    const { occupied, latency } = this.options.link;
    const start = Math.max(ready, this.outFree[from]);
    this.outFree[from] = start + occupied;
    const end = start + occupied + latency;
    const { tensor, stage, microBatch } = message;
    this.transfers.push({ tensor, stage, microBatch, from, to, start, end });
    this.arrive(this.places.ofMessage(message), end);
    return end;
  }

  /** Posts a batch, or leaves one that is complete. */
  private batch(rank: number, list: readonly Action[]): boolean {
    if (this.afterBatch[rank] < 0) {
      let position = this.reached[rank];
      const own: Message[] = [];
      for (; position < list.length; position += 1) {
        const action = list[position];
        if (!isMessage(action)) break;
        own.push(action);
      }
      this.afterBatch[rank] = position;
      this.pending[rank] = own.length;
      this.batchEnd[rank] = this.clock[rank];
      for (const message of own) this.post(rank, message);
    }
    if (this.pending[rank] > 0) return false;
    this.clock[rank] = this.batchEnd[rank];
    this.reached[rank] = this.afterBatch[rank];
    this.afterBatch[rank] = -1;
    return true;
  }

  private post(rank: number, message: Message): void {
    const id = this.places.ofMessage(message);
    const other = this.postedBy[id];
    if (other < 0) {
      this.postedBy[id] = rank;
      this.posted[id] = this.clock[rank];
      return;
    }
    const [from, to] = message.kind === 'send' ? [rank, other] : [other, rank];
    const end = this.transfer(message, from, to, Math.max(this.clock[rank], this.posted[id]));
    this.complete(rank, end);
    this.complete(other, end);
    if (this.pending[other] === 0) this.stack.push(other);
  }

  private complete(rank: number, end: number): void {
    this.batchEnd[rank] = Math.max(this.batchEnd[rank], end);
    this.pending[rank] -= 1;
  }
}
