// What every kernel is called with, once: how its arguments are laid out for the addon, which sizes its views must have,
// and what it costs. Checks, the null backend and the native binding all read this table.
import type { Kernels } from './kernels';
import type { DType, Operand, ScaledView, View } from './storage';

/** The kernels proper: methods of `Kernels` that compute. */
export type KernelName = Exclude<
  keyof Kernels,
  'implementation' | 'isa' | 'threads' | 'createStorage' | 'flush'
>;

/** Sizes as the kernels take them: numbers, switches, and now and then a view. */
export type Sizes = Readonly<Record<string, number | boolean | View | undefined>>;

/** A view's name, what it must hold, and of which types. `null` allows anything. */
type Requirement = readonly [name: string, size: number | null, ...dtypes: DType[]];

/** One kernel's signature. */
export interface Signature {
  /** Arguments in order: `v` a view (or null), `o` a plain or scaled operand. */
  readonly args: string;
  /** Keys of the sizes, in the order the addon reads them; `@` marks a view. */
  readonly keys: readonly string[];
  /** What each argument must hold. Scaled operands name the matrix they stand for. */
  readonly needs: (sizes: Sizes, args: readonly (Operand | null)[]) => readonly Requirement[];
  /** Floating-point operations, and the unit they run on. */
  readonly flops?: (
    sizes: Sizes,
    args: readonly (Operand | null)[],
  ) => { flops: number; unit: 'fp32' | 'bf16' };
}

const n = (value: Sizes[string]): number => (typeof value === 'number' ? value : 0);
const sizeAt = (args: readonly (Operand | null)[], index: number): number => {
  const arg = args[index];
  if (!arg) return 0;
  return 'codes' in arg ? arg.codes.size : arg.size;
};
const plain: DType[] = ['f32', 'bf16'];
const operand: DType[] = ['f32', 'bf16', 'e4m3'];
const unitOf = (arg: Operand | null | undefined): 'fp32' | 'bf16' =>
  arg && !('codes' in arg) && arg.dtype === 'f32' ? 'fp32' : 'bf16';

/** Every argument as long as the first. */
const alike = (...names: string[]): Signature['needs'] => {
  return (_, args) => names.map((name) => [name, sizeAt(args, 0), 'f32'] as const);
};
const attentionNeeds = (s: Sizes): Record<string, number> => ({
  q: n(s.batch) * n(s.queries) * n(s.heads) * n(s.queryWidth),
  k: n(s.batch) * n(s.keys) * n(s.heads) * n(s.queryWidth),
  v: n(s.batch) * n(s.keys) * n(s.heads) * n(s.valueWidth),
  out: n(s.batch) * n(s.queries) * n(s.heads) * n(s.valueWidth),
  lse: n(s.batch) * n(s.queries) * n(s.heads),
});
/** Products of causal attention: half of the square, plus the part all queries see. */
const attentionPairs = (s: Sizes): number =>
  n(s.batch) * n(s.heads) * n(s.queries) * (n(s.keys) - (n(s.queries) - 1) / 2);

/** All signatures by kernel. */
export const signatures: Readonly<Record<KernelName, Signature>> = {
  fill: { args: 'v', keys: [], needs: () => [['out', null, 'f32', 'bf16', 'i32']] },
  copy: {
    args: 'vv',
    keys: [],
    needs: (_, args) => {
      const first = args[0] as View;
      return [
        ['out', null],
        ['x', first.size, first.dtype],
      ];
    },
  },
  cast: {
    args: 'vv',
    keys: [],
    needs: (_, args) => {
      const first = args[0] as View;
      return [
        ['out', null, ...plain],
        ['x', first.size, first.dtype === 'bf16' ? 'f32' : 'bf16'],
      ];
    },
  },
  copyStrided: {
    args: 'vv',
    keys: ['rows', 'cols', 'outStride', 'outOffset', 'xStride', 'xOffset', 'accumulate'],
    needs: () => [
      ['out', null, ...plain],
      ['x', null, ...plain],
    ],
  },
  add: {
    args: 'vvv',
    keys: [],
    needs: (_, args) => {
      const { size, dtype } = args[0] as View;
      return [
        ['out', null, 'f32', 'i32'],
        ['a', size, dtype],
        ['b', size, dtype],
      ];
    },
  },
  scale: { args: 'vv', keys: [], needs: alike('out', 'x') },
  gemm: {
    args: 'voo',
    keys: ['m', 'n', 'k', 'transA', 'transB', 'accumulate'],
    needs: (s) => [
      ['c', n(s.m) * n(s.n), 'f32'],
      ['a', n(s.m) * n(s.k), ...operand],
      ['b', n(s.n) * n(s.k), ...operand],
    ],
    flops: (s, args) => ({ flops: 2 * n(s.m) * n(s.n) * n(s.k), unit: unitOf(args[1]) }),
  },
  groupedGemm: {
    args: 'voov',
    keys: ['groups', 'rows', 'n', 'k', 'transB', 'accumulate'],
    needs: (s) => [
      ['c', n(s.rows) * n(s.n), 'f32'],
      ['a', n(s.rows) * n(s.k), ...operand],
      ['b', n(s.groups) * n(s.n) * n(s.k), ...operand],
      ['offsets', n(s.groups) + 1, 'i32'],
    ],
    flops: (s, args) => ({ flops: 2 * n(s.rows) * n(s.n) * n(s.k), unit: unitOf(args[1]) }),
  },
  groupedGemmWeight: {
    args: 'voov',
    keys: ['groups', 'rows', 'm', 'n', 'accumulate'],
    needs: (s) => [
      ['c', n(s.groups) * n(s.m) * n(s.n), 'f32'],
      ['a', n(s.rows) * n(s.m), ...operand],
      ['b', n(s.rows) * n(s.n), ...operand],
      ['offsets', n(s.groups) + 1, 'i32'],
    ],
    flops: (s, args) => ({ flops: 2 * n(s.rows) * n(s.m) * n(s.n), unit: unitOf(args[1]) }),
  },
  quantize: {
    args: 'ov',
    keys: ['rows', 'cols', 'powerOfTwo', '@offsets', 'groups'],
    needs: (s) => [
      ['out', n(s.rows) * n(s.cols), 'e4m3'],
      ['x', n(s.rows) * n(s.cols), 'f32'],
    ],
  },
  requantize: {
    args: 'oo',
    keys: ['rows', 'cols', 'powerOfTwo', '@offsets', 'groups'],
    needs: (s) => [
      ['out', n(s.rows) * n(s.cols), 'e4m3'],
      ['x', n(s.rows) * n(s.cols), 'e4m3'],
    ],
  },
  dequantize: {
    args: 'vo',
    keys: ['rows', 'cols'],
    needs: (s) => [
      ['out', n(s.rows) * n(s.cols), ...plain],
      ['x', n(s.rows) * n(s.cols), 'e4m3'],
    ],
  },
  rmsNorm: {
    args: 'vvvv',
    keys: ['rows', 'cols', 'epsilon'],
    needs: (s) => [
      ['y', n(s.rows) * n(s.cols), 'f32'],
      ['rstd', n(s.rows), 'f32'],
      ['x', n(s.rows) * n(s.cols), 'f32'],
      ['weight', n(s.cols), 'f32'],
    ],
  },
  rmsNormBackward: {
    args: 'vvvvvv',
    keys: ['rows', 'cols'],
    needs: (s) => [
      ['dx', n(s.rows) * n(s.cols), 'f32'],
      ['dweight', n(s.cols), 'f32'],
      ['dy', n(s.rows) * n(s.cols), 'f32'],
      ['x', n(s.rows) * n(s.cols), 'f32'],
      ['weight', n(s.cols), 'f32'],
      ['rstd', n(s.rows), 'f32'],
    ],
  },
  swiglu: { args: 'vvv', keys: [], needs: alike('out', 'gate', 'up') },
  swigluBackward: {
    args: 'vvvvv',
    keys: [],
    needs: alike('dgate', 'dup', 'dout', 'gate', 'up'),
  },
  rope: {
    args: 'vvvv',
    keys: [
      'rows',
      'heads',
      'width',
      'sequence',
      'start',
      'outStride',
      'outHeadStride',
      'outOffset',
      'xStride',
      'xHeadStride',
      'xOffset',
      'inverse',
      'sumHeads',
    ],
    needs: (_, args) => [
      ['out', null, ...plain],
      ['x', null, 'f32'],
      ['cos', null, 'f32'],
      ['sin', sizeAt(args, 2), 'f32'],
    ],
  },
  attention: {
    args: 'vvvvv',
    keys: ['batch', 'queries', 'keys', 'heads', 'queryWidth', 'valueWidth', 'scale'],
    needs: (s, args) => {
      const size = attentionNeeds(s);
      const { dtype } = args[2] as View;
      return [
        ['out', size.out ?? 0, 'f32'],
        ['lse', size.lse ?? 0, 'f32'],
        ['q', size.q ?? 0, ...plain],
        ['k', size.k ?? 0, dtype],
        ['v', size.v ?? 0, dtype],
      ];
    },
    flops: (s, args) => ({
      flops: 2 * attentionPairs(s) * (n(s.queryWidth) + n(s.valueWidth)),
      unit: unitOf(args[2]),
    }),
  },
  attentionBackward: {
    args: 'vvvvvvvvv',
    keys: ['batch', 'queries', 'keys', 'heads', 'queryWidth', 'valueWidth', 'scale'],
    needs: (s, args) => {
      const size = attentionNeeds(s);
      const { dtype } = args[4] as View;
      return [
        ['dq', size.q ?? 0, 'f32'],
        ['dk', size.k ?? 0, 'f32'],
        ['dv', size.v ?? 0, 'f32'],
        ['dout', size.out ?? 0, 'f32'],
        ['q', size.q ?? 0, ...plain],
        ['k', size.k ?? 0, dtype],
        ['v', size.v ?? 0, dtype],
        ['out', size.out ?? 0, 'f32'],
        ['lse', size.lse ?? 0, 'f32'],
      ];
    },
    flops: (s, args) => ({
      flops: 2 * attentionPairs(s) * (3 * n(s.queryWidth) + 2 * n(s.valueWidth)),
      unit: unitOf(args[4]),
    }),
  },
  embedding: {
    args: 'vvv',
    keys: ['rows', 'cols'],
    needs: (s) => [
      ['out', n(s.rows) * n(s.cols), 'f32'],
      ['weight', null, 'f32'],
      ['ids', n(s.rows), 'i32'],
    ],
  },
  embeddingBackward: {
    args: 'vvv',
    keys: ['rows', 'cols', 'vocab'],
    needs: (s) => [
      ['dweight', n(s.vocab) * n(s.cols), 'f32'],
      ['dout', n(s.rows) * n(s.cols), 'f32'],
      ['ids', n(s.rows), 'i32'],
    ],
  },
  linearCrossEntropy: {
    args: 'vvvv',
    keys: ['rows', 'hidden', 'vocab', '@rowScale', '@dx', '@dweight'],
    needs: (s, args) => {
      const { dtype } = args[1] as View;
      return [
        ['loss', n(s.rows), 'f32'],
        ['x', n(s.rows) * n(s.hidden), ...plain],
        ['weight', n(s.vocab) * n(s.hidden), dtype],
        ['targets', n(s.rows), 'i32'],
      ];
    },
    flops: (s, args) => ({
      flops: (s.dx ? 6 : 2) * n(s.rows) * n(s.hidden) * n(s.vocab),
      unit: unitOf(args[1]),
    }),
  },
  sigmoid: { args: 'vv', keys: [], needs: alike('out', 'x') },
  sigmoidBackward: { args: 'vvv', keys: [], needs: alike('dx', 'dy', 'y') },
  topK: {
    args: 'vvv',
    keys: ['tokens', 'experts', 'k', 'groups', 'groupsKept'],
    needs: (s) => [
      ['indices', n(s.tokens) * n(s.k), 'i32'],
      ['scores', n(s.tokens) * n(s.experts), 'f32'],
      ['bias', n(s.experts), 'f32'],
    ],
  },
  gateWeights: {
    args: 'vvv',
    keys: ['tokens', 'experts', 'k', 'scaling', 'normalize'],
    needs: (s) => [
      ['weights', n(s.tokens) * n(s.k), 'f32'],
      ['scores', n(s.tokens) * n(s.experts), 'f32'],
      ['indices', n(s.tokens) * n(s.k), 'i32'],
    ],
  },
  gateWeightsBackward: {
    args: 'vvvv',
    keys: ['tokens', 'experts', 'k', 'scaling', 'normalize'],
    needs: (s) => [
      ['dscores', n(s.tokens) * n(s.experts), 'f32'],
      ['dweights', n(s.tokens) * n(s.k), 'f32'],
      ['scores', n(s.tokens) * n(s.experts), 'f32'],
      ['indices', n(s.tokens) * n(s.k), 'i32'],
    ],
  },
  balanceLoss: {
    args: 'vvvv',
    keys: ['sequences', 'sequenceLength', 'experts', 'k', 'factor'],
    needs: (s) => {
      const tokens = n(s.sequences) * n(s.sequenceLength);
      return [
        ['loss', 1, 'f32'],
        ['dscores', tokens * n(s.experts), 'f32'],
        ['scores', tokens * n(s.experts), 'f32'],
        ['indices', tokens * n(s.k), 'i32'],
      ];
    },
  },
  route: {
    args: 'vvvvv',
    keys: ['tokens', 'k', 'experts'],
    needs: (s) => [
      ['counts', n(s.experts), 'i32'],
      ['offsets', n(s.experts) + 1, 'i32'],
      ['slotOfRow', n(s.tokens) * n(s.k), 'i32'],
      ['rowOfSlot', n(s.tokens) * n(s.k), 'i32'],
      ['indices', n(s.tokens) * n(s.k), 'i32'],
    ],
  },
  permute: {
    args: 'vvv',
    keys: ['rows', 'k', 'cols'],
    needs: (s, args) => {
      const { dtype } = args[0] as View;
      return [
        ['out', n(s.rows) * n(s.cols)],
        ['x', (n(s.rows) / n(s.k)) * n(s.cols), dtype],
        ['slotOfRow', n(s.rows), 'i32'],
      ];
    },
  },
  unpermute: {
    args: 'vvvv',
    keys: ['tokens', 'k', 'cols', 'accumulate'],
    needs: (s) => [
      ['out', n(s.tokens) * n(s.cols), 'f32'],
      ['y', n(s.tokens) * n(s.k) * n(s.cols), 'f32'],
      ['rowOfSlot', n(s.tokens) * n(s.k), 'i32'],
      ['weights', n(s.tokens) * n(s.k), 'f32'],
    ],
  },
  unpermuteBackward: {
    args: 'vvvvvv',
    keys: ['tokens', 'k', 'cols'],
    needs: (s) => [
      ['dy', n(s.tokens) * n(s.k) * n(s.cols), 'f32'],
      ['dweights', n(s.tokens) * n(s.k), 'f32'],
      ['dout', n(s.tokens) * n(s.cols), 'f32'],
      ['y', n(s.tokens) * n(s.k) * n(s.cols), 'f32'],
      ['weights', n(s.tokens) * n(s.k), 'f32'],
      ['rowOfSlot', n(s.tokens) * n(s.k), 'i32'],
    ],
  },
  updateRouterBias: {
    args: 'vv',
    keys: ['experts', 'speed'],
    needs: (s) => [
      ['bias', n(s.experts), 'f32'],
      ['counts', n(s.experts), 'i32'],
    ],
  },
  sum: {
    args: 'vv',
    keys: [],
    needs: () => [
      ['out', 1, 'f32'],
      ['x', null, 'f32'],
    ],
  },
  sumOfSquares: {
    args: 'vv',
    keys: [],
    needs: () => [
      ['out', 1, 'f32'],
      ['x', null, 'f32'],
    ],
  },
  clipFactor: {
    args: 'vvvvv',
    keys: ['maxNorm'],
    needs: () => [
      ['norm', 1, 'f32'],
      ['factor', 1, 'f32'],
      ['finite', 1, 'i32'],
      ['squares', null, 'f32'],
      ['loss', 1, 'f32'],
    ],
  },
  adamw: {
    args: 'vvvvvv',
    keys: ['learningRate', 'beta1', 'beta2', 'epsilon', 'weightDecay', 'step'],
    needs: (_, args) => [
      ['parameter', null, 'f32'],
      ['gradient', sizeAt(args, 0), 'f32'],
      ['m', sizeAt(args, 0), 'bf16'],
      ['v', sizeAt(args, 0), 'bf16'],
      ['factor', 1, 'f32'],
      ['finite', 1, 'i32'],
    ],
  },
};

/** The names of all kernels. */
export const kernelNames: readonly KernelName[] = Object.keys(signatures) as KernelName[];

/** Views, sizes and the trailing scalar of one call.
 * @param signature - the kernel's
 * @param args - what it was called with
 * @returns operands, and sizes (with `linearCrossEntropy`'s gradient merged in, and a trailing number as `value`)
 */
export function splitCall(
  signature: Signature,
  args: readonly unknown[],
): { operands: (Operand | null)[]; sizes: Sizes; value: number } {
  const count = signature.args.length;
  const operands = args.slice(0, count) as (Operand | null)[];
  let sizes: Sizes = {};
  let value = 0;
  for (const rest of args.slice(count))
    if (typeof rest === 'number') value = rest;
    else if (rest) sizes = { ...sizes, ...(rest as Sizes) };
  return { operands, sizes, value };
}

/** Number of scales a scaled matrix has at least.
 * @param x - the operand
 * @param rows - its rows
 * @param cols - its columns
 * @returns ⌈rows / blockRows⌉ · ⌈cols / blockCols⌉
 */
export function scaleCount(x: ScaledView, rows: number, cols: number): number {
  return Math.ceil(rows / x.blockRows) * Math.ceil(cols / x.blockCols);
}
