// What a balance loss over a batch counts, where the batch has several micro-batches (§4.5.3): how often each expert is among
// the best scores of a token in all of them. It must be known before the first micro-batch goes back, so that every
// micro-batch is first sent forward as far as its last router.
//
// The cheaper way is to count the micro-batches so far (arXiv 2501.11873; `global_aux_loss` of Megatron-LM). It balances the
// first by itself and only the last by all: the loss would depend on how the batch is cut, which is a matter of memory.
import type { Decoder, ModelStage } from '@baleen/model';
import type { Router } from '@baleen/moe-router';
import {
  type Bundle,
  emptyTensor,
  type Phase,
  type Region,
  type Tape,
  type Tensor,
} from '@baleen/tensor';

import { routerPlace, routes } from './router-place';

/**
 * Makes the counts.
 * @param model - whose routers count
 * @param region - where they live
 * @returns one array a router [experts] I32, undefined contents
 */
export function batchCounts(model: Decoder, region: Region): Map<Router, Tensor> {
  return new Map(
    model.routers.map((router) => [router, emptyTensor(region, [router.spec.experts], 'i32')]),
  );
}

/**
 * The phases that count.
 * @param model - the decoder
 * @param counts - from {@link batchCounts}, added to
 * @param stage - which part of the model; the last one goes as far as its last router
 * @returns the phases, for runs that do not record
 */
export function countingPhases(
  model: Decoder,
  counts: ReadonlyMap<Router, Tensor>,
  stage: ModelStage,
): Phase[] {
  const phases = model.stagePhases(stage, { withScores: true });
  const routers = model.allRouters;
  const end = stage.last ? phases.findLastIndex(routes) + 1 : phases.length;
  return phases.slice(0, end).map((phase) => {
    const router = routes(phase) ? routers[routerPlace(phase, model.config)] : null;
    const own = router && counts.get(router);
    if (!routes(phase) || !own) return phase;
    return {
      ...phase,
      forward: (tape: Tape, input: Bundle) => {
        const output = phase.forward(tape, input);
        addChoice(tape, router, output.scores as Tensor, own);
        return output;
      },
    };
  });
}

/** Adds what scores alone choose, without bias and groups. */
function addChoice(tape: Tape, { spec }: Router, scores: Tensor, counts: Tensor): void {
  const { kernels } = tape;
  const { experts, expertsPerToken: k } = spec;
  const tokens = scores.size / experts;
  const indices = tape.empty([tokens, k], 'i32');
  kernels.topK(indices, scores, null, { tokens, experts, k, groups: 1, groupsKept: 1 });
  const [own, offsets, slotOfRow, rowOfSlot] = [experts, experts + 1, tokens * k, tokens * k].map(
    (size) => tape.empty([size], 'i32'),
  );
  kernels.route(own, offsets, slotOfRow, rowOfSlot, indices, { tokens, k, experts });
  kernels.add(counts, counts, own);
}
