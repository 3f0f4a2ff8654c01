// DeepEP's published figures, the sizes they were measured with, and the same predicted: what the cost model is tested with.
import { randomFrom } from '../../../test/support';
import {
  type Bottleneck,
  type Copies,
  combineTraffic,
  type DispatchLayout,
  dispatchLayout,
  dispatchTraffic,
  type KernelRates,
  type LinkTraffic,
  type MachineName,
  predictTime,
  ranksOf,
  type Topology,
  tokenBytes,
  topologyOf,
} from '../src/index';

/** A row of a table: dispatch in FP8 and combine in BF16, with 256 experts, top-8 and a width of 7168. */
export interface Figure {
  /** Which table. */
  table: 'normal' | 'low latency' | 'second version';
  machine: MachineName;
  nodes: number;
  /** SMs that communicate. */
  processors: number;
  /** A latency in µs, or a bandwidth in GB/s of the link that it names. */
  unit: 'us' | 'within' | 'between';
  dispatch: number;
  combine: number;
}

const v1 = { machine: 'h800', processors: 24 } as const;
/** Low-latency kernels take what there is. */
const all = { machine: 'h800', processors: 132 } as const;
const figure = (
  table: Figure['table'],
  common: Pick<Figure, 'machine' | 'processors'>,
  nodes: number,
  unit: Figure['unit'],
  dispatch: number,
  combine: number,
): Figure => ({ table, ...common, nodes, unit, dispatch, combine });

/**
 * The tables of docs/legacy.md and README.md at commit dd758ca. The first version's kernels ran on H800, with 24 SMs
 * (tests/legacy). The second version's table says «SM90» and how many SMs; with two nodes its kernels put more on NVLink than
 * an H800 has, and its own count of SMs fits an H100 or H200.
 */
export const figures: readonly Figure[] = [
  figure('normal', v1, 1, 'within', 153, 158),
  figure('normal', v1, 2, 'between', 43, 43),
  figure('normal', v1, 4, 'between', 58, 57),
  figure('normal', v1, 8, 'between', 51, 50),
  figure('low latency', all, 1, 'us', 77, 114),
  figure('low latency', all, 2, 'us', 118, 195),
  figure('low latency', all, 4, 'us', 155, 273),
  figure('low latency', all, 8, 'us', 173, 314),
  figure('low latency', all, 16, 'us', 192, 369),
  figure('low latency', all, 32, 'us', 194, 360),
  figure('second version', { machine: 'h100', processors: 12 }, 2, 'between', 90, 81),
  figure('second version', { machine: 'h100', processors: 6 }, 4, 'between', 61, 61),
  figure('second version', { machine: 'b200', processors: 12 }, 2, 'between', 90, 91),
  figure('second version', { machine: 'b200', processors: 64 }, 1, 'within', 726, 740),
  figure('second version', { machine: 'b200', processors: 24 }, 1, 'within', 643, 675),
];

const [experts, expertsPerToken, hidden] = [256, 8, 7168];
const tokensOf = { normal: 4096, 'low latency': 128, 'second version': 8192 } as const;

/** Routings that a prediction is the mean of: with 128 tokens, which rank is busiest by how much is chance. */
const routings = { normal: 1, 'low latency': 4, 'second version': 1 } as const;

/** A direction of a figure. */
export type Way = 'dispatch' | 'combine';

/** An exchange as it was measured. */
export interface Exchange {
  topology: Topology;
  /** Of one routing or several. */
  traffics: LinkTraffic[];
  /** Bytes that DeepEP divides by the time: what a rank gets or sends, its own copies among them, mean over ranks. */
  counted: number;
}

/**
 * Routes tokens as DeepEP's tests do, and lays them out.
 * @param row - a figure
 * @param way - dispatch or combine
 * @returns what was measured
 */
export function exchangeOf(row: Figure, way: Way): Exchange {
  const topology = topologyOf(row.machine, {
    nodes: row.nodes,
    processors: { communication: row.processors },
  });
  const lowLatency = row.table === 'low latency';
  const copies: Copies = lowLatency ? 'expert' : 'node';
  // Low-latency messages of dispatch begin with 16 bytes.
  const bytes =
    way === 'combine'
      ? tokenBytes(hidden, 'bf16')
      : tokenBytes(hidden, 'fp8') + (lowLatency ? 16 : 0);
  const routed = layoutsOf(row, topology);
  const trafficOf = way === 'dispatch' ? dispatchTraffic : combineTraffic;
  const count = row.unit === 'within' ? 'tokensPerRank' : 'tokensPerNode';
  const counted = routed[0].reduce(
    (sum, layout) => sum + layout[count].reduce((of, tokens) => of + tokens, 0),
    0,
  );
  return {
    topology,
    traffics: routed.map((layouts) => trafficOf(layouts, topology, { copies, bytes })),
    counted: (counted * bytes) / routed[0].length,
  };
}

/** Layouts that other rows have as well. */
const known = new Map<string, DispatchLayout[][]>();

/** Layouts of all ranks, one list a routing. */
function layoutsOf(row: Figure, topology: Topology): DispatchLayout[][] {
  const key = `${row.table} ${row.nodes}`;
  const layouts =
    known.get(key) ??
    Array.from({ length: routings[row.table] }, (_, n) => route(row, topology, n));
  known.set(key, layouts);
  return layouts;
}

function route(row: Figure, topology: Topology, n: number): DispatchLayout[] {
  const { nodes, devicesPerNode } = topology;
  const tokens = tokensOf[row.table];
  const ranks = ranksOf(topology);
  const isTokenInRank = new Uint8Array(tokens * ranks);
  const random = randomFrom(100 * nodes + n);
  // The first version's tests keep the four nodes with the best expert; the others choose freely.
  const limit = row.table === 'normal' ? Math.min(nodes, 4) : nodes;
  return Array.from({ length: ranks }, () => {
    const indices = choose(tokens, { nodes, limit }, random);
    // Ten choices of a low-latency test are left out.
    if (row.table === 'low latency')
      for (let i = 0; i < 10; i += 1) indices[Math.floor(random() * indices.length)] = -1;
    const out = {
      tokensPerRank: new Int32Array(ranks),
      tokensPerNode: new Int32Array(nodes),
      tokensPerExpert: new Int32Array(experts),
      // One array serves all ranks: only the counts are needed afterwards.
      isTokenInRank,
    };
    const sizes = { tokens, expertsPerToken, experts, ranks, ranksPerNode: devicesPerNode };
    return dispatchLayout(indices, sizes, { out });
  });
}

/**
 * The best eight experts by random scores. Drawing experts one by one is drawing them by descending score, so the nodes with
 * the best experts are those drawn first.
 */
function choose(
  tokens: number,
  { nodes, limit }: { nodes: number; limit: number },
  random: () => number,
): Int32Array {
  const indices = new Int32Array(tokens * expertsPerToken);
  // The token that last chose an expert, or kept a node.
  const chosenBy = new Int32Array(experts).fill(-1);
  const keptBy = new Int32Array(nodes).fill(-1);
  for (let t = 0; t < tokens; t += 1) {
    let [kept, slot] = [0, t * expertsPerToken];
    while (slot < (t + 1) * expertsPerToken) {
      const expert = Math.floor(random() * experts);
      const node = Math.floor((expert * nodes) / experts);
      const isNew = keptBy[node] !== t;
      if (chosenBy[expert] === t || (isNew && kept === limit)) continue;
      if (isNew) kept += 1;
      keptBy[node] = t;
      chosenBy[expert] = t;
      indices[slot++] = expert;
    }
  }
  return indices;
}

/**
 * Predicts a figure.
 * @param row - the figure
 * @param exchange - what was measured
 * @param rates - what kernels make of the links
 * @returns the prediction in the figure's unit, and its bottleneck
 */
export function predicted(
  { unit }: Figure,
  { topology, traffics, counted }: Exchange,
  rates: KernelRates,
): { value: number; bottleneck: Bottleneck } {
  const predictions = traffics.map((traffic) => predictTime(traffic, topology, { rates }));
  const us = predictions.reduce((sum, each) => sum + each.us, 0) / predictions.length;
  return {
    value: unit === 'us' ? us : counted / us / 1000,
    bottleneck: predictions[0].bottleneck,
  };
}

/**
 * Mean over routings of the busiest link's bytes.
 * @param exchange - what was measured
 * @param link - which kind of link
 * @returns bytes
 */
export function busiestBytes({ traffics }: Exchange, link: 'within' | 'between'): number {
  const most = traffics.map((traffic) =>
    Math.max(...traffic[link].sent, ...traffic[link].received),
  );
  return most.reduce((sum, bytes) => sum + bytes, 0) / most.length;
}
