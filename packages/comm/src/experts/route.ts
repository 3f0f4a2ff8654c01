// The way of a batch of tokens to their experts and back: who sends what to whom, exchanged once and used for any number of
// dispatches and combines. It is what DeepEP calls a handle.
import type { CallOptions } from '../communicator';
import { type Arrivals, fanOut } from './arrivals';
import { type Direction, type Hop, type Items, type Leg, takeHop } from './hop';
import { placesOf, type Sums, sumsOf } from './sums';

/** Way of a batch, from `ExpertExchange.route`. */
export interface ExpertRoute {
  /** Tokens of this rank, T. */
  readonly tokens: number;
  /** Copies of tokens that reach this rank. */
  readonly copies: number;
  /** Rows of this rank's experts, padding included. */
  readonly rows: number;
  /** Rows of each of this rank's experts, without padding [L]. */
  readonly counts: Int32Array;
  /** First row of each, and the number of rows [L + 1]: multiples of the alignment. */
  readonly offsets: Int32Array;
  /**
   * First row of each expert from each rank, and the number of rows [L · R + 1]; padding counts to an expert's last rank.
   */
  readonly sourceOffsets: Int32Array;
}

/** A leg, and what is needed to go back on it. */
interface Passage extends Leg {
  group: Hop['group'];
  ranks: readonly number[];
  /** Which of the rows that come back make up each row before the leg. */
  sums: Sums;
  /** Where the row that goes to a place comes back [before], for rows that are sent once at most. */
  place: Int32Array;
}

/** What the exchange knows of a route. */
export class Route implements ExpertRoute {
  readonly counts: Int32Array;
  readonly offsets: Int32Array;
  readonly sourceOffsets: Int32Array;
  readonly rows: number;
  readonly copies: number;
  /** Where rows lie at its end. */
  readonly arrivals: Arrivals;
  /** Legs of tokens. */
  readonly items: readonly Passage[];
  /** Legs of choices. */
  readonly choices: readonly Passage[];

  /**
   * @param owner - the exchange it belongs to
   * @param tokens - T
   * @param hops - its legs
   * @param arrivals - its end
   */
  constructor(
    readonly owner: object,
    readonly tokens: number,
    hops: readonly Hop[],
    arrivals: Arrivals,
  ) {
    this.arrivals = arrivals;
    this.counts = arrivals.counts;
    this.offsets = arrivals.offsets;
    this.sourceOffsets = arrivals.sourceOffsets;
    this.rows = arrivals.itemOfRow.length;
    this.copies = arrivals.sums.count;
    const passage = (hop: Hop, leg: Leg): Passage => ({
      ...leg,
      group: hop.group,
      ranks: hop.ranks,
      sums: sumsOf(leg.before, leg.send),
      place: placesOf(leg.before, leg.send),
    });
    this.items = hops.map((hop) => passage(hop, hop.items));
    this.choices = hops.map((hop) => passage(hop, hop.choices));
  }
}

/**
 * Finds the way of a batch. Collective, and blocks.
 * @param owner - the exchange
 * @param indices - chosen experts [T, K], −1 where a choice is left out
 * @param k - K
 * @param rank - this rank
 * @param way - the legs' directions, and what {@link fanOut} takes
 * @param options - see {@link CallOptions}
 * @returns the way
 */
export function findRoute(
  owner: object,
  indices: Int32Array,
  k: number,
  rank: number,
  way: { directions: readonly Direction[]; places: Parameters<typeof fanOut>[2] },
  options: CallOptions,
): Route {
  const tokens = indices.length / k;
  let items: Items = {
    indices,
    choices: Int32Array.from(indices, (_, slot) => slot),
    choiceCount: indices.length,
    sources: new Int32Array(tokens).fill(rank),
  };
  const hops: Hop[] = [];
  for (const direction of way.directions) {
    const { hop, to } = takeHop(items, k, direction, options);
    hops.push(hop);
    items = to;
  }
  return new Route(owner, tokens, hops, fanOut(items, k, way.places));
}
