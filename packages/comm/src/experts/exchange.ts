// Dispatch and combine: tokens to their experts and results back (§3.2.2).
//
// A token goes to a rank once, however many of its experts are there, and is fanned out on arrival; results of one rank are
// summed before they go back. Over two levels, a token goes to a node once and is passed on there, and sums are made where
// ways meet. Each is the other's gradient: that of dispatch is combine, that of combine is dispatch.
//
// Legend: T tokens of this rank, K experts a token, E experts, L of them on this rank, R ranks.
import { type Kernels, loadKernels, viewOf } from '@baleen/kernels';

import type { CommArray } from '../arrays';
import { checkLength, refuse } from '../checks';
import type { CallOptions, Communicator, Handle } from '../communicator';
import { endedHandle } from '../handles';
import { checkChosen } from '../layout';
import { directionsOf } from './directions';
import type { Direction } from './hop';
import { type ExchangeHandle, Progress } from './progress';
import { type ExpertRoute, findRoute, Route } from './route';
import {
  type CombineOptions,
  type DispatchOptions,
  type ExpertRows,
  type ExpertTraffic,
  partsOf,
  type RowsPer,
  type ScaledRows,
} from './rows';
import { checkSpec, type ExpertExchangeSpec } from './spec';
import { Staging } from './staging';
import { gatherRows, placesOf, sumRows } from './sums';

/** Dispatch and combine, that block or do not. */
export interface ExpertCalls {
  /** See {@link ExpertExchange.dispatch}. */
  dispatch<T extends ExpertRows | ScaledRows>(
    x: T,
    route: ExpertRoute,
    options?: DispatchOptions<T>,
  ): ExchangeHandle<T>;
  /** See {@link ExpertExchange.combine}. */
  combine(
    y: Float32Array,
    route: ExpertRoute,
    options?: CombineOptions,
  ): ExchangeHandle<Float32Array>;
}

type Call = (group: Communicator, args: Parameters<Communicator['allToAll']>) => Handle;

const blocking: Call = (group, args) => {
  group.allToAll(...args);
  return endedHandle;
};
const beginning: Call = (group, args) => group.start.allToAll(...args);

/**
 * One rank's end of an expert exchange. Making it, `route`, `dispatch` and `combine` are collective: every rank makes the same
 * calls in the same order, and of exchanges under way waits in the order in which it began them.
 *
 * @example
 * ```ts
 * import { ExpertExchange, self } from '@baleen/comm';
 * const exchange = new ExpertExchange(self(), { experts: 2, expertsPerToken: 2, hidden: 1 });
 * const route = exchange.route(Int32Array.of(1, 0, 1, -1)); // two tokens
 * const rows = exchange.dispatch(Float32Array.of(5, 6), route);
 * console.log(rows.join(' '), '|', route.offsets.join(' ')); // => 5 5 6 | 0 1 3
 * console.log(exchange.combine(rows, route).join(' ')); // => 10 6
 * ```
 */
export class ExpertExchange {
  /** This rank's experts, ascending [L]. */
  readonly localExperts: Int32Array;
  /** What this rank's rows came to so far. */
  readonly traffic: ExpertTraffic = {
    within: { sent: 0, received: 0 },
    between: { sent: 0, received: 0 },
  };
  /** The same calls without waiting. They progress beside whatever JavaScript does, from one leg to the next when waited for. */
  readonly start: ExpertCalls;
  private readonly kernels: Kernels;
  private readonly staging = new Staging();
  private readonly directions: readonly Direction[];
  private readonly places: Parameters<typeof findRoute>[4]['places'];
  private readonly devicesPerNode: number;

  /**
   * @param communicator - the ranks
   * @param spec - see {@link ExpertExchangeSpec}
   * @param options - `kernels` (default: `loadKernels()`)
   * @throws ERR_BALEEN_COMM_SIZES where the spec cannot be, ERR_BALEEN_COMM_MISMATCH where ranks have different ones
   */
  constructor(
    /** The ranks. */
    readonly communicator: Communicator,
    /** What it is made of. */
    readonly spec: ExpertExchangeSpec,
    options: { kernels?: Kernels } = {},
  ) {
    this.kernels = options.kernels ?? loadKernels();
    const { devicesPerNode, alignment, rankOf } = checkSpec(communicator, spec);
    const { rank, size } = communicator;
    this.devicesPerNode = devicesPerNode;
    const local: number[] = [];
    rankOf.forEach((of, expert) => {
      if (of === rank) local.push(expert);
    });
    this.localExperts = Int32Array.from(local);
    this.places = {
      localOf: placesOf(spec.experts, this.localExperts),
      experts: local.length,
      ranks: size,
      alignment,
    };
    this.directions = directionsOf(communicator, devicesPerNode, rankOf);
    this.start = {
      dispatch: (x, route, given) => this.dispatching(beginning, x, route, given),
      combine: (y, route, given) => this.combining(beginning, y, route, given),
    };
  }

  /**
   * Finds the way of a batch: who sends what to whom. Collective, and blocks.
   * @param indices - chosen experts [T, K], −1 where a choice is left out; T may differ between ranks
   * @param options - see {@link CallOptions}
   * @returns the way, for any number of dispatches and combines
   * @throws ERR_BALEEN_COMM_SIZES where indices are not of this exchange, and what communicators throw
   */
  route(indices: Int32Array, options: CallOptions = {}): ExpertRoute {
    const { directions, places, spec } = this;
    const k = spec.expertsPerToken;
    checkChosen(indices, { ...spec, tokens: Math.floor(indices.length / k) });
    const way = { directions, places };
    return findRoute(this, indices, k, this.communicator.rank, way, options);
  }

  /**
   * Sends rows to the experts that tokens chose.
   * @param x - [T, cols], bit for bit; FP8 travels as codes and scales
   * @param route - from {@link ExpertExchange.route}
   * @param options - see {@link DispatchOptions}
   * @returns rows of this rank's experts [route.rows, cols]: by expert, then by the rank they are from, then by their place
   *   there; zeros in padding
   * @throws ERR_BALEEN_COMM_SIZES where lengths do not agree, and what communicators throw
   */
  dispatch<T extends ExpertRows | ScaledRows>(
    x: T,
    route: ExpertRoute,
    options?: DispatchOptions<T>,
  ): T {
    return this.dispatching(blocking, x, route, options).wait();
  }

  /**
   * Sends results back and sums them a token: in FP32, those of one rank first, by expert, then from rank to rank ascending.
   * Over two levels those of a node come between.
   * @param y - rows of this rank's experts [route.rows, cols]; padding is not read
   * @param route - that they came by
   * @param options - see {@link CombineOptions}
   * @returns [T, cols], zeros for a token without experts
   * @throws ERR_BALEEN_COMM_SIZES where lengths do not agree, and what communicators throw
   */
  combine(y: Float32Array, route: ExpertRoute, options?: CombineOptions): Float32Array {
    return this.combining(blocking, y, route, options).wait();
  }

  private dispatching<T extends ExpertRows | ScaledRows>(
    call: Call,
    x: T,
    route: ExpertRoute,
    options: DispatchOptions<T> = {},
  ): ExchangeHandle<T> {
    const { per = 'token', cols = this.spec.hidden, out } = options;
    const way = this.own(route);
    const parts = partsOf(x, cols);
    const results = out && partsOf(out, cols);
    const inner = parts.map(([name, array, width], p) => {
      checkLength(name, array, rowsOf(way, per, this.spec, width));
      const result = results?.[p][1] ?? like(array, way.rows * width);
      checkLength(`out${name.slice(1)}`, result, { 'route.rows': way.rows, cols: width });
      return { array, width, result };
    });
    return new Progress(this.there(call, inner, way, per, callOptions(options), x));
  }

  private combining(
    call: Call,
    y: Float32Array,
    route: ExpertRoute,
    options: CombineOptions = {},
  ): ExchangeHandle<Float32Array> {
    const { per = 'token', transport = 'bf16', cols = this.spec.hidden } = options;
    const { weights, out: given } = options;
    const way = this.own(route);
    checkLength('y', y, { 'route.rows': way.rows, cols });
    if (weights) {
      checkLength('weights', weights, { 'route.rows': way.rows });
      if (per === 'choice')
        refuse(
          'weights',
          'weights are given, and choices are not summed',
          'leave weights out, and weigh what comes back',
        );
    }
    const shape = rowsOf(way, per, this.spec, cols);
    const out = given ?? new Float32Array(Object.values(shape).reduce((a, b) => a * b));
    checkLength('out', out, shape);
    const back = { y, out, cols, weights, bf16: transport === 'bf16' };
    return new Progress(this.back(call, back, way, per, callOptions(options)));
  }

  /** Leg by leg to the experts. */
  private *there<T>(
    call: Call,
    parts: readonly { array: ExpertRows; width: number; result: ExpertRows }[],
    route: Route,
    per: RowsPer,
    options: CallOptions,
    x: T,
  ): Generator<Handle, T, void> {
    const { kernels, staging } = this;
    let here = parts.map(({ array }) => array);
    let taken: CommArray[] = [];
    for (const leg of per === 'token' ? route.items : route.choices) {
      const sent = parts.map(({ array, width }, p) => {
        const rows = staging.take(array, leg.send.length * width);
        gatherRows(kernels, rows, here[p], leg.send, width);
        return rows;
      });
      staging.give(taken);
      const landed = parts.map(({ array, width }) => staging.take(array, leg.after * width));
      taken = landed;
      const calls = parts.map(({ width }, p) => {
        this.count(leg, leg.sendCounts, leg.recvCounts, width * sent[p].BYTES_PER_ELEMENT);
        return call(leg.group, [landed[p], sent[p], elementCounts(leg, width, options)]);
      });
      for (const handle of calls) yield handle;
      staging.give(sent);
      here = landed;
    }
    const { itemOfRow, choiceOfRow } = route.arrivals;
    parts.forEach(({ width, result }, p) => {
      gatherRows(kernels, result, here[p], per === 'token' ? itemOfRow : choiceOfRow, width);
    });
    staging.give(taken);
    const [codes, scales] = parts.map(({ result }) => result);
    return ('codes' in (x as object) ? { codes, scales } : codes) as T;
  }

  /** Leg by leg back. */
  private *back(
    call: Call,
    given: {
      y: Float32Array;
      out: Float32Array;
      cols: number;
      weights: Float32Array | undefined;
      bf16: boolean;
    },
    route: Route,
    per: RowsPer,
    options: CallOptions,
  ): Generator<Handle, Float32Array, void> {
    const { kernels, staging } = this;
    const { y, out, cols, weights, bf16 } = given;
    const { sums, rowOfChoice } = route.arrivals;
    const legs = per === 'token' ? route.items : route.choices;
    let here = staging.take(out, (legs.at(-1)?.after ?? 0) * cols);
    if (per === 'token') sumRows(kernels, here, y, sums, cols, weights);
    else gatherRows(kernels, here, y, rowOfChoice, cols);
    for (const leg of [...legs].reverse()) {
      const rows = leg.send.length * cols;
      const sent = bf16 ? staging.take(new Uint16Array(0), here.length) : here;
      if (bf16) kernels.cast(viewOf(sent), viewOf(here));
      const landed = staging.take<Float32Array | Uint16Array>(sent, rows);
      this.count(leg, leg.recvCounts, leg.sendCounts, cols * sent.BYTES_PER_ELEMENT);
      const { sendCounts: recvCounts, recvCounts: sendCounts } = elementCounts(leg, cols, options);
      yield call(leg.group, [landed, sent, { ...options, sendCounts, recvCounts }]);
      const values = bf16 ? staging.take(here, rows) : (landed as Float32Array);
      if (bf16) kernels.cast(viewOf(values), viewOf(landed));
      const result = leg === legs[0] ? out : staging.take(here, leg.before * cols);
      if (per === 'token') sumRows(kernels, result, values, leg.sums, cols);
      else gatherRows(kernels, result, values, leg.place, cols);
      staging.give(bf16 ? [here, sent, landed, values] : [here, landed]);
      here = result;
    }
    return out;
  }

  private own(route: ExpertRoute): Route {
    if (route instanceof Route && route.owner === this) return route;
    return refuse('route', 'the route is of another exchange', 'give what `route` returned here');
  }

  private count(
    { ranks }: { ranks: readonly number[] },
    sendCounts: Int32Array,
    recvCounts: Int32Array,
    bytes: number,
  ): void {
    const nodeOf = (rank: number): number => Math.floor(rank / this.devicesPerNode);
    const own = this.communicator.rank;
    ranks.forEach((rank, place) => {
      if (rank === own) return;
      const level = this.traffic[nodeOf(rank) === nodeOf(own) ? 'within' : 'between'];
      level.sent += sendCounts[place] * bytes;
      level.received += recvCounts[place] * bytes;
    });
  }
}

function callOptions({ deadlineMs, signal, delayMs }: CallOptions): CallOptions {
  return {
    ...(deadlineMs !== undefined && { deadlineMs }),
    ...(delayMs !== undefined && { delayMs }),
    ...(signal && { signal }),
  };
}

/** Counts of a leg, of rows, in elements. */
function elementCounts(
  { sendCounts, recvCounts }: { sendCounts: Int32Array; recvCounts: Int32Array },
  width: number,
  options: CallOptions,
): CallOptions & { sendCounts: Float64Array; recvCounts: Float64Array } {
  // Elements of large payloads do not fit 32 bits.
  const times = (counts: Int32Array): Float64Array => Float64Array.from(counts, (n) => n * width);
  return { ...options, sendCounts: times(sendCounts), recvCounts: times(recvCounts) };
}

function rowsOf(
  { tokens }: Route,
  per: RowsPer,
  { expertsPerToken }: ExpertExchangeSpec,
  cols: number,
): Record<string, number> {
  return per === 'token' ? { tokens, cols } : { tokens, expertsPerToken, cols };
}

function like<T extends ExpertRows>(array: T, length: number): T {
  return new (array.constructor as new (length: number) => T)(length);
}
