// V3's FP8 recipe as data (§3.3), and every choice in it that can be taken another way: to measure what a choice is worth,
// change it alone. What is not here has no alternative that trains: activations have tiles of 1×128, for dispatch moves them
// row by row, and scales along the sums span 128.
import { type Fp8Type, summationFault, type TensorCore, v3Promotion } from '@baleen/kernels';
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
    /** Format of the codes. V3: E4M3, as everywhere (§3.3.2). */
    format: Fp8Type;
    /** V3 has powers of two after attention and before the products that open a feed-forward (§3.3.3). */
    scales: ScaleChoice;
  };
  /** Weights. */
  weights: {
    /** Format of the codes. V3: E4M3. */
    format: Fp8Type;
    /** What shares a scale: V3's 128×128, or tiles along the sums of each product, in two forms (1×128 and 128×1). */
    block: '128x128' | '1x128';
    /** V3's FP32, or powers of two. */
    scales: Exclude<ScaleChoice, 'v3'>;
  };
  /** Gradients of the layers' outputs. */
  gradients: {
    /** Format of the codes. V3: E4M3; hybrid recipes have E5M2 for gradients. */
    format: Fp8Type;
    /**
     * What shares a scale: V3's tiles along the sums of each product (1×128 and 128×1), or one form in 128×128 for both,
     * with which a 16B model diverged (Appendix B.2).
     */
    block: '1x128' | '128x128';
    /** V3 has powers of two in front of the experts' down-projections (§3.3.3). */
    scales: ScaleChoice;
  };
  /** How the three products are summed (§3.3.2). */
  products: {
    /**
     * Products after which a partial sum is promoted: scaled, and added to the FP32 sum. V3: 128. From 1 to 128: partial
     * sums end with the scales along them in any case.
     */
    promotion: number;
    /**
     * What adds up partial sums: FP32 with each addition rounded, or an emulated tensor core, such as `hopper`, on which
     * V3 was trained. Products then take about six times as long.
     */
    tensorCore: TensorCore | null;
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
const format = ['e4m3', 'e5m2'];
/** No list: what products are summed by is looked at as a whole. */
const summation = null;

/** What every choice may be. */
const choices: {
  readonly [Part in keyof Fp8Recipe]: Record<keyof Fp8Recipe[Part], unknown[] | null>;
} = {
  layers: { attention: onOff, feedForward: onOff, experts: onOff },
  activations: { format, scales: ['v3', 'fp32', 'powerOfTwo'] },
  weights: { format, block: ['128x128', '1x128'], scales: ['fp32', 'powerOfTwo'] },
  gradients: { format, block: ['1x128', '128x128'], scales: ['v3', 'fp32', 'powerOfTwo'] },
  products: { promotion: summation, tensorCore: summation },
  kept: { swigluInputs: keptForms, attentionOutput: keptForms },
};

/** Refuses choices that there are not. */
function checkChanges(changes: Fp8Changes): void {
  const known = choices as Record<string, Record<string, unknown[] | null> | undefined>;
  for (const [part, values] of Object.entries(changes))
    for (const [name, value] of Object.entries(values)) {
      const allowed = known[part]?.[name];
      const path = `${part}.${name}`;
      if (allowed === undefined)
        refuseOption(path, value, `a recipe has ${Object.keys(known[part] ?? known).join(', ')}`);
      if (allowed) checkOneOf(path, value, allowed);
    }
}

/** Refuses ways to sum that there are not. */
function checkProducts({ promotion, tensorCore }: Fp8Recipe['products']): void {
  const fault = summationFault({ promotion, ...(tensorCore && { tensorCore }) });
  if (fault) refuseOption(`products.${fault.path}`, fault.value, fault.hint);
  if (promotion > v3Promotion)
    refuseOption(
      'products.promotion',
      promotion,
      `name 1 to ${v3Promotion} products: where a scale ends, after ${v3Promotion}, partial sums end with it`,
    );
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
 * const recipe = fp8Recipe({ gradients: { format: 'e5m2', block: '128x128' } });
 * console.log(recipe.gradients.format, recipe.gradients.block, recipe.weights.format); // => e5m2 128x128 e4m3
 * ```
 */
export function fp8Recipe(changes: Fp8Changes = {}): Fp8Recipe {
  checkChanges(changes);
  const products = { promotion: v3Promotion, tensorCore: null, ...changes.products };
  checkProducts(products);
  return {
    layers: { attention: true, feedForward: true, experts: true, ...changes.layers },
    activations: { format: 'e4m3', scales: 'v3', ...changes.activations },
    weights: { format: 'e4m3', block: '128x128', scales: 'fp32', ...changes.weights },
    gradients: { format: 'e4m3', block: '1x128', scales: 'v3', ...changes.gradients },
    products,
    kept: { swigluInputs: 'fp8', attentionOutput: 'e5m6', ...changes.kept },
  };
}
