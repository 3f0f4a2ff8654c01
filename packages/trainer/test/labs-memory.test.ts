// The lab of memory: bytes worked out by hand from the shapes of what is kept.
import { expect, test } from 'vitest';

import { presets, runLab, type TrainConfig } from '../src/index';
import { fp8Memory, stepMemory } from '../src/labs/fp8-memory';

/** A dense layer and a layer with experts, without multi-token prediction, whose rows are whole tiles of 128. */
function config(changes: Partial<TrainConfig> = {}): TrainConfig {
  const tiny = presets.tiny();
  const { attention, moe } = tiny.model;
  return {
    ...tiny,
    model: {
      ...tiny.model,
      vocabSize: 256,
      hiddenSize: 128,
      layers: 2,
      denseLayers: 1,
      intermediateSize: 256,
      maxSequence: 64,
      attention: { ...attention, heads: 4, valueDim: 32 },
      moe: {
        ...moe,
        routedExperts: 8,
        sharedExperts: 1,
        expertsPerToken: 2,
        intermediateSize: 128,
      },
      mtp: { depth: 0 },
    },
    batch: { sequence: 64, sequences: 2, microBatch: 2, rampFrom: 2, rampShare: 0, rampBy: null },
    ...changes,
  };
}

const tokens = 128;
/** What a value takes beside its scale, an FP32 for 128. */
const scale = 4 / 128;

test('what each cache saves is what its values take in the larger form', () => {
  const v3 = stepMemory(config());
  const { fp8, optimizer } = config();
  const kept = (changes: Partial<TrainConfig['fp8']['kept']>): number =>
    stepMemory(config({ fp8: { ...fp8, kept: { ...fp8.kept, ...changes } } })).activations;
  // Both inputs of a SwiGLU: 256 wide in the dense layer, 128 in the shared expert and in two experts a token.
  const inputs = 2 * tokens * (256 + 128 + 2 * 128);
  expect(kept({ swigluInputs: 'bf16' }) - v3.activations).toBe(inputs * (2 - 1 - scale));
  expect(kept({ swigluInputs: 'fp32' }) - v3.activations).toBe(inputs * (4 - 1 - scale));
  // Two layers' attention, 4 heads of 32.
  const outputs = 2 * tokens * 128;
  expect(kept({ attentionOutput: 'bf16' }) - v3.activations).toBe(outputs * (2 - 1.5 - scale));
  // As FP32 it is not put into the projection's form a second time: that form waits as well.
  expect(kept({ attentionOutput: 'fp32' }) - v3.activations).toBe(outputs * (4 + 1 - 1.5));
  // Norms and SwiGLU's output are recomputed: nothing else waits as the input of a linear layer.
  const layers = { attention: false, feedForward: false, experts: false };
  expect(stepMemory(config({ fp8: { ...fp8, layers } })).activations).toBe(v3.activations);

  const high = stepMemory(config({ optimizer: { ...optimizer, moments: 'fp32' } }));
  expect(high.activations).toBe(v3.activations);
  const difference = high.optimizer - v3.optimizer;
  expect(difference / v3.parameters).toBeCloseTo(4, 1);
  expect(v3.tokens).toBe(tokens);
});

test('the grid has every model with and without every cache; the verdict is of the smallest ratio', async () => {
  const rows: Record<string, string | number>[] = [];
  const { result, notes, values } = await runLab(
    {
      ...fp8Memory,
      settings: {
        quick: { models: ['tiny'], microBatches: [1, 2] },
        full: fp8Memory.settings.full,
      },
    },
    { onRow: (row) => rows.push(row) },
  );
  expect(rows.map(({ without }) => without)).toEqual(
    [1, 2].flatMap(() => [
      'nothing',
      'linear inputs in FP8',
      'SwiGLU inputs in FP8',
      'attention output in E5M6',
      'moments in BF16',
      'all of them',
    ]),
  );
  expect(rows[3]['of V3’s']).toBeGreaterThan(1);
  expect(rows[4]['optimizer, bytes a parameter']).toBeCloseTo(8, 1);
  expect(result).toMatchObject({ n: 8, ci95: null, measured: rows[11]['of V3’s'] });
  const activations = rows.slice(1, 4).concat(rows.slice(7, 10));
  expect(values[0]).toBe(Math.min(...activations.map((row) => row['of V3’s'] as number)));
  // The first cache has nothing to keep, see above.
  expect(values[0]).toBe(1);
  expect(result.verdict).toBe('fails');
  for (const row of [rows[2], rows[3]]) expect(row['of V3’s']).toBeGreaterThan(1);
  expect(notes).toHaveLength(4);
  expect(notes[3]).toContain('× 2.00');
});
