// What dispatch and combine put on the links, by rank: bytes sent and received within a node and between nodes, and bytes
// that processors read and write to do so.
//
// Three ways to send a token to its experts, by what gets a copy of its own:
// - `expert`: every chosen expert, straight from the token's rank. What low-latency kernels do: no counts are exchanged first.
// - `rank`: every rank that has a chosen expert, straight from the token's rank. Flat dispatch.
// - `node`: every node that has a chosen expert; the device of the same index there passes it on to the node's ranks over the
//   fast link (§3.2.2). Two-level dispatch. On one node it is the same as `rank`.
//
// A copy for the token's own rank crosses no link, one for its own node only the fast one. Combine is dispatch backwards: the
// same copies, of results, and where ways meet they are summed.
import { checkLength, refuse } from '../checks';
import { type DispatchLayout, placement } from '../layout';
import { ranksOf, type Topology } from './topology';

/** What gets a copy of its own of a token. */
export type Copies = 'expert' | 'rank' | 'node';

/** Bytes over one kind of link, by rank [R]. */
export interface LinkBytes {
  /** Sent by each rank. */
  sent: Float64Array;
  /** Received by each rank. */
  received: Float64Array;
}

/** Bytes of one dispatch or combine. */
export interface LinkTraffic {
  /** How copies were made. */
  copies: Copies;
  /** Over the fast link, within nodes. */
  within: LinkBytes;
  /** Over the slow link, between nodes. */
  between: LinkBytes;
  /** Bytes that each rank's processors read and write [R]. */
  processors: {
    /** Read from memory. */
    read: Float64Array;
    /** Written to memory, or over the fast link. */
    written: Float64Array;
  };
}

/** How tokens are sent. */
export interface TrafficOptions {
  /** What gets a copy of its own. */
  copies: Copies;
  /** Bytes of a copy: {@link tokenBytes}, and what is sent with it. */
  bytes: number;
  /** Rank of each expert [E], for copies an expert (default: as many neighbouring experts on every rank). */
  rankOfExpert?: Int32Array;
}

/**
 * Bytes of a token on a link.
 * @param hidden - its width
 * @param format - `fp8` as V3 dispatches (codes, and an FP32 scale for each 128 of them), or `bf16` as it combines
 * @returns bytes
 */
export function tokenBytes(hidden: number, format: 'fp8' | 'bf16'): number {
  return format === 'bf16' ? 2 * hidden : hidden + 4 * Math.ceil(hidden / 128);
}

/**
 * What dispatch puts on the links.
 * @param layouts - of every rank, from {@link dispatchLayout}
 * @param topology - what the ranks run on, one a device
 * @param options - see {@link TrafficOptions}
 * @returns bytes by rank
 * @throws ERR_BALEEN_COMM_SIZES where layouts are not those of the topology's ranks
 *
 * @example
 * ```ts
 * import { dispatchLayout, dispatchTraffic, topologyOf } from '@baleen/comm';
 * const topology = topologyOf('h800', { nodes: 2, devicesPerNode: 2 });
 * const sizes = { tokens: 1, expertsPerToken: 2, experts: 4, ranks: 4, ranksPerNode: 2 };
 * // Rank 0's token goes to ranks 2 and 3, the others' nowhere.
 * const layouts = [[2, 3], [-1, -1], [-1, -1], [-1, -1]].map((e) => dispatchLayout(Int32Array.from(e), sizes));
 * const sent = (copies: 'rank' | 'node') => {
 *   const { between, within } = dispatchTraffic(layouts, topology, { copies, bytes: 1 });
 *   return `${[...between.sent].join(' ')} | ${[...within.sent].join(' ')}`;
 * };
 * console.log(sent('rank')); // => 2 0 0 0 | 0 0 0 0
 * console.log(sent('node')); // => 1 0 0 0 | 0 0 1 0
 * ```
 */
export function dispatchTraffic(
  layouts: readonly DispatchLayout[],
  topology: Topology,
  options: TrafficOptions,
): LinkTraffic {
  const { within, between, moved } = move(layouts, topology, options);
  const { tokens, issued, passed, own } = moved;
  const far = topology.nodes > 1;
  const { copies, bytes } = options;
  return {
    copies,
    within,
    between,
    processors: {
      // Each token once, and once more where it is passed on.
      read: tokens.map((count, r) => bytes * (count + passed[r])),
      // Into the buffer that the network card reads, past it to the own node, and over the fast link.
      written: tokens.map((count, r) => bytes * ((far ? count : 0) + own[r] + issued[r])),
    },
  };
}

/**
 * What combine puts on the links: results go back the way that tokens came.
 * @param layouts - of every rank, those of the dispatch
 * @param topology - what the ranks run on
 * @param options - see {@link TrafficOptions}
 * @returns bytes by rank
 * @throws ERR_BALEEN_COMM_SIZES like {@link dispatchTraffic}
 */
export function combineTraffic(
  layouts: readonly DispatchLayout[],
  topology: Topology,
  options: TrafficOptions,
): LinkTraffic {
  const { within, between, moved } = move(layouts, topology, options);
  const { tokens, issued, passed, arrived, copied } = moved;
  const back = ({ sent, received }: LinkBytes): LinkBytes => ({ sent: received, received: sent });
  const { copies, bytes } = options;
  const summed = passed.some((count) => count > 0);
  return {
    copies,
    within: back(within),
    between: back(between),
    processors: {
      // Results where they are made, where a node's are summed, and where all of a token's are.
      read: arrived.map((count, r) => bytes * (count + (summed ? issued[r] : 0) + copied[r])),
      written: arrived.map((count, r) => bytes * (count + passed[r] + tokens[r])),
    },
  };
}

/** Copies by rank [R]: what processors move. */
interface Moved {
  /** Tokens of its own. */
  tokens: Float64Array;
  /** First copies of its tokens, to nodes or ranks, its own among them. */
  copied: Float64Array;
  /** Copies to its own node that it passes on itself. */
  own: Float64Array;
  /** Copies that it is given to pass on, its own among them. */
  passed: Float64Array;
  /** Copies that it gives to the ranks of its node, itself among them. */
  issued: Float64Array;
  /** Copies that end with it. */
  arrived: Float64Array;
}

function move(
  layouts: readonly DispatchLayout[],
  topology: Topology,
  options: TrafficOptions,
): { within: LinkBytes; between: LinkBytes; moved: Moved } {
  const { copies, bytes, rankOfExpert } = options;
  const { devicesPerNode: devices, nodes } = topology;
  const ranks = ranksOf(topology);
  const zeros = (): Float64Array => new Float64Array(ranks);
  const within = { sent: zeros(), received: zeros() };
  const between = { sent: zeros(), received: zeros() };
  const moved: Moved = {
    tokens: zeros(),
    copied: zeros(),
    own: zeros(),
    passed: zeros(),
    issued: zeros(),
    arrived: zeros(),
  };
  const nodeOf = (rank: number): number => Math.floor(rank / devices);
  const send = (from: number, to: number, count: number): void => {
    if (from === to) return;
    const link = nodeOf(from) === nodeOf(to) ? within : between;
    link.sent[from] += count * bytes;
    link.received[to] += count * bytes;
  };
  checkLayouts(layouts, topology, bytes);
  layouts.forEach((layout, rank) => {
    const { tokensPerNode, isTokenInRank } = layout;
    const toRanks =
      copies === 'expert' ? choicesPerRank(layout, ranks, rankOfExpert) : layout.tokensPerRank;
    moved.tokens[rank] = isTokenInRank.length / ranks;
    // The device of the same index on a node, which passes on what comes for its ranks.
    const passesOn = (node: number): number => node * devices + (rank % devices);
    const twoLevel = copies === 'node' && nodes > 1;
    for (let to = 0; to < ranks; to += 1) {
      const from = twoLevel ? passesOn(nodeOf(to)) : rank;
      send(from, to, toRanks[to]);
      moved.arrived[to] += toRanks[to];
      if (nodeOf(from) === nodeOf(to)) moved.issued[from] += toRanks[to];
      if (!twoLevel) moved.copied[rank] += toRanks[to];
    }
    if (!twoLevel) return;
    for (let node = 0; node < nodes; node += 1) {
      send(rank, passesOn(node), tokensPerNode[node]);
      moved.passed[passesOn(node)] += tokensPerNode[node];
      moved.copied[rank] += tokensPerNode[node];
    }
    moved.own[rank] = tokensPerNode[nodeOf(rank)];
  });
  return { within, between, moved };
}

/** Choices that fall on each rank's experts. */
function choicesPerRank(
  { tokensPerExpert }: DispatchLayout,
  ranks: number,
  rankOfExpert: Int32Array | undefined,
): Float64Array {
  const choices = new Float64Array(ranks);
  const rankOf = placement(tokensPerExpert.length, ranks, rankOfExpert);
  tokensPerExpert.forEach((count, expert) => {
    choices[rankOf(expert)] += count;
  });
  return choices;
}

function checkLayouts(layouts: readonly DispatchLayout[], topology: Topology, bytes: number): void {
  const ranks = ranksOf(topology);
  if (!(bytes > 0 && bytes < Infinity))
    refuse(
      'bytes',
      `bytes (${bytes}) is not a finite number above 0`,
      'say with tokenBytes what a copy has',
    );
  checkLength('layouts', layouts, { ranks });
  layouts.forEach(({ tokensPerRank, tokensPerNode }, rank) => {
    checkLength(`layouts[${rank}].tokensPerRank`, tokensPerRank, { ranks });
    checkLength(`layouts[${rank}].tokensPerNode`, tokensPerNode, { nodes: topology.nodes });
  });
}
