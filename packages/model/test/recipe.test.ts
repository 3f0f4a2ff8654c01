// The FP8 recipe in the model: layers run in what it names, and what it keeps in fewer bits takes that many bytes fewer,
// changes no bit of the loss and little of the gradients.
import { type Fp8Changes, fp8Recipe } from '@baleen/fp8';
import { type Kernels, loadKernels, nullKernels, referenceKernels } from '@baleen/kernels';
import { initialize, type KeptForms, Region, Run, type Tensor, tensorFrom } from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { decibels, implementationsOf } from '../../../test/support';
import { Decoder, type ModelConfig, type Precision } from '../src/index';
import { smallConfig } from './small';

const config: ModelConfig = {
  ...smallConfig,
  hiddenSize: 64,
  layers: 3,
  intermediateSize: 192,
  attention: { ...smallConfig.attention, valueDim: 40 },
  moe: { ...smallConfig.moe, intermediateSize: 96 },
  mtp: { depth: 0 },
};
const [batch, length] = [3, 12];
const rows = batch * length;
const plain: KeptForms = { swigluInputs: 'fp32', attentionOutput: 'fp32' };

/** A micro-batch forward and back: losses, gradients, what was held in between, and the most ever. */
function run(kernels: Kernels, precision: Precision, changes: Fp8Changes = {}) {
  const model = new Decoder(kernels, config, precision, { fp8: fp8Recipe(changes) });
  initialize(model, 0.1, 3);
  const inputs = new Region(kernels, 'inputs');
  const token = (i: number): number => (i * 7 + ((i * i) % 5)) % config.vocabSize;
  const ids = Int32Array.from({ length: rows }, (_, i) => token(i));
  const input = {
    ids: tensorFrom(inputs, [batch, length], ids),
    targets: tensorFrom(
      inputs,
      [rows],
      ids.map((_, i) => token(i + 1)),
    ),
    rowScale: tensorFrom(inputs, [rows], new Float32Array(rows).fill(1 / rows)),
  };
  const one = tensorFrom(inputs, [1], Float32Array.of(1));
  const region = new Region(kernels, 'test');
  const phases = model.lossPhases();
  const measured = new Run(region);
  let losses: Float32Array = new Float32Array(0);
  phases.forEach((phase, p) => {
    const out = measured.forward(phase, p === 0 ? input : undefined);
    if (kernels.implementation !== 'null' && 'losses' in out) losses = copyOf(out.losses as Tensor);
  });
  const held = region.liveBytes;
  phases.forEach((_, p) => {
    measured.backwardInput(p === 0 ? { losses: one } : undefined);
  });
  measured.finish();
  expect(region.liveBytes).toBe(0);
  const gradients =
    kernels.implementation === 'null'
      ? []
      : [...model.parameters()].map(([, { grad }]) => copyOf(grad));
  return { losses, gradients, held, peak: region.peakBytes };
}

function copyOf(x: Tensor): Float32Array {
  return x.readSync().slice() as Float32Array;
}

/** No layer in FP8: its rounding of gradients would hide what a smaller form changes. */
const none = { attention: false, feedForward: false, experts: false };
const kept = (changes: Partial<KeptForms>): Fp8Changes => ({ kept: { ...plain, ...changes } });

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  test('without any layer in FP8 it is the model in BF16, and each kind of layer makes it another', () => {
    const bf16 = run(kernels, 'bf16');
    const all = run(kernels, 'fp8', { layers: none, kept: plain });
    expect([all.losses, all.gradients]).toEqual([bf16.losses, bf16.gradients]);
    for (const name of ['attention', 'feedForward', 'experts'] as const) {
      const { losses } = run(kernels, 'fp8', { layers: { ...none, [name]: true } });
      expect(losses).not.toEqual(bf16.losses);
      expect(decibels(bf16.losses, losses)).toBeGreaterThan(22);
    }
  });

  test.each(forms())('%s: the losses to the bit, gradients to %d dB', (_name, least, changes) => {
    const full = run(kernels, 'fp8', { layers: none, ...kept({}) });
    const { losses, gradients } = run(kernels, 'fp8', { layers: none, ...kept(changes) });
    expect(losses).toEqual(full.losses);
    const all = (lists: Float32Array[]) => lists.flatMap((list) => [...list]);
    const near = decibels(all(full.gradients), all(gradients));
    expect(near).toBeGreaterThan(least);
    expect(near).toBeLessThan(80);
  });
});

function forms(): [string, number, Partial<KeptForms>][] {
  return [
    ['SwiGLU’s inputs in FP8', 26, { swigluInputs: 'fp8' }],
    ['SwiGLU’s inputs in BF16', 43, { swigluInputs: 'bf16' }],
    ['attention’s output in E5M6', 43, { attentionOutput: 'e5m6' }],
    ['attention’s output in BF16', 43, { attentionOutput: 'bf16' }],
    ['attention’s output in FP8', 26, { attentionOutput: 'fp8' }],
  ];
}

const rounded = (bytes: number): number => Math.ceil(bytes / 64) * 64;

/** Bytes of a matrix in a form. */
function bytesOf(form: string, height: number, width: number): number {
  const scales = rounded(4 * height * Math.ceil(width / 128));
  if (form === 'fp8') return rounded(height * width) + scales;
  if (form === 'e5m6') return rounded(1.5 * height * width) + scales;
  return rounded((form === 'bf16' ? 2 : 4) * height * width);
}

test('each form holds as many bytes fewer as it is smaller, and the most ever held is less', () => {
  const kernels = nullKernels();
  const full = run(kernels, 'fp8', kept({}));
  const { moe } = config;
  const perToken = moe.expertsPerToken;
  for (const form of ['bf16', 'e5m6', 'fp8'] as const) {
    // One dense layer, two with experts; each has gate and up, and a shared expert's beside the routed ones'.
    const gates = (f: string): number =>
      2 * bytesOf(f, rows, config.intermediateSize) +
      4 * bytesOf(f, rows * perToken, moe.intermediateSize) +
      4 * bytesOf(f, rows, moe.intermediateSize);
    const smaller = run(kernels, 'fp8', kept({ swigluInputs: form }));
    expect(full.held - smaller.held).toBe(gates('fp32') - gates(form));
    expect(smaller.peak).toBeLessThan(full.peak);

    // What the projection takes in FP8 is kept beside FP32, and made again from any other form.
    const width = config.attention.heads * config.attention.valueDim;
    const outputs = (f: string): number => 3 * bytesOf(f, rows, width);
    const attention = run(kernels, 'fp8', kept({ attentionOutput: form }));
    const fewer = outputs('fp32') + outputs('fp8') - outputs(form);
    expect(full.held - attention.held).toBe(fewer);
    expect(attention.peak).toBeLessThan(full.peak);
  }
});
