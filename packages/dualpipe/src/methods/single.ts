// Methods with one pipeline in one direction: GPipe, 1F1B, 1F1B with several stages a rank, and ZB1P.
import type { ComputeLists } from '../messages';
import type { Compute, PlainCompute } from '../schedule';
import type { MethodSizes } from './sizes';

/** Sizes with nothing left open. */
export type FullSizes = Required<MethodSizes>;

const counted = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** One pipeline whose stages go round the ranks. */
function lists(
  method: string,
  { ranks, microBatches, stagesPerRank }: FullSizes,
  ofRank: (rank: number) => Compute[],
  maxInFlight: (rank: number) => number,
): ComputeLists {
  const stages = ranks * stagesPerRank;
  return {
    method,
    ranks,
    stages,
    microBatches,
    pipelines: [
      {
        rankOfStage: counted(stages).map((stage) => stage % ranks),
        microBatches: counted(microBatches),
      },
    ],
    maxInFlight: counted(ranks).map(maxInFlight),
    computations: counted(ranks).map(ofRank),
  };
}

const step = (kind: PlainCompute['kind'], stage: number, microBatch: number): PlainCompute => ({
  kind,
  stage,
  microBatch,
});

/** All forwards, then all backwards (GPipe, arXiv 1811.06965). Every activation of the step is held. */
export function gpipe(sizes: FullSizes): ComputeLists {
  const batches = counted(sizes.microBatches);
  return lists(
    'gpipe',
    sizes,
    (rank) => [
      ...batches.map((m) => step('forward', rank, m)),
      ...batches.map((m) => step('fullBackward', rank, m)),
    ],
    () => sizes.microBatches,
  );
}

/** After as many forwards as there are ranks behind, forward and backward in turn (PipeDream-flush, arXiv 2006.09503). */
export function oneForwardOneBackward(sizes: FullSizes): ComputeLists {
  const { ranks, microBatches } = sizes;
  return lists(
    '1f1b',
    sizes,
    (rank) =>
      alternating(
        microBatches,
        ranks - rank - 1,
        (m) => [step('forward', rank, m)],
        (m) => [step('fullBackward', rank, m)],
      ),
    (rank) => Math.min(microBatches, ranks - rank),
  );
}

/**
 * 1F1B with several stages a rank, which lie ranks apart (Megatron-LM, arXiv 2104.04473, §2.2): ranks micro-batches go through
 * one of its stages, then through the next. The more stages, the smaller each and with it the bubble, and the more messages.
 */
export function interleaved(sizes: FullSizes): ComputeLists {
  const { ranks, microBatches, stagesPerRank } = sizes;
  const round = ranks * stagesPerRank;
  const total = microBatches * stagesPerRank;
  const microBatchOf = (k: number): number => Math.floor(k / round) * ranks + (k % ranks);
  const turnOf = (k: number): number => Math.floor((k % round) / ranks);
  const warmUp = (rank: number): number => (ranks - rank - 1) * 2 + (stagesPerRank - 1) * ranks;
  return lists(
    'interleaved',
    sizes,
    (rank) =>
      alternating(
        total,
        warmUp(rank),
        (k) => [step('forward', turnOf(k) * ranks + rank, microBatchOf(k))],
        (k) => [
          step('fullBackward', (stagesPerRank - 1 - turnOf(k)) * ranks + rank, microBatchOf(k)),
        ],
      ),
    (rank) => Math.min(total, warmUp(rank) + 1),
  );
}

/**
 * 1F1B whose gradients of weights wait: rank r stays r of them behind, and computes them where 1F1B stands still (ZB-H1 of
 * arXiv 2401.10241, which the V3 report calls ZB1P).
 */
export function zb1p(sizes: FullSizes): ComputeLists {
  const { ranks, microBatches } = sizes;
  return lists(
    'zb1p',
    sizes,
    (rank) => {
      const behind = Math.min(rank, microBatches);
      const weight = (m: number): Compute[] => (m < 0 ? [] : [step('weightGrad', rank, m)]);
      return [
        ...alternating(
          microBatches,
          ranks - rank - 1,
          (m) => [step('forward', rank, m)],
          (m) => [step('inputGrad', rank, m), ...weight(m - behind)],
        ),
        ...counted(behind).flatMap((i) => weight(microBatches - behind + i)),
      ];
    },
    (rank) => Math.min(microBatches, ranks - rank),
  );
}

/** `first` forwards alone, then one forward and one backward in turn, then the backwards that are left. */
function alternating(
  total: number,
  first: number,
  forward: (k: number) => Compute[],
  backward: (k: number) => Compute[],
): Compute[] {
  const warmUp = Math.min(total, first);
  const list = counted(warmUp).flatMap(forward);
  for (let k = 0; k < total; k += 1) {
    if (warmUp + k < total) list.push(...forward(warmUp + k));
    list.push(...backward(k));
  }
  return list;
}
