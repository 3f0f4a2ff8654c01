// Every choice of the recipe does what it says, seen in the operands that reach the products, and still gives FP32's
// results to FP8's accuracy.
import {
  cpuBuffer,
  isScaled,
  type Kernels,
  loadKernels,
  type Operand,
  referenceKernels,
  type ScaledView,
  type Summation,
  type SummationSizes,
  summationSizes,
} from '@baleen/kernels';
import {
  initialize,
  type LinearFactory,
  Pools,
  plainLinears,
  Region,
  Tape,
  tensorFrom,
} from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { decibels, firstDifference, implementationsOf, values } from '../../../test/support';
import {
  type Fp8Changes,
  type Fp8Recipe,
  fp8Linears,
  fp8Recipe,
  hopper,
  recipeLinears,
} from '../src/index';

const [rows, inner, outer] = [140, 136, 264];
const borders = Int32Array.of(0, 130, 140);

/** A scaled operand's format and blocks, and whether its scales are powers of two. */
interface Form {
  format: string;
  block: string;
  powerOfTwo: boolean;
}

function formOf(operand: Operand): Form {
  if (!isScaled(operand)) return { format: operand.dtype, block: 'none', powerOfTwo: false };
  const { scales, blockRows, blockCols } = operand satisfies ScaledView;
  const list = new Float32Array(cpuBuffer(scales), scales.byteOffset, scales.size);
  // Row groups may leave the last scales unused.
  const used = list.filter((scale) => scale > 0).slice(0, 100);
  return {
    format: operand.codes.dtype,
    block: `${blockRows}x${blockCols}`,
    powerOfTwo: used.every((scale) => Number.isInteger(Math.log2(scale))),
  };
}

/** What the three products of a layer take, and what they give. */
function run(kernels: Kernels, factory: LinearFactory, grouped: boolean, v3PowerOfTwo: boolean) {
  const operands: Form[][] = [];
  const sizes: SummationSizes[] = [];
  const listen = (a: Operand, b: Operand, given: SummationSizes): void => {
    operands.push([formOf(a), formOf(b)]);
    const { promotion, fractionBits, alignedSum } = given;
    sizes.push({
      ...(promotion !== undefined && { promotion }),
      ...(fractionBits !== undefined && { fractionBits }),
      ...(alignedSum !== undefined && { alignedSum }),
    });
  };
  const listening: Kernels = Object.assign(Object.create(kernels) as Kernels, {
    gemm: (...args: Parameters<Kernels['gemm']>) => {
      listen(args[1], args[2], args[3]);
      kernels.gemm(...args);
    },
    groupedGemm: (...args: Parameters<Kernels['groupedGemm']>) => {
      listen(args[1], args[2], args[4]);
      kernels.groupedGemm(...args);
    },
    groupedGemmWeight: (...args: Parameters<Kernels['groupedGemmWeight']>) => {
      listen(args[1], args[2], args[4]);
      kernels.groupedGemmWeight(...args);
    },
  });
  const pools = new Pools(listening);
  const spec = {
    in: inner,
    outs: { out: outer },
    powerOfTwo: v3PowerOfTwo,
    gradientPowerOfTwo: v3PowerOfTwo,
  };
  const layer = grouped
    ? factory.groupedLinear(pools, { ...spec, experts: 2 })
    : factory.linear(pools, spec);
  initialize(layer, 0.05, 1);
  const inputs = new Region(kernels, 'inputs');
  const x = tensorFrom(inputs, [rows, inner], values(rows * inner, 2));
  const g = tensorFrom(inputs, [rows, outer], values(rows * outer, 3));
  const offsets = tensorFrom(inputs, [3], borders);
  const tape = new Tape(new Region(listening, 'test'));
  const [y] = tape.frame('test', () => [layer.forward(tape, x, offsets).out]);
  const [dx] = tape.backFrame([y], [g], [x]);
  const [forward, inputGradient, weightGradient] = operands as [Form[], Form[], Form[]];
  return {
    sizes,
    forms: {
      x: forward[0],
      weight: forward[1],
      grad: inputGradient[0],
      weightBack: inputGradient[1],
      gradColumns: weightGradient[0],
      xColumns: weightGradient[1],
    },
    results: [y, dx, layer.weights.out.grad].map((t) => t?.readSync().slice() as Float32Array),
  };
}

/** The forms of V3's recipe. */
const v3 = (powerOfTwo: boolean): Record<string, Form> => ({
  x: { format: 'e4m3', block: '1x128', powerOfTwo },
  weight: { format: 'e4m3', block: '128x128', powerOfTwo: false },
  grad: { format: 'e4m3', block: '1x128', powerOfTwo },
  weightBack: { format: 'e4m3', block: '128x128', powerOfTwo: false },
  gradColumns: { format: 'e4m3', block: '128x1', powerOfTwo },
  xColumns: { format: 'e4m3', block: '128x1', powerOfTwo },
});

const choices: [
  string,
  Omit<Fp8Changes, 'layers'>,
  (v3PowerOfTwo: boolean) => Record<string, Partial<Form>>,
][] = [
  ['V3’s', {}, () => ({})],
  ...(['fp32', 'powerOfTwo'] as const).flatMap((scales): (typeof choices)[number][] => {
    const powerOfTwo = scales === 'powerOfTwo';
    return [
      [
        `activations scaled by ${scales}`,
        { activations: { scales } },
        () => ({ x: { powerOfTwo }, xColumns: { powerOfTwo } }),
      ],
      [
        `weights scaled by ${scales}`,
        { weights: { scales } },
        () => ({ weight: { powerOfTwo }, weightBack: { powerOfTwo } }),
      ],
      [
        `gradients scaled by ${scales}`,
        { gradients: { scales } },
        () => ({ grad: { powerOfTwo }, gradColumns: { powerOfTwo } }),
      ],
    ];
  }),
  [
    'weights in 1×128',
    { weights: { block: '1x128' } },
    () => ({ weight: { block: '1x128' }, weightBack: { block: '128x1' } }),
  ],
  [
    'gradients in 128×128',
    { gradients: { block: '128x128' } },
    () => ({ grad: { block: '128x128' }, gradColumns: { block: '128x128' } }),
  ],
  [
    'activations in E5M2',
    { activations: { format: 'e5m2' } },
    () => ({ x: { format: 'e5m2' }, xColumns: { format: 'e5m2' } }),
  ],
  [
    'weights in E5M2',
    { weights: { format: 'e5m2' } },
    () => ({ weight: { format: 'e5m2' }, weightBack: { format: 'e5m2' } }),
  ],
  [
    'gradients in E5M2',
    { gradients: { format: 'e5m2' } },
    () => ({ grad: { format: 'e5m2' }, gradColumns: { format: 'e5m2' } }),
  ],
  [
    'gradients in E5M2 and 128×128',
    { gradients: { format: 'e5m2', block: '128x128' } },
    () => ({
      grad: { format: 'e5m2', block: '128x128' },
      gradColumns: { format: 'e5m2', block: '128x128' },
    }),
  ],
];

/** Decibels that rounding leaves at least: a bit of the mantissa less costs six. */
const leastDecibels = (forms: Record<string, Form>): number =>
  Object.values(forms).some(({ format }) => format === 'e5m2') ? 17 : 22;

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  test.each(choices)(
    '%s: these forms reach the products, and FP32’s results come out',
    (_name, changes, change) => {
      for (const grouped of [false, true])
        for (const powerOfTwo of [false, true]) {
          const { forms, results } = run(kernels, fp8Linears(changes), grouped, powerOfTwo);
          const expected = v3(powerOfTwo);
          for (const [name, form] of Object.entries(change(powerOfTwo)))
            expected[name] = { ...expected[name], ...form };
          expect(forms).toEqual(expected);
          const exact = run(kernels, plainLinears('fp32'), grouped, powerOfTwo);
          exact.results.forEach((list, i) => {
            expect(decibels(list, results[i])).toBeGreaterThan(leastDecibels(forms));
          });
        }
    },
  );

  test.each<[string, Fp8Recipe['products']]>([
    ['promoted every 32', { promotion: 32, tensorCore: null }],
    ['on Hopper', { promotion: 128, tensorCore: hopper }],
    [
      'with 5 bits, its accumulator in FP32',
      {
        promotion: 64,
        tensorCore: { fractionBits: 5, accumulator: 'fp32' },
      },
    ],
  ])('%s: all three products are summed so', (_name, products) => {
    for (const grouped of [false, true]) {
      const plain = run(kernels, fp8Linears(), grouped, true);
      const { forms, sizes, results } = run(kernels, fp8Linears({ products }), grouped, true);
      expect(forms).toEqual(plain.forms);
      expect(sizes).toEqual([1, 2, 3].map(() => summationSizes(summationFor(products))));
      // No gradient of a later product can hide that an earlier one was summed as before: none depends on another.
      results.forEach((list, i) => {
        expect(firstDifference(list, plain.results[i])).not.toBe(-1);
        expect(decibels(plain.results[i], list)).toBeGreaterThan(25);
      });
    }
  });
});

/** A recipe's products as the kernels' options have them. */
function summationFor({ promotion, tensorCore }: Fp8Recipe['products']): Summation {
  return { promotion, ...(tensorCore && { tensorCore }) };
}

test('layers are in FP8 or BF16 as the recipe says', () => {
  const precisions = (changes?: Fp8Changes) =>
    Object.entries(recipeLinears(changes && fp8Recipe(changes))).map(([name, { precision }]) => [
      name,
      precision,
    ]);
  for (const name of ['attention', 'feedForward', 'experts'] as const)
    expect(precisions({ layers: { [name]: false } })).toEqual(
      ['attention', 'feedForward', 'experts'].map((each) => [each, each === name ? 'bf16' : 'fp8']),
    );
  expect(precisions()).toEqual(precisions(fp8Recipe()));
  expect(Object.fromEntries(precisions())).toEqual({
    attention: 'fp8',
    feedForward: 'fp8',
    experts: 'fp8',
  });
});

test('choices that there are not are refused, and named', () => {
  const refused = (path: string): unknown =>
    expect.objectContaining({ code: 'ERR_BALEEN_FP8_OPTION', path });
  expect(() => fp8Recipe({ gradients: { block: '64x64' as '1x128' } })).toThrow(
    refused('gradients.block'),
  );
  expect(() => fp8Linears({ kept: { swigluInputs: 'int4' as 'fp8' } })).toThrow(
    refused('kept.swigluInputs'),
  );
  expect(() => fp8Recipe({ weights: { scales: 'v3' as 'fp32' } })).toThrow(
    refused('weights.scales'),
  );
  expect(() => fp8Recipe({ gradients: { format: 'e5m6' as 'e5m2' } })).toThrow(
    refused('gradients.format'),
  );
  for (const promotion of [0, 1.5, 129, Infinity])
    expect(() => fp8Recipe({ products: { promotion } })).toThrow(refused('products.promotion'));
  expect(() =>
    fp8Recipe({ products: { tensorCore: { fractionBits: 0, accumulator: 'aligned' } } }),
  ).toThrow(refused('products.tensorCore.fractionBits'));
  expect(() => fp8Recipe({ layers: { head: true } as object })).toThrow(refused('layers.head'));
});
