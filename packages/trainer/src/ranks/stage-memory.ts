// Intermediate memory of a pipeline's ranks, before it runs: a passage through each stage on its own says what one takes at
// most, and a rank's list of actions how many are under way. A region that a passage leaves is taken by the next one, the last
// that was left first, and keeps its memory: so does `StagePipeline`, whose `peakBytes` this is.
import { type Cell, forEachPart, isMessage, type Part, type Schedule } from '@baleen/dualpipe';

import type { LayoutConfig } from './layout';

type List = Schedule['actions'][number];

/** Bytes that a passage through each stage takes at most, where gradients of weights come with their inputs' or later. */
export type PassageBytes = (deferring: boolean) => readonly number[];

/** What of a layout the memory depends on. */
type Way = Pick<LayoutConfig, 'ep' | 'deterministic'>;

/**
 * The memory of the rank that takes most.
 * @param schedule - of a lane
 * @param bytesOf - see {@link PassageBytes}
 * @param way - the layout
 * @returns bytes
 */
export function pipelineBytes({ actions }: Schedule, bytesOf: PassageBytes, way: Way): number {
  return Math.max(...actions.map((list) => rankBytes(list, bytesOf, way)));
}

function rankBytes(list: List, bytesOf: PassageBytes, { ep, deterministic }: Way): number {
  const deferring = isDeferring(list, deterministic);
  const bytes = bytesOf(deferring);
  const lastPart = deferring ? 'weightGrad' : 'inputGrad';
  const regions: number[] = [];
  let free: number[] = [];
  const taken = new Map<string, number>();
  const look = (part: Part, { stage, microBatch }: Cell): void => {
    const key = `${stage}:${microBatch}`;
    if (part === 'forward') {
      const region = free.pop() ?? regions.push(0) - 1;
      regions[region] = Math.max(regions[region], bytes[stage]);
      taken.set(key, region);
    } else if (part === lastPart) free.push(taken.get(key) ?? 0);
  };
  // The first step makes the regions; all later ones find them free, in this order.
  for (const action of [...list, null, ...list])
    if (action === null) free = regions.map((_, region) => region);
    else if (action.kind === 'overlap' && ep === 1) {
      // With nothing to exchange within a pair, the way back comes before the other's way forward.
      forEachPart({ ...action.backward, kind: 'fullBackward' }, look);
      look('forward', action.forward);
    } else if (!isMessage(action)) forEachPart(action, look);
  return regions.reduce((sum, peak) => sum + peak, 0);
}

/**
 * Whether a rank puts gradients of weights off.
 * @param list - its actions
 * @param deterministic - sums do not depend on the layout: those of a micro-batch are complete before another one's begin
 */
export function isDeferring(list: List, deterministic: boolean): boolean {
  return !deterministic && list.some(({ kind }) => kind === 'weightGrad');
}
