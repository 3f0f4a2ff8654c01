// What a rank of a layout holds and sends, from what the whole model takes on one: experts are divided by E, moments by all
// ranks that hold the same, and a rank of a pipeline has its stages only. Tokens are taken to choose experts evenly.
//
// Legend: N ranks, P of a pipeline, L = N / P lanes, E ranks with all experts among them; T tokens of a rank, K experts a token.
import { generateSchedule, replicasOf } from '@baleen/dualpipe';
import { cutStages, type Decoder, type ModelConfig, stageOf, stageTensors } from '@baleen/model';
import { nodesOf } from '@baleen/tensor';

import type { TrainConfig } from './config';
import type { LayoutConfig } from './ranks/layout';
import { bucketElements } from './ranks/replicated';

/** Bytes that a rank sends in a step; about as many come. */
export interface SentEstimate {
  /** Gradients, to the ranks that update with them. */
  gradients: number;
  /** Updated weights, to the ranks that hold them too. */
  weights: number;
  /** Tokens to experts, results back, and the gradients of both. */
  experts: number;
  /** From stage to stage of a pipeline, both ways. */
  stages: number;
  /** All of these. */
  total: number;
}

/** What of a rank's memory depends on the layout, in bytes. */
interface RankMemory {
  parameters: number;
  gradients: number;
  optimizer: number;
  caches: number;
  /** What gradients and weights travel and are added up in. */
  staging: number;
}

/** Values at a place of the pipeline. */
interface Held {
  /** Those that every rank at the place has, and those of experts. */
  common: number;
  experts: number;
  /** Bytes of their other forms. */
  commonForms: number;
  expertForms: number;
}

/**
 * Estimates the rank that holds most.
 * @param config - the run
 * @param model - all of it, after a step
 * @param caches - bytes of forms of weights and of tables, on one rank
 * @returns its memory, and what it sends
 */
export function rankEstimate(
  config: TrainConfig,
  model: Decoder,
  caches: number,
): { memory: RankMemory; sent: SentEstimate } {
  const { layout, batch, optimizer } = config;
  const { ranks, pp, ep, deterministic } = layout;
  const { places, copies } = heldByPlace(layout, model);
  const weight = ({ common, experts }: Held): number => common + experts / ep;
  const { common, experts, commonForms, expertForms } = places.reduce((most, held) =>
    weight(held) > weight(most) ? held : most,
  );
  const lanes = ranks / pp;
  const holders = lanes * copies;
  const microBatches = Math.ceil(batch.sequences / batch.microBatch / lanes);
  // With the deterministic layout sums of micro-batches stay apart until their owner adds them.
  const nodes = deterministic ? nodesOf(0, microBatches).length : 1;
  const levels = deterministic ? Math.floor(Math.log2(microBatches)) + 1 : 0;
  const sources = deterministic ? ep : 1;
  const kinds = [
    { values: common, among: holders, sums: 1 },
    { values: experts / ep, among: holders / ep, sums: sources },
  ];
  const sum = (of: (kind: (typeof kinds)[number]) => number): number =>
    kinds.reduce((total, kind) => total + of(kind), 0);
  const away = (among: number): number => (among - 1) / among;
  const sent = {
    gradients: sum(({ values, among, sums }) => 4 * values * nodes * sums * away(among)),
    weights: sum(({ values, among }) => 4 * values * away(among)),
    experts: expertBytes(config, model.config),
    stages: stageBytes(config, model.config),
  };
  const moment = 2 * (optimizer.moments === 'bf16' ? 2 : 4);
  const forms = places.reduce((all, held) => all + held.commonForms + held.expertForms, 0);
  return {
    memory: {
      parameters: 4 * weight({ common, experts, commonForms, expertForms }),
      gradients: 4 * (common + (experts / ep) * (sources > 1 ? 1 + sources : 1)),
      optimizer: sum(({ values, among }) => (moment * values) / among),
      caches: caches - forms / copies + commonForms + expertForms / ep,
      staging: sum(({ values, among, sums }) => {
        const bucket = among > 1 ? Math.min(bucketElements, values) : 0;
        return 4 * (bucket * nodes * sums * (1 + 1 / among) + values * levels * sums);
      }),
    },
    sent: { ...sent, total: Object.values(sent).reduce((total, bytes) => total + bytes, 0) },
  };
}

/** Values by place of the pipeline, and at how many places each stage lies. */
function heldByPlace(layout: LayoutConfig, model: Decoder): { places: Held[]; copies: number } {
  const { pp, schedule } = layout;
  const placed = generateSchedule(pp === 1 ? 'gpipe' : schedule, {
    ranks: pp,
    microBatches: 2 * pp,
  });
  const placesOf = replicasOf(placed);
  const cut = cutStages(model.config, placed.stages);
  const places = Array.from(
    { length: pp },
    (): Held => ({ common: 0, experts: 0, commonForms: 0, expertForms: 0 }),
  );
  for (const [name, { size, formBytes }] of model.parameters())
    for (const place of placesOf[stageOf(name, cut)]) {
      const held = places[place];
      const isExpert = name.includes('.experts.');
      held[isExpert ? 'experts' : 'common'] += size;
      held[isExpert ? 'expertForms' : 'commonForms'] += formBytes;
    }
  return { places, copies: placesOf[0].length };
}

/** Tokens of a rank in a step that pass through one of its stages. */
function tokensOf({ layout, batch }: TrainConfig): number {
  return (batch.sequences * batch.sequence * layout.pp) / layout.ranks;
}

/** See `SentEstimate.experts`. */
function expertBytes(
  config: TrainConfig,
  { hiddenSize, layers, denseLayers, moe, mtp }: ModelConfig,
): number {
  const { ep, pp } = config.layout;
  if (ep === 1) return 0;
  const { routedExperts: all, expertsPerToken: k } = moe;
  // A token goes once to a rank of which it chose an expert: 1 less the chance that it chose none of them.
  let none = 1;
  for (let i = 0; i < k; i += 1) none *= (all - all / ep - i) / (all - i);
  const ranks = (ep - 1) * (1 - none);
  const dispatched = {
    fp8: hiddenSize + 4 * Math.ceil(hiddenSize / 128),
    bf16: 2 * hiddenSize,
    fp32: 4 * hiddenSize,
  }[config.precision];
  // Results and both gradients: a row in FP32 for each choice.
  const rows = (k * (ep - 1)) / ep;
  const spread = (layers - denseLayers + mtp.depth) / pp;
  return tokensOf(config) * spread * (ranks * dispatched + 3 * rows * 4 * hiddenSize);
}

/** See `SentEstimate.stages`: every border between ranks is passed by the stream and by its gradient. */
function stageBytes(config: TrainConfig, model: ModelConfig): number {
  const { pp } = config.layout;
  return pp === 1 ? 0 : 2 * 4 * tokensOf(config) * model.hiddenSize * stageTensors(model).length;
}
