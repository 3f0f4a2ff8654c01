// Packed documents whose attention is kept apart: losses and gradients, those of multi-token prediction among them, are what
// the documents give alone; and micro-batches that hold them leave nothing behind.
import { loadKernels, referenceKernels } from '@baleen/kernels';
import { documentBorders } from '@baleen/mla';
import { type Bundle, Region, Run, type Tensor, tensorFrom } from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { decibels, implementationsOf, largestDifference } from '../../../test/support';
import type { Decoder, Precision } from '../src/index';
import {
  clearGradients,
  gradientsOf,
  type HostBatch,
  randomBatch,
  smallModel,
  targetsOf,
} from './small';

/** Tokens of each document, in two sequences of 13; the shortest has a target for every depth. */
const lengths = [
  [4, 9],
  [3, 3, 7],
];
const length = 13;
const depth = 2;

/** Both sequences; a document's last token has no target. */
function packedBatch(): HostBatch {
  const batch = randomBatch(2, length, 5);
  const documents = { inputs: new Int32Array(2 * length), targets: new Int32Array(2 * length) };
  let at = 0;
  lengths.flat().forEach((count, d) => {
    documents.inputs.fill(d, at, at + count);
    documents.targets.fill(d, at, at + count);
    at += count;
    batch.next[at - 1] = -1;
  });
  return { ...batch, documents };
}

/** The documents one by one. */
function alone(batch: HostBatch): HostBatch[] {
  let at = 0;
  return lengths.flat().map((count) => {
    const cut = (x: Int32Array): Int32Array => x.slice(at, at + count);
    const { inputs, targets } = batch.documents;
    const own = {
      length: count,
      ids: cut(batch.ids),
      next: cut(batch.next),
      documents: { inputs: cut(inputs), targets: cut(targets) },
    };
    at += count;
    return own;
  });
}

/** Losses of the positions that count, by depth; gradients of their sum are added. */
function run(model: Decoder, batch: HostBatch, masked: boolean): number[][] {
  const { kernels } = model;
  const inputs = new Region(kernels, 'inputs');
  const region = new Region(kernels, 'micro-batch');
  const sequences = batch.ids.length / batch.length;
  const lists = targetsOf(batch, depth);
  const targets = Int32Array.from(lists.flatMap((list) => [...list]));
  const input: Record<string, Tensor> = {
    ids: tensorFrom(inputs, [sequences, batch.length], batch.ids),
    targets: tensorFrom(inputs, [targets.length], targets),
    rowScale: tensorFrom(
      inputs,
      [targets.length],
      Float32Array.from(targets, (t) => +(t >= 0)),
    ),
  };
  if (masked)
    for (let k = 0; k <= depth; k += 1) {
      const sizes = { batch: sequences, length: batch.length, rows: batch.length - k };
      const borders = documentBorders(batch.documents.inputs, sizes);
      input[k === 0 ? 'borders' : `borders${k}`] = tensorFrom(inputs, [borders.length], borders);
    }
  const pass = new Run(region);
  const phases = model.lossPhases();
  let out: Bundle = input;
  phases.forEach((phase, p) => {
    out = pass.forward(phase, p === 0 ? out : undefined);
  });
  const losses = (out.losses as Tensor).readSync().slice();
  const one = tensorFrom(inputs, [1], Float32Array.of(1));
  phases.forEach((_, p) => {
    pass.backwardInput(p === 0 ? { losses: one } : undefined);
  });
  pass.finish();
  expect(region.liveBytes).toBe(0);
  let start = 0;
  return lists.map((list) => {
    const own = [...list.keys()].filter((i) => list[i] >= 0).map((i) => losses[start + i]);
    start += list.length;
    return own;
  });
}

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  test.each<[Precision, number]>([
    ['fp32', 90],
    ['bf16', 28],
    ['fp8', 12],
  ])('%s: losses and gradients are those of the documents alone', (precision, least) => {
    const model = smallModel(kernels, {}, precision);
    const batch = packedBatch();
    clearGradients(model);
    const packed = run(model, batch, true);
    const gradients = gradientsOf(model);
    clearGradients(model);
    const apart: number[][] = [[], [], []];
    for (const one of alone(batch))
      run(model, one, false).forEach((list, k) => {
        apart[k].push(...list);
      });
    packed.forEach((list, k) => {
      expect(list.length).toBe(26 - 5 * (k + 1));
      expect(decibels(apart[k], list), `losses of depth ${k}`).toBeGreaterThan(least);
    });
    for (const [name, gradient] of gradientsOf(model))
      if (gradient.some((value) => value !== 0))
        expect(decibels(gradient, gradients.get(name) ?? []), name).toBeGreaterThan(least);
    // Attention that is not masked sees other documents.
    const mixed = run(model, batch, false);
    for (const [k, list] of mixed.entries())
      expect(largestDifference(list, packed[k])).toBeGreaterThan(0.05);
  });
});
