// Bugs of whole models that other implementations shipped. Each test is named after its bug, and test/conformance holds
// the patch that brings the bug back.
import { loadKernels, referenceKernels } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import { decibels, firstDifference, implementationsOf } from '../../../test/support';
import {
  clearGradients,
  gradientsOf,
  randomBatch,
  runBatch,
  sequencesOf,
  smallModel,
  targetsOf,
} from './small';

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  // NVIDIA/Megatron-LM#1532 and #3159, pytorch/torchtitan#3864
  test('gradients change with the number of micro-batches', () => {
    const model = smallModel(kernels);
    const batch = randomBatch(4, 7, 11);
    const run = (microBatch: number) => {
      clearGradients(model);
      const { total } = runBatch(model, batch, microBatch, { alpha: 0.5 });
      return { total, gradients: gradientsOf(model) };
    };
    const whole = run(4);
    // Documents end at different places: the micro-batches count different numbers of positions at every depth.
    for (const depth of [0, 1, 2]) {
      const counts = [0, 1, 2, 3].map(
        (b) => targetsOf(sequencesOf(batch, b, 1), 2)[depth].filter((t) => t >= 0).length,
      );
      expect(depth === 0 || new Set(counts).size > 1).toBe(true);
    }
    for (const microBatch of [2, 1]) {
      const parts = run(microBatch);
      expect(Math.abs(parts.total - whole.total)).toBeLessThan(2e-6);
      for (const [name, gradient] of whole.gradients)
        expect(
          decibels(gradient, parts.gradients.get(name) ?? []),
          `${name} in micro-batches of ${microBatch}`,
        ).toBeGreaterThan(90);
    }
  });

  // AI-Hypercomputer/maxtext#1977
  test('positions run on from one sequence to the next', () => {
    const model = smallModel(kernels);
    // One document, so that every position counts.
    const documents = { inputs: new Int32Array(9), targets: new Int32Array(9) };
    const one = { ...randomBatch(1, 9, 5), documents };
    const twice = (list: Int32Array): Int32Array => Int32Array.from([...list, ...list]);
    const two = {
      length: 9,
      ids: twice(one.ids),
      next: twice(one.next),
      documents: { inputs: twice(one.documents.inputs), targets: twice(one.documents.targets) },
    };
    const [alone] = runBatch(model, one, 1, { backward: false }).losses;
    const [both] = runBatch(model, two, 2, { backward: false }).losses;
    let start = 0;
    for (const length of [9, 8, 7]) {
      const own = alone.slice(start, start + length);
      expect(own.some((loss) => loss > 0)).toBe(true);
      for (const copy of [0, 1]) {
        const first = 2 * start + copy * length;
        expect(firstDifference(both.slice(first, first + length), own)).toBe(-1);
      }
      start += length;
    }
  });

  test('loads are counted twice under recomputation, or once a micro-batch, or in evaluation', () => {
    const model = smallModel(kernels);
    const batch = randomBatch(4, 7, 12);
    const loads = (): number[] =>
      model.routers.map(({ load }) => [...load.readSync()].reduce((sum, count) => sum + count, 0));
    runBatch(model, batch, 1);
    // Two experts a token, over 7, 6 and 5 positions of four sequences; everything was recomputed once.
    expect(loads()).toEqual([7 * 4 * 2, 6 * 4 * 2, 5 * 4 * 2]);
    const before = model.routers.map(({ load }) => [...load.readSync()]);
    clearGradients(model);
    for (const router of model.routers) router.updateBias(0.01);
    expect(loads()).toEqual([0, 0, 0]);
    runBatch(model, batch, 4);
    // The bias moved, so single choices may differ, but what is counted does not.
    expect(loads()).toEqual([7 * 4 * 2, 6 * 4 * 2, 5 * 4 * 2]);
    expect(before.flat().some((count) => count > 0)).toBe(true);
  });
});
