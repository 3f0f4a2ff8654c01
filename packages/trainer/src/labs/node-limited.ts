// The lab `node-limited`: what limiting a token to M of its nodes, and sending one copy a node that is passed on inside, take
// off the slow link (§2.1.2, §3.2.2; arXiv 2505.09343, §4.3), with V3's shapes on 64 ranks and beyond.
//
// Tokens are routed by the project's own gate: σ of normal logits on seeds, groups of experts kept by their K / M best (2 in
// V3). The layout pass and the cost model of `@baleen/comm` say what crosses which link and how long the busiest of each kind
// takes, with published bandwidths alone: 160 GB/s within a node, 50 between (§3.2.2). Nothing is sent. Logits that are drawn
// have no favourites: a real router's loads are less even.
//
// The claims are the reports':
// - 8 experts on 8 nodes take 8t between nodes, one copy each for M nodes takes Mt: half, for M = 4. It is judged against a
//   copy an expert without a limit, which is what 8t counts; a copy a rank stands beside it.
// - A token is sent to at most 4 nodes.
// - 3.2 experts a node, which is 160 / 50, cost nothing more: with 13 experts a token NVLink is not busier than InfiniBand.
//   Beside the published 3.2 stands how many experts a node it takes until it is.
// - Up to 13 experts a token, 4 · 3.2, cost as much as 8. As much is within 5 %, which is what `dualpipe-overlap` allows a time.
//
// What was known before: with another rule (the best expert of a group decides) and evenly spread scores, 64 ranks had 3.98
// nodes and 7.48 ranks a token, counted for the cost model's tests; and by the formula for drawing without replacement 13
// experts on 4 nodes are on 11.3 ranks, 0.88 of what 3.2 ranks a node would be.
import {
  type Copies,
  dispatchTraffic,
  fittedRates,
  type KernelRates,
  type LinkTraffic,
  type Prediction,
  predictTime,
  publishedRates,
  tokenBytes,
} from '@baleen/comm';

import { mean } from '../step';
import { ratios } from './balance';
import type { Lab, LabContext, LabRow } from './lab';
import { type GateArm, type RoutedArm, ranksOfArm, routeArms } from './routed-arms';
import { summarizeRatios } from './statistics';
import { labFigure } from './verdict';

/** Settings. */
export type NodeLimitedSettings = Readonly<{
  /** Seeds. */
  seeds: number;
  /** Tokens of a rank. */
  tokens: number;
  /** Experts of the layer. */
  experts: number;
  /** Width of a token. */
  hidden: number;
  /** V3's gate on as many nodes as it has groups. */
  v3: GateArm;
  /** Groups that a token keeps where there is no limit. */
  free: number;
  /** Experts a token that are said to cost as much as V3's. */
  more: number;
  /** Experts a token, ascending, to find how many it takes until NVLink is the busier link. */
  sweep: readonly number[];
  /** V3's gate as it is on more nodes than it has groups; no part of the verdicts, like the next. */
  wide: GateArm;
  /** Other arms. */
  beside: readonly GateArm[];
}>;

const arm = (nodes: number, groups: number, limit: number): GateArm => ({
  nodes,
  groups,
  limit,
  expertsPerToken: 8,
});

const shapes = {
  experts: 256,
  hidden: 7168,
  v3: arm(8, 8, 4),
  free: 8,
  more: 13,
  sweep: [8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 24],
  wide: arm(16, 8, 4),
  beside: [arm(4, 4, 4), arm(16, 16, 16), arm(16, 16, 4), arm(32, 32, 32), arm(32, 32, 4)],
} as const satisfies Partial<NodeLimitedSettings>;

/** Node-limited routing and two-level dispatch. */
export const nodeLimited: Lab<NodeLimitedSettings> = {
  name: 'node-limited',
  claim:
    'at most 4 of 8 nodes a token and one copy a node halve the bytes between nodes that a copy an expert takes',
  source: 'arXiv 2412.19437, §2.1.2 and §3.2.2; arXiv 2505.09343, §4.3',
  published: 0.5,
  quantity: { name: 'bytes between nodes with both, of those with neither', unit: 'percent' },
  effect: { name: 'mean of bytes with both / with neither', unit: 'percent' },
  inequality: { below: 0.5 },
  further: [
    {
      claim: 'a token is sent to at most 4 nodes',
      published: 4,
      quantity: { name: 'nodes of the token with most of them', unit: 'number' },
      effect: { name: 'nodes of the token with most of them', unit: 'number' },
      inequality: { below: 5 },
    },
    {
      claim: '3.2 experts a node cost nothing more: NVLink is not busier than InfiniBand',
      published: 3.2,
      quantity: { name: 'experts a node up to which it is not', unit: 'number' },
      effect: { name: 'NVLink’s time / InfiniBand’s, 13 experts on 4 nodes', unit: 'ratio' },
      inequality: { below: 1 },
    },
    {
      claim: '13 experts a token cost as much as 8',
      published: 1,
      quantity: { name: 'time of a dispatch to 13 / to 8', unit: 'ratio' },
      effect: { name: 'time of a dispatch to 13 / to 8', unit: 'ratio' },
      inequality: { below: 1.05 },
    },
  ],
  settings: {
    quick: { seeds: 4, tokens: 1024, ...shapes },
    full: { seeds: 8, tokens: 4096, ...shapes },
  },
  estimate: async (settings, { kernels, seed }) => {
    // The first rank is one of every arm's.
    const { arms } = armsOf(settings);
    const begin = performance.now();
    await routeArms(arms, settings, seed, { kernels, ranks: 1 });
    const each = (performance.now() - begin) / 1000;
    return each * Math.max(...arms.map(ranksOfArm)) * settings.seeds;
  },
  async run(settings, context) {
    const seeds = await routeSeeds(settings, context);
    const { v3, free, more, swept, arms } = armsOf(settings);
    const of = (wanted: GateArm): RoutedArm[] => seeds.map((all) => all[arms.indexOf(wanted)]);
    const { hidden, wide, beside } = settings;
    const bytes = (wanted: GateArm, copies: Copies): number[] =>
      of(wanted).map((routed) => bytesBetween(routed, copies, hidden));
    /** Bytes over those of a copy an expert without a limit. */
    const shares = (wanted: GateArm, copies: Copies): number[] =>
      ratios(bytes(wanted, copies), bytes(free, 'expert'));
    for (const one of [v3, free, ...beside, wide])
      for (const copies of ['expert', 'rank', 'node'] as const)
        context.row(rowOf(of(one), copies, hidden));
    for (const one of swept) if (one !== v3) context.row(rowOf(of(one), 'node', hidden));
    const times = (wanted: GateArm): number[] =>
      of(wanted).map((routed) => timeOf(routed, hidden).us);
    const busierWith = (rates: KernelRates): number[] =>
      of(more).map((routed) => busier(timeOf(routed, hidden, rates)));
    return {
      effect: { pairs: shares(v3, 'node') },
      further: [
        { effect: { exact: mostNodes(of(v3)), n: seeds.length } },
        {
          effect: { pairs: busierWith(publishedRates) },
          measured: mean(expertsANode(swept.map(of), hidden)),
        },
        { effect: { pairs: ratios(times(more), times(v3)) } },
      ],
      notes: [
        sharesNote((limited, copies) => mean(shares(limited ? v3 : free, copies))),
        wideNote(wide, of(wide)),
        `with the rates fitted to DeepEP’s figures NVLink is ${labFigure(summarizeRatios(busierWith(fittedRates)).mean, 'ratio')} as busy as InfiniBand at ${settings.more} experts`,
      ],
    };
  },
};

function sharesNote(share: (limited: boolean, copies: Copies) => number): string {
  const percent = (limited: boolean, copies: Copies): string =>
    labFigure(share(limited, copies), 'percent');
  return (
    `of a copy an expert: a copy a rank ${percent(false, 'rank')}, with the limit ${percent(true, 'rank')}; ` +
    `a copy a node ${percent(false, 'node')}, with the limit ${percent(true, 'node')}`
  );
}

function wideNote({ groups, nodes }: GateArm, seeds: readonly RoutedArm[]): string {
  const average = mean(seeds.map(({ nodesPerToken }) => nodesPerToken)).toFixed(2);
  return `${groups} groups on ${nodes} nodes: a token is sent to ${average} nodes, and up to ${mostNodes(seeds)}`;
}

/** All arms, each of them once. */
function armsOf({ v3, free, more, sweep, wide, beside }: NodeLimitedSettings): {
  v3: GateArm;
  free: GateArm;
  more: GateArm;
  swept: GateArm[];
  arms: GateArm[];
} {
  const unlimited = { ...v3, limit: free };
  const swept = sweep.map((expertsPerToken) =>
    expertsPerToken === v3.expertsPerToken ? v3 : { ...v3, expertsPerToken },
  );
  const found = swept.find(({ expertsPerToken }) => expertsPerToken === more);
  const many = found ?? { ...v3, expertsPerToken: more };
  return {
    v3,
    free: unlimited,
    more: many,
    swept,
    arms: [...new Set([v3, unlimited, many, ...swept, wide, ...beside])],
  };
}

/** Every arm with every seed. */
async function routeSeeds(
  settings: NodeLimitedSettings,
  { kernels, seed, signal, progress }: LabContext,
): Promise<RoutedArm[][]> {
  const { arms } = armsOf(settings);
  const seeds: RoutedArm[][] = [];
  for (let i = 0; i < settings.seeds; i += 1)
    seeds.push(
      await routeArms(arms, settings, seed + i, {
        kernels,
        ranked: async (share) => {
          progress((i + share) / settings.seeds, `seed ${i + 1}/${settings.seeds}`);
          // Routing blocks this thread: let Ctrl-C through.
          await new Promise(setImmediate);
          signal.throwIfAborted();
        },
      }),
    );
  return seeds;
}

/** A dispatch in FP8. */
function dispatched({ layouts, topology }: RoutedArm, copies: Copies, hidden: number): LinkTraffic {
  return dispatchTraffic(layouts, topology, { copies, bytes: tokenBytes(hidden, 'fp8') });
}

/** Bytes between nodes, all ranks together. */
function bytesBetween(routed: RoutedArm, copies: Copies, hidden: number): number {
  return dispatched(routed, copies, hidden).between.sent.reduce((sum, bytes) => sum + bytes, 0);
}

/** The time of a two-level dispatch. */
function timeOf(
  routed: RoutedArm,
  hidden: number,
  rates: KernelRates = publishedRates,
): Prediction {
  return predictTime(dispatched(routed, 'node', hidden), routed.topology, { rates });
}

/** How much busier NVLink is than InfiniBand. */
function busier({ withinUs, betweenUs }: Prediction): number {
  return withinUs / betweenUs;
}

function mostNodes(seeds: readonly RoutedArm[]): number {
  return Math.max(...seeds.map((routed) => routed.mostNodes));
}

/** Of every seed, experts a node up to which NVLink is not busier; 0 where it always is. */
function expertsANode(swept: readonly (readonly RoutedArm[])[], hidden: number): number[] {
  return swept[0].map((_, seed) => {
    const last = swept
      .map((seeds) => seeds[seed])
      .findLast((routed) => busier(timeOf(routed, hidden)) <= 1);
    return last ? last.arm.expertsPerToken / last.nodesPerToken : 0;
  });
}

/** A line of the grid: means over seeds. */
function rowOf(seeds: readonly RoutedArm[], copies: Copies, hidden: number): LabRow {
  const { nodes, groups, limit, expertsPerToken } = seeds[0].arm;
  // All ranks' tokens: the array of one rank has a place for each of its tokens and every rank.
  const tokens = seeds[0].layouts[0].isTokenInRank.length;
  const average = (of: (routed: RoutedArm) => number): number => mean(seeds.map(of));
  const predicted = seeds.map((routed) =>
    predictTime(dispatched(routed, copies, hidden), routed.topology, { rates: publishedRates }),
  );
  return {
    ranks: seeds[0].layouts.length,
    nodes,
    groups: `${limit} of ${groups}`,
    experts: expertsPerToken,
    'nodes a token': average((routed) => routed.nodesPerToken),
    'ranks a token': average((routed) => routed.ranksPerToken),
    'a copy for each': copies,
    'KB between nodes a token':
      average((routed) => bytesBetween(routed, copies, hidden)) / 1000 / tokens,
    'InfiniBand, µs': mean(predicted.map(({ betweenUs }) => betweenUs)),
    'NVLink, µs': mean(predicted.map(({ withinUs }) => withinUs)),
    'dispatch, µs': mean(predicted.map(({ us }) => us)),
  };
}
