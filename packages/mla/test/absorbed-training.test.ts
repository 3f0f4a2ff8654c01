// The absorbed form in training: value and all gradients, the weights' among them, are those of the expanded form.
import { type Kernels, loadKernels, referenceKernels } from '@baleen/kernels';
import { plainLinears, Tape, type Tensor, tensorFrom } from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import {
  decibels,
  firstDifference,
  implementationsOf,
  largestDifference,
  values,
} from '../../../test/support';
import type { AttentionForm } from '../src/index';
import { batch, length, setup, type Variant, variants } from './layers';

type Results = Map<string, Float32Array>;

/** Output and gradients of one pass. */
function pass(
  kernels: Kernels,
  variant: Variant,
  form: AttentionForm,
  precision: 'fp32' | 'bf16',
  deferWeightGrads = false,
): Results {
  const { layer, x, region } = setup(kernels, { ...variant, form }, plainLinears(precision));
  const tape = new Tape(region, { deferWeightGrads });
  const results: Results = new Map();
  const keep = (name: string, value: Tensor | undefined): void => {
    if (value) results.set(name, value.readSync().slice() as Float32Array);
  };
  const [y] = tape.frame('attention', () => [layer.forward(tape, x, batch)]);
  keep('output', y);
  const dy = tensorFrom(x.block.region, y.shape, values(y.size, 11));
  const [dx] = tape.backFrame([y], [dy], [x]);
  keep('input', dx);
  const waiting = tape.pendingWeightGrads;
  if (deferWeightGrads)
    tape.drainWeightGrads(Array.from({ length: waiting }, (_, i) => waiting - 1 - i));
  for (const [name, { grad }] of layer.parameters()) keep(name, grad);
  return results;
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  test.each(variants)('%s: value and gradients in FP32', (_name, variant) => {
    const expanded = pass(kernels, variant, 'expanded', 'fp32');
    const absorbed = pass(kernels, variant, 'absorbed', 'fp32');
    expect([...absorbed.keys()]).toEqual([...expanded.keys()]);
    for (const [name, value] of expanded) {
      expect(Math.hypot(...value), name).toBeGreaterThan(0.01);
      expect(decibels(value, absorbed.get(name) ?? []), name).toBeGreaterThan(100);
    }
  });

  test('value and gradients in BF16, as far as it rounds', () => {
    const [, [, variant]] = variants;
    const expanded = pass(kernels, variant, 'expanded', 'bf16');
    const absorbed = pass(kernels, variant, 'absorbed', 'bf16');
    for (const [name, value] of expanded)
      expect(decibels(value, absorbed.get(name) ?? []), name).toBeGreaterThan(25);
  });

  test('weight gradients that wait are the same bits', () => {
    const [[, variant]] = variants;
    const at = pass(kernels, variant, 'absorbed', 'fp32');
    const later = pass(kernels, variant, 'absorbed', 'fp32', true);
    for (const [name, value] of at)
      expect(firstDifference(value, later.get(name) ?? []), name).toBe(-1);
  });
});

test('it leaves nothing behind, and gradients of a second pass are added', () => {
  const kernels = referenceKernels();
  const [[, variant]] = variants;
  const { layer, x, region } = setup(kernels, { ...variant, form: 'absorbed' });
  const weight = new Map(layer.parameters()).get('kvUp.weight');
  const after: Float32Array[] = [];
  for (let i = 0; i < 2; i += 1) {
    const tape = new Tape(region);
    const [y] = tape.frame('attention', () => [layer.forward(tape, x, batch)]);
    const dy = tensorFrom(x.block.region, y.shape, values(y.size, 11));
    for (const gradient of tape.backFrame([y], [dy], [x])) gradient?.block.release();
    y.block.release();
    expect(region.liveBytes).toBe(0);
    after.push(weight?.grad.readSync().slice() as Float32Array);
  }
  const twice = after[0].map((value) => 2 * value);
  expect(largestDifference(after[1], twice)).toBeLessThan(1e-6 * Math.hypot(...twice));
});

test('documents are refused: they would see each other', () => {
  const [[, variant]] = variants;
  const { layer, x, region } = setup(referenceKernels(), { ...variant, form: 'absorbed' });
  const borders = tensorFrom(x.block.region, [2], Int32Array.of(0, batch * length));
  const tape = new Tape(region, { grad: false });
  let error: unknown;
  try {
    tape.scoped(() => [layer.forward(tape, x, batch, borders)]);
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toMatchObject({ code: 'ERR_BALEEN_MLA_SIZES', path: 'documents' });
});
