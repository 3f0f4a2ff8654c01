// Parity with Hugging Face's DeepSeek-V3, in FP32, on every implementation of the kernels: logits, losses, routing,
// gradients, and greedy generation through the latent cache.
import { join } from 'node:path';

import { type Kernels, loadKernels, referenceKernels } from '@baleen/kernels';
import { lossWeights, mtpTargets } from '@baleen/mtp';
import { type Bundle, Region, Run, type Tensor, tensorFrom } from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { implementationsOf, largestDifference } from '../../../test/support';
import {
  checkpointPieces,
  configFromHuggingFace,
  Decoder,
  generate,
  loadWeights,
} from '../src/index';
import { openSafetensors, openWeights, readConfig } from '../src/node';

const implementations = implementationsOf(referenceKernels(), loadKernels());

function fixture(name: string, kernels: Kernels) {
  const folder = join(import.meta.dirname, 'fixtures', name);
  const model = new Decoder(kernels, configFromHuggingFace(readConfig(folder)), 'fp32');
  loadWeights(model, openWeights(folder));
  const reference = openSafetensors(join(folder, 'reference.safetensors'));
  const floats = (key: string): Float32Array => {
    const bytes = reference.read(key).slice();
    return new Float32Array(bytes.buffer);
  };
  const ints = (key: string): Int32Array => {
    const bytes = reference.read(key).slice();
    return reference.tensors.get(key)?.dtype === 'I32'
      ? new Int32Array(bytes.buffer)
      : Int32Array.from(new BigInt64Array(bytes.buffer), Number);
  };
  const [batch = 0, length = 0] = reference.tensors.get('input_ids')?.shape ?? [];
  return { model, reference, floats, ints, batch, length };
}

for (const [implementation, kernels] of implementations)
  describe(`${implementation} kernels`, () => {
    for (const name of ['hf-tiny', 'hf-tiny-noq', 'hf-tiny-yarn', 'hf-tiny-mtp'])
      describe(name, () => {
        const k = kernels;

        test('logits and greedy tokens', () => {
          const { model, floats, ints, batch, length } = fixture(name, k);
          const region = new Region(k, 'test');
          const ids = tensorFrom(new Region(k, 'inputs'), [batch, length], ints('input_ids'));
          const run = new Run(region, { grad: false });
          let out: Bundle = { ids };
          model.hiddenPhases().forEach((phase, index) => {
            out = run.forward(phase, index === 0 ? out : undefined);
          });
          run.tape.scoped(() => {
            const logits = model.logits(run.tape, out.h as Tensor).readSync();
            expect(largestDifference(logits, floats('logits'))).toBeLessThan(2e-4);
            return [];
          });
          run.finish();
          const greedy = ints('greedy_ids');
          const count = greedy.length / batch;
          for (let b = 0; b < batch; b += 1) {
            const prompt = ints('input_ids').slice(b * length, b * length + 8);
            const made = [...generate(model, prompt, { maxTokens: count })];
            expect(made).toEqual([...greedy.slice(b * count, (b + 1) * count)]);
          }
        });

        test('losses, routing and every gradient', () => {
          const { model, reference, floats, ints, batch, length } = fixture(name, k);
          const inputs = new Region(k, 'inputs');
          const region = new Region(k, 'test');
          const ids = ints('input_ids');
          const next = Int32Array.from(ids, (_, i) =>
            i % length === length - 1 ? -1 : (ids[i + 1] ?? -1),
          );
          const documents = reference.tensors.has('documents')
            ? ints('documents')
            : new Int32Array(ids.length);
          const nextDocuments = Int32Array.from(documents, (own, i) =>
            i % length === length - 1 ? own : (documents[i + 1] ?? 0),
          );
          const targets: Int32Array[] = [next];
          for (let depth = 1; depth <= model.config.mtp.depth; depth += 1)
            targets.push(
              mtpTargets(
                next,
                { inputs: documents, targets: nextDocuments },
                { batch, length, depth },
              ),
            );
          const counted = targets.map((list) => list.filter((target) => target >= 0).length);
          const scale = lossWeights(targets, counted, 0.3);
          const all = Int32Array.from(targets.flatMap((list) => [...list]));
          const run = new Run(region);
          const input = {
            ids: tensorFrom(inputs, [batch, length], ids),
            targets: tensorFrom(inputs, [all.length], all),
            rowScale: tensorFrom(inputs, [all.length], scale),
          };
          const phases = model.lossPhases();
          let losses: Tensor | undefined;
          const routed: { name: string; indices: number[][]; weights: number[][] }[] = [];
          phases.forEach((phase, index) => {
            const out = run.forward(phase, index === 0 ? input : undefined);
            if (phase.name.endsWith('dispatch')) routed.push(routingOf(phase.name, out, model));
            losses = out.losses as Tensor;
          });
          const values = losses?.readSync() as Float32Array;
          let total = 0;
          values.forEach((value, i) => {
            total += value * (scale[i] ?? 0);
          });
          expect(Math.abs(total - floats('loss')[0])).toBeLessThan(1e-5);
          let first = next.length;
          for (let depth = 1; depth < targets.length; depth += 1) {
            const list = targets[depth];
            let sum = 0;
            for (let i = 0; i < list.length; i += 1) sum += values[first + i] ?? 0;
            first += list.length;
            const expected = floats(`mtp_loss.${depth}`)[0];
            expect(Math.abs(sum / (counted[depth] ?? 1) - expected)).toBeLessThan(1e-5);
          }
          expect(routed.length).toBeGreaterThan(0);
          for (const { name: phase, indices, weights } of routed) {
            const layer = /^layers\.(\d+)/.exec(phase)?.[1];
            if (layer === undefined) continue;
            expect(indices.flat()).toEqual([...ints(`router.${layer}.indices`)]);
            expect(
              largestDifference(weights.flat(), floats(`router.${layer}.weights`)),
            ).toBeLessThan(1e-5);
          }
          const one = tensorFrom(inputs, [1], Float32Array.of(1));
          phases.forEach((_, index) => {
            run.backwardInput(index === 0 ? { losses: one } : undefined);
          });
          run.finish();
          expect(region.liveBytes).toBe(0);
          let compared = 0;
          for (const { name: key, grad } of checkpointPieces(model)) {
            if (!grad || !reference.tensors.has(`grad.${key}`)) continue;
            compared += 1;
            const expected = floats(`grad.${key}`);
            const norm = Math.sqrt(expected.reduce((sum, value) => sum + value * value, 0));
            const got = grad.readSync();
            let difference = 0;
            for (let i = 0; i < expected.length; i += 1)
              difference += ((got[i] ?? NaN) - (expected[i] ?? NaN)) ** 2;
            expect(Math.sqrt(difference), key).toBeLessThanOrEqual(1e-3 * norm + 1e-9);
          }
          const named = [...reference.tensors.keys()].filter((key) => key.startsWith('grad.'));
          expect(compared).toBe(named.length);
        });
      });
  });

/** Chosen experts and weights of every token, ordered by expert. */
function routingOf(name: string, out: Record<string, unknown>, model: Decoder) {
  const rowOfSlot = (out.rowOfSlot as Tensor).readSync();
  const offsets = (out.offsets as Tensor).readSync();
  const gates = (out.gates as Tensor).readSync();
  const k = model.config.moe.expertsPerToken;
  const indices: number[][] = [];
  const weights: number[][] = [];
  for (let t = 0; t < rowOfSlot.length / k; t += 1) {
    const chosen = Array.from({ length: k }, (_, j) => {
      const row = rowOfSlot[t * k + j] ?? -1;
      const expert = offsets.findLastIndex((start) => start <= row);
      return { expert, weight: gates[t * k + j] ?? NaN };
    }).sort((a, b) => a.expert - b.expert);
    indices.push(chosen.map(({ expert }) => expert));
    weights.push(chosen.map(({ weight }) => weight));
  }
  return { name, indices, weights };
}
