// How long dispatch and combine take: overhead, latency, and bytes over bandwidth of whatever is busiest: a link of the
// fast kind, one of the slow kind, or the processors that move the bytes. Everything goes on at once, so the busiest
// decides; only a two-level exchange that does not forward while it receives waits for one link after the other.
import { refuse } from '../checks';
import { fittedRates, type KernelRates } from './rates';
import type { Topology } from './topology';
import type { LinkBytes, LinkTraffic } from './traffic';

/** What decides how long an exchange takes. */
export type Bottleneck = 'within' | 'between' | 'processors';

/** The time of one dispatch or combine, in µs. */
export interface Prediction {
  /** All of it. */
  us: number;
  /** Overhead of the call and latency of the links that it uses. */
  latencyUs: number;
  /** The busiest link within a node: the larger of what a rank sends and receives, over bandwidth. */
  withinUs: number;
  /** The busiest link between nodes. */
  betweenUs: number;
  /** The busiest rank's communicating processors. */
  processorsUs: number;
  /** The longest of the three. */
  bottleneck: Bottleneck;
}

/** How to predict. */
export interface PredictionOptions {
  /** What kernels make of the links (default {@link fittedRates}). */
  rates?: KernelRates;
  /** Whether a two-level exchange forwards while it receives, as V3's kernels do (default), or when all is there. */
  forwarding?: 'overlapped' | 'inTurn';
}

/**
 * Predicts how long an exchange takes.
 * @param traffic - from `dispatchTraffic` or `combineTraffic`
 * @param topology - the same
 * @param options - see {@link PredictionOptions}
 * @returns the time and what it is made of
 * @throws ERR_BALEEN_COMM_SIZES for rates that cannot be
 *
 * @example
 * ```ts
 * import { dispatchLayout, dispatchTraffic, predictTime, publishedRates, tokenBytes, topologyOf } from '@baleen/comm';
 * const topology = topologyOf('h800', { nodes: 2, devicesPerNode: 1 });
 * const sizes = { tokens: 1000, expertsPerToken: 1, experts: 2, ranks: 2, ranksPerNode: 1 };
 * // Every token goes to the other node.
 * const layouts = [1, 0].map((expert) => dispatchLayout(new Int32Array(1000).fill(expert), sizes));
 * const traffic = dispatchTraffic(layouts, topology, { copies: 'rank', bytes: tokenBytes(7168, 'fp8') });
 * const { us, bottleneck } = predictTime(traffic, topology, { rates: publishedRates });
 * console.log(us.toFixed(1), bottleneck); // => 151.5 between
 * ```
 */
export function predictTime(
  traffic: LinkTraffic,
  topology: Topology,
  options: PredictionOptions = {},
): Prediction {
  const { rates = fittedRates, forwarding = 'overlapped' } = options;
  checkRates(rates);
  const { within, between } = topology;
  const withinUs = usOf(busiest(traffic.within), within.gbps * rates.within);
  const betweenUs = usOf(busiest(traffic.between), between.gbps * rates.between);
  const processorsUs = processorTime(traffic, topology);
  const twoLevel = traffic.copies === 'node';
  const latencies = [withinUs > 0 ? within.latencyUs : 0, betweenUs > 0 ? between.latencyUs : 0];
  const latencyUs =
    rates.overheadUs + (twoLevel ? latencies[0] + latencies[1] : Math.max(...latencies));
  const links =
    twoLevel && forwarding === 'inTurn' ? withinUs + betweenUs : Math.max(withinUs, betweenUs);
  let bottleneck: Bottleneck = withinUs > betweenUs ? 'within' : 'between';
  if (processorsUs > links) bottleneck = 'processors';
  const us = latencyUs + Math.max(links, processorsUs);
  return { us, latencyUs, withinUs, betweenUs, processorsUs, bottleneck };
}

/**
 * How many processors an exchange needs so that its links decide how long it takes, and not they.
 * @param traffic - from `dispatchTraffic` or `combineTraffic`
 * @param topology - the same
 * @param rates - what kernels make of the links (default {@link fittedRates})
 * @returns a number that is not rounded; 0 where nothing crosses a link
 * @throws ERR_BALEEN_COMM_SIZES for rates that cannot be
 */
export function processorsToFill(
  traffic: LinkTraffic,
  topology: Topology,
  rates: KernelRates = fittedRates,
): number {
  const { withinUs, betweenUs, processorsUs } = predictTime(traffic, topology, { rates });
  const links = Math.max(withinUs, betweenUs);
  return links === 0 ? 0 : (topology.processors.communication * processorsUs) / links;
}

function busiest({ sent, received }: LinkBytes): number {
  return Math.max(most(sent), most(received));
}

function most(bytes: Float64Array): number {
  return bytes.reduce((top, value) => Math.max(top, value), 0);
}

/** Bytes over GB/s, in µs. */
function usOf(bytes: number, gbps: number): number {
  return bytes / gbps / 1000;
}

function processorTime({ processors: moved }: LinkTraffic, { processors }: Topology): number {
  const { communication, readGbps, writeGbps } = processors;
  return Math.max(
    usOf(most(moved.read), communication * readGbps),
    usOf(most(moved.written), communication * writeGbps),
  );
}

function checkRates({ within, between, overheadUs }: KernelRates): void {
  for (const [name, share] of Object.entries({ within, between }))
    if (!(share > 0 && share <= 1))
      refuse(
        `rates.${name}`,
        `rates.${name} (${share}) is not a share above 0, up to 1`,
        'give the part of the bandwidth that kernels reach',
      );
  if (!(overheadUs >= 0 && overheadUs < Infinity))
    refuse(
      'rates.overheadUs',
      `rates.overheadUs (${overheadUs}) is not a finite number from 0`,
      'give µs',
    );
}
