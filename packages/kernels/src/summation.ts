// How the products of scaled operands are summed (§3.3.2, §3.5.2): what adds them up, and how often the partial sum is
// promoted. Here is what can be asked for, and how it travels in a kernel's sizes; reference/tensor-core.ts has the
// arithmetic.

/** How a tensor core accumulates. */
export interface TensorCore {
  /**
   * Bits kept of each summand below the weight 2^e of the largest exponent e: everything under 2^(e − fractionBits) is
   * cut off. The "14 bits" of the paper count the bit of weight 2^e as well, and are 13 here. From 1 to 45.
   */
  fractionBits: number;
  /**
   * What becomes of the sum of an instruction. `aligned`: the accumulator is one more summand of the next instruction, so
   * that it takes part in the largest exponent and is cut like the products; the sum keeps `fractionBits` below its own
   * leading bit (§3.5.2: accumulation into registers has that precision). `fp32`: only the products are aligned and cut;
   * their sum is added to an FP32 accumulator, rounded to nearest.
   */
  accumulator: 'aligned' | 'fp32';
}

/** Hopper's FP8 instructions. */
export const hopper: TensorCore = { fractionBits: 13, accumulator: 'aligned' };

/** How products are summed. */
export interface Summation {
  /**
   * Products along k after which the partial sum is promoted: scaled and added to the FP32 sum (default 128, V3's N_C;
   * Infinity: never). Partial sums also end where a scale does, since each is scaled as a whole.
   */
  promotion?: number;
  /** Add partial sums up as a tensor core does, such as {@link hopper}; without it in FP32, each addition rounded. */
  tensorCore?: TensorCore;
}

/** The same among a kernel's sizes; what is left out is V3's. */
export interface SummationSizes {
  /** `Summation.promotion`. */
  promotion?: number;
  /** `TensorCore.fractionBits`; 0 or left out: no tensor core. */
  fractionBits?: number;
  /** Whether `TensorCore.accumulator` is `aligned`. */
  alignedSum?: boolean;
}

/** Products between promotions in V3's recipe. */
export const v3Promotion = 128;

/** Most bits a tensor core may keep: the sum of 32 products and the accumulator is exact in a double. */
const mostBits = 45;

/**
 * A summation as kernels take it.
 * @param summation - how products are summed
 * @returns what to put among the sizes of `gemm`, `groupedGemm` or `groupedGemmWeight`
 *
 * @example
 * ```ts
 * import { hopper, summationSizes } from '@baleen/kernels';
 * const { promotion, fractionBits, alignedSum } = summationSizes({ promotion: Infinity, tensorCore: hopper });
 * console.log(promotion, fractionBits, alignedSum); // => Infinity 13 true
 * ```
 */
export function summationSizes({ promotion, tensorCore }: Summation): SummationSizes {
  return {
    ...(promotion !== undefined && { promotion }),
    ...(tensorCore && {
      fractionBits: tensorCore.fractionBits,
      alignedSum: tensorCore.accumulator === 'aligned',
    }),
  };
}

/** The summation that a kernel's sizes ask for. */
export function summationOf(sizes: SummationSizes): Summation {
  const { promotion = v3Promotion, fractionBits = 0, alignedSum = false } = sizes;
  return {
    promotion,
    ...(fractionBits !== 0 && {
      tensorCore: { fractionBits, accumulator: alignedSum ? 'aligned' : 'fp32' },
    }),
  };
}

/** What is wrong with a summation. */
export interface SummationFault {
  /** Which option. */
  path: string;
  /** Its value. */
  value: unknown;
  /** What it may be. */
  hint: string;
}

/**
 * Looks at a summation before it is computed with.
 * @param summation - how products are to be summed
 * @returns what is wrong with it, if anything
 */
export function summationFault({
  promotion = v3Promotion,
  tensorCore,
}: Summation): SummationFault | null {
  if (promotion !== Infinity && !(Number.isInteger(promotion) && promotion >= 1))
    return {
      path: 'promotion',
      value: promotion,
      hint: 'name a number of products, or Infinity for none',
    };
  if (!tensorCore) return null;
  const { fractionBits, accumulator } = tensorCore;
  if (!(Number.isInteger(fractionBits) && fractionBits >= 1 && fractionBits <= mostBits))
    return {
      path: 'tensorCore.fractionBits',
      value: fractionBits,
      hint: `keep 1 to ${mostBits} bits; Hopper keeps 13`,
    };
  if (!['aligned', 'fp32'].includes(accumulator))
    return {
      path: 'tensorCore.accumulator',
      value: accumulator,
      hint: 'name one of aligned, fp32',
    };
  return null;
}
