// The lab `fp8-dgrad-blocks`: what 128×128 blocks do to the gradients of activations (§3.5.2 and Appendix B.2).
//
// The report says that a 16B model trained with such blocks diverged after some 300 B tokens, and supposes that gradients
// differ so much between tokens that the loud ones take the quiet ones' bits. A divergence that late cannot be waited for
// here, but its cause can be looked at: a model is trained with V3's recipe, then one more batch goes through it forward and
// back, once with exact gradients, once with gradients in 1×128 tiles, once in 128×128 blocks. The effect is how much larger
// the blocks' error is than the tiles' in the gradient that has come all the way down to the first layer. Tiles train well,
// so an error near theirs would be no cause to diverge: the claim is taken to hold from twice the noise (3 dB, a factor of √2
// in the relative error) up.
//
// Beside it a second model trains in 128×128 blocks from the start; its loss against the first one's is reported with the
// smallest gap that so many pairs could tell, and has no part in the verdict.
import { type Fp8Changes, fp8Linears } from '@baleen/fp8';
import { Decoder } from '@baleen/model';
import type { LinearFactory } from '@baleen/tensor';

import { median } from '../bench-step';
import { decodedLinears } from './decoded-linears';
import { relativeError } from './errors';
import { type BatchGradients, copyValues, gradientsOf } from './gradients';
import type { Lab } from './lab';
import { relativeDifferences, summarize } from './statistics';
import {
  type Arm,
  type TrainedArm,
  type TrainingSettings,
  trainingSeconds,
  trainPairs,
} from './training';
import { labFigure } from './verdict';

/** Nothing is kept in fewer bits: what is compared is the error of gradients alone. */
const kept = { swigluInputs: 'fp32', attentionOutput: 'fp32' } as const;

const recipes = {
  tiles: { kept },
  blocks: { gradients: { block: '128x128' }, kept },
} as const satisfies Record<string, Fp8Changes>;

const arms = {
  tiles: { changes: { precision: 'fp8', fp8: recipes.tiles } },
  blocks: { changes: { precision: 'fp8', fp8: recipes.blocks } },
} as const satisfies Record<string, Arm>;

/** What E4M3 holds with all its bits: the largest value over the smallest normal one. */
const e4m3Span = 448 / 2 ** -6;

/** Relative errors of a batch's gradients. */
interface Errors {
  /** Of the stream's gradient where it enters the first layer. */
  input: number;
  /** Of the same, token by token: the median. */
  token: number;
  /** Of all weight gradients inside the layers together. */
  weights: number;
}

/** What one more batch of a trained model says. */
interface Comparison {
  /** Errors of V3's tiles. */
  tiles: Errors;
  /** Errors of 128×128 blocks. */
  blocks: Errors;
  /** Largest norm of a token's input gradient over the median one: what blocks have to span, and tiles need not. */
  spread: number;
}

/** 128×128 blocks on gradients of activations against 1×128 tiles. */
export const fp8DgradBlocks: Lab<TrainingSettings> = {
  name: 'fp8-dgrad-blocks',
  claim: 'gradients of activations in 128×128 blocks lose what training needs; 1×128 tiles keep it',
  source: 'arXiv 2412.19437, §3.5.2 and Appendix B.2',
  published: 'a 16B model diverged after some 300 B tokens',
  quantity: { name: 'error of the first layer’s input gradient, blocks over tiles', unit: 'ratio' },
  effect: { name: 'geometric mean of blocks’ error / tiles’ error', unit: 'ratio' },
  inequality: { above: Math.SQRT2 },
  settings: {
    quick: {
      preset: 'tiny',
      pairs: 5,
      changes: {
        steps: 300,
        model: { mtp: { depth: 0 } },
        evaluation: { every: 0, stride: 0 },
      },
    },
    full: {
      preset: 'small',
      pairs: 5,
      changes: { steps: 2000, evaluation: { every: 0 } },
    },
  },
  estimate: (settings, context) => trainingSeconds(settings, Object.values(arms), context),
  async run(settings, context) {
    const ratios: number[] = [];
    const spreads: number[] = [];
    const losses: { tiles: number[]; blocks: number[] } = { tiles: [], blocks: [] };
    await trainPairs(settings, arms, context, (seed, { tiles, blocks }) => {
      losses.tiles.push(tiles.loss);
      losses.blocks.push(blocks.loss);
      const errors = compare(tiles);
      ratios.push(errors.blocks.input / errors.tiles.input);
      spreads.push(errors.spread);
      const row = (what: string, inTiles: number, inBlocks: number): void => {
        context.row({
          seed,
          what,
          '1×128': inTiles,
          '128×128': inBlocks,
          ratio: inBlocks / inTiles,
        });
      };
      for (const [what, name] of [
        ['error of the first layer’s input gradient, %', 'input'],
        ['the same, of the median token, %', 'token'],
        ['error of the weight gradients, %', 'weights'],
      ] as const)
        row(what, 100 * errors.tiles[name], 100 * errors.blocks[name]);
      row('held-out loss when trained so', tiles.loss, blocks.loss);
    });
    return {
      effect: { pairs: ratios },
      notes: [
        lossNote(relativeDifferences(losses.tiles, losses.blocks)),
        `the loudest token’s input gradient is ${labFigure(Math.max(...spreads), 'ratio')} the median one at most; E4M3 spans ${labFigure(e4m3Span, 'ratio')} with all its bits`,
      ],
    };
  },
};

/** Takes one more batch through a trained model. */
function compare({ session }: TrainedArm): Comparison {
  const { model, packer, config } = session;
  const batch = packer.next(config.batch.microBatch, config.batch.sequence);
  const gradients = (linears: LinearFactory): BatchGradients => {
    const copy = new Decoder(model.kernels, model.config, 'fp8', { linears });
    copyValues(copy, model);
    return gradientsOf(copy, batch);
  };
  const exact = gradients(decodedLinears());
  const tokens = byToken(exact.input, model.config.hiddenSize);
  const errorsOf = (recipe: Fp8Changes): Errors => {
    const { input, weights } = gradients(fp8Linears(recipe));
    const errors = byToken(input, model.config.hiddenSize).map((had, t) =>
      relativeError(tokens[t], had),
    );
    return {
      input: relativeError(exact.input, input),
      // A token that nothing flows back to has no error either.
      token: median(errors.filter((error) => !Number.isNaN(error))),
      weights: relativeError(exact.weights, weights),
    };
  };
  const norms = tokens.map((gradient) => Math.hypot(...gradient));
  return {
    tiles: errorsOf(recipes.tiles),
    blocks: errorsOf(recipes.blocks),
    spread: Math.max(...norms) / median(norms),
  };
}

/** A stream's rows [tokens × hidden], one by one. */
function byToken(stream: Float32Array, hidden: number): Float32Array[] {
  return Array.from({ length: stream.length / hidden }, (_, t) =>
    stream.subarray(t * hidden, (t + 1) * hidden),
  );
}

function lossNote(gaps: readonly number[]): string {
  const { mean, ci95, smallestResolvable } = summarize(gaps);
  const percent = (value: number): string => labFigure(value, 'percent');
  const range = ci95 && `95 %: ${percent(ci95[0])} to ${percent(ci95[1])}`;
  const least = smallestResolvable && `resolvable from ${percent(smallestResolvable)}`;
  const known = [range, least].filter(Boolean).join('; ');
  return `held-out loss, blocks over tiles: ${percent(mean)}${known === '' ? '' : ` (${known})`}`;
}
