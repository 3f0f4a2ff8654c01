// V3's FP8 recipe as data (§3.3), and every choice in it that the kernels can take another way: to measure what a choice is
// worth, change it alone. What is not here has no alternative that trains: codes are E4M3 everywhere, activations have tiles
// of 1×128 (dispatch moves them row by row), and sums are promoted every 128 products.

import type { KeptForms } from '@baleen/tensor';

import { checkOneOf, refuseOption } from './matrix';

/** Where scales are powers of two: where V3 has them (`v3`), nowhere, or everywhere (as UE8M0 scales are). */
export type ScaleChoice = 'v3' | 'fp32' | 'powerOfTwo';

/** How linear layers train in FP8. */
export interface Fp8Recipe {
  /**
   * Which linear layers run in FP8; the others take BF16. Embedding, output head, gate, norms and the attention operator
   * stay out of FP8 always (§3.3.1).
   */
  layers: {
    /** Projections of attention. */
    attention: boolean;
    /** Dense feed-forward. */
    feedForward: boolean;
    /** Experts, routed and shared. */
    experts: boolean;
  };
  /** Inputs of linear layers, in tiles of 1×128. */
  activations: {
    /** V3 has powers of two after attention and before the products that open a feed-forward (§3.3.3). */
    scales: ScaleChoice;
  };
  /** Weights. */
  weights: {
    /** What shares a scale: V3's 128×128, or tiles along the sums of each product, in two forms (1×128 and 128×1). */
    block: '128x128' | '1x128';
    /** V3's FP32, or powers of two. */
    scales: Exclude<ScaleChoice, 'v3'>;
  };
  /** Gradients of the layers' outputs. */
  gradients: {
    /**
     * What shares a scale: V3's tiles along the sums of each product (1×128 and 128×1), or one form in 128×128 for both,
     * with which a 16B model diverged (Appendix B.2).
     */
    block: '1x128' | '128x128';
    /** V3 has powers of two in front of the experts' down-projections (§3.3.3). */
    scales: ScaleChoice;
  };
  /** In what forms values between the products are kept for backward (§3.3.3). V3: SwiGLU's inputs in FP8,
   * attention's output in E5M6. */
  kept: KeptForms;
}

/** Changes to a recipe: any of its choices. */
export type Fp8Changes = {
  readonly [Part in keyof Fp8Recipe]?: Readonly<Partial<Fp8Recipe[Part]>>;
};

const keptForms = ['fp32', 'bf16', 'e5m6', 'fp8'];
const onOff = [true, false];

/** What every choice may be. */
const choices: { readonly [Part in keyof Fp8Recipe]: Record<keyof Fp8Recipe[Part], unknown[]> } = {
  layers: { attention: onOff, feedForward: onOff, experts: onOff },
  activations: { scales: ['v3', 'fp32', 'powerOfTwo'] },
  weights: { block: ['128x128', '1x128'], scales: ['fp32', 'powerOfTwo'] },
  gradients: { block: ['1x128', '128x128'], scales: ['v3', 'fp32', 'powerOfTwo'] },
  kept: { swigluInputs: keptForms, attentionOutput: keptForms },
};

/** Refuses choices that there are not. */
function checkChanges(changes: Fp8Changes): void {
  const known = choices as Record<string, Record<string, unknown[]> | undefined>;
  for (const [part, values] of Object.entries(changes))
    for (const [name, value] of Object.entries(values)) {
      const allowed = known[part]?.[name];
      const path = `${part}.${name}`;
      if (!allowed)
        refuseOption(path, value, `a recipe has ${Object.keys(known[part] ?? known).join(', ')}`);
      checkOneOf(path, value, allowed);
    }
}

/**
 * V3's recipe with changes.
 * @param changes - what is another way; nothing for V3's own
 * @returns a new, complete recipe
 * @throws ERR_BALEEN_FP8_OPTION for a choice that there is not
 *
 * @example
 * ```ts
 * import { fp8Recipe } from '@baleen/fp8';
 * const recipe = fp8Recipe({ gradients: { block: '128x128' } });
 * console.log(recipe.gradients.block, recipe.weights.block); // => 128x128 128x128
 * ```
 */
export function fp8Recipe(changes: Fp8Changes = {}): Fp8Recipe {
  checkChanges(changes);
  return {
    layers: { attention: true, feedForward: true, experts: true, ...changes.layers },
    activations: { scales: 'v3', ...changes.activations },
    weights: { block: '128x128', scales: 'fp32', ...changes.weights },
    gradients: { block: '1x128', scales: 'v3', ...changes.gradients },
    kept: { swigluInputs: 'fp8', attentionOutput: 'e5m6', ...changes.kept },
  };
}
