// Configurations: presets are complete, layers win in order and keep their origins, and what cannot be is refused with a
// remedy.

import { nullKernels } from '@baleen/kernels';
import { Decoder } from '@baleen/model';
import { describe, expect, test } from 'vitest';

import {
  configJsonSchema,
  configKeys,
  modelConfigOf,
  type PresetName,
  presetDescriptions,
  presets,
  resolveConfig,
} from '../src/index';

const names = Object.keys(presets) as PresetName[];

/** What resolving these values on top of `tiny` throws. */
function refusal(values: unknown): {
  code?: string;
  path?: string;
  hint?: string;
  message: string;
} {
  try {
    resolveConfig([
      { origin: 'preset tiny', values: presets.tiny() },
      { origin: 'flag', values },
    ]);
  } catch (error) {
    return error as Error;
  }
  throw new Error(`${JSON.stringify(values)} was accepted`);
}

/** Whether an object that the key lies in is null. */
function isAbsent(config: unknown, key: string): boolean {
  const around = key.split('.').slice(0, -1);
  let at = config as Record<string, unknown> | null;
  for (const part of around) at = at && (at[part] as Record<string, unknown> | null);
  return at === null;
}

test.each(names)('preset %s is complete, consistent and described', (name) => {
  const { config, origins } = resolveConfig([
    { origin: `preset ${name}`, values: presets[name]() },
  ]);
  expect(config).toEqual(presets[name]());
  const keys = configKeys().map(({ key }) => key);
  for (const key of keys) {
    const parts = Object.keys(origins).filter((part) => part === key || part.startsWith(`${key}.`));
    expect(parts.length > 0, key).toBe(!isAbsent(config, key));
  }
  expect(Object.keys(origins).filter((key) => !keys.includes(key))).toEqual([]);
  expect(presetDescriptions[name].length).toBeGreaterThan(20);
});

test('v3-671b has the published number of parameters', () => {
  const main = { ...modelConfigOf(presets['v3-671b'](), 0), mtp: { depth: 0 } };
  const model = new Decoder(nullKernels(), main, 'fp8');
  // 671,026,419,200 in the published weights, router biases (state here, 58 layers of 256) included.
  expect(model.parameterCount + 58 * 256).toBe(671_026_419_200);
});

test('later layers win, arrays are replaced, and every value knows its origin', () => {
  const { config, origins } = resolveConfig([
    { origin: 'preset tiny', values: presets.tiny() },
    {
      origin: 'file x.yaml',
      values: { steps: 7, batch: { sequences: 32 }, data: { sources: ['a'] } },
    },
    { origin: 'flag', values: { steps: 9 } },
  ]);
  expect(config.steps).toBe(9);
  expect(config.batch).toEqual({ ...presets.tiny().batch, sequences: 32 });
  expect(config.data.sources).toEqual(['a']);
  expect(origins.steps).toBe('flag');
  expect(origins['batch.sequences']).toBe('file x.yaml');
  expect(origins['batch.sequence']).toBe('preset tiny');
});

test('every key has a description and a type, and the schema of files requires none', () => {
  const keys = configKeys();
  expect(keys.length).toBeGreaterThan(50);
  for (const key of keys) {
    expect(key.description, key.key).not.toBe('');
    expect(['number', 'string', 'boolean', 'array', 'object']).toContain(key.type);
  }
  expect(keys.find(({ key }) => key === 'precision')?.choices).toEqual(['fp8', 'bf16', 'fp32']);
  expect(keys.find(({ key }) => key === 'model.attention.queryRank')).toMatchObject({
    type: 'number',
    nullable: true,
    takes: 'a whole number from 1 or null',
  });
  expect(JSON.stringify(configJsonSchema())).not.toContain('"required"');
});

describe('what cannot be is refused', () => {
  test('an unknown key names the nearest', () => {
    expect(refusal({ batch: { sequencs: 3 } })).toMatchObject({
      code: 'ERR_BALEEN_CONFIG_UNKNOWN',
      path: 'batch.sequencs',
      hint: expect.stringMatching(/batch\.sequence/) as string,
    });
    expect(refusal({ routedExperts: 3 }).hint).toBe('did you mean model.moe.routedExperts?');
  });
  test.each([
    ['top-k above the experts', { model: { moe: { expertsPerToken: 9 } } }, 'TOP_K'],
    [
      'top-k above the experts in reach',
      { model: { moe: { groupsPerToken: 1, expertsPerToken: 3 } } },
      'TOP_K',
    ],
    ['groups that do not divide', { model: { moe: { groups: 3 } } }, 'GROUPS'],
    ['an odd rotary width', { model: { attention: { ropeDim: 15 } } }, 'ROPE'],
    ['a sequence of 0', { batch: { sequence: 0 } }, 'VALUE'],
    ['a sequence beyond the model', { batch: { sequence: 257 } }, 'SEQUENCE'],
    ['a sequence that depths use up', { batch: { sequence: 1 } }, 'SEQUENCE'],
    ['a micro-batch that does not divide', { batch: { microBatch: 5 } }, 'BATCH'],
    ['a ramp from above', { batch: { rampFrom: 32 } }, 'BATCH'],
    [
      'a ramp between micro-batches',
      { batch: { rampFrom: 3, rampShare: 0.5, microBatch: 4 } },
      'BATCH',
    ],
    ['a ramp by parts of micro-batches', { batch: { rampBy: 4, microBatch: 8 } }, 'BATCH'],
    ['a BPE without a size', { data: { tokenizer: { kind: 'bpe' } } }, 'TOKENIZER'],
    ['bytes with a size', { data: { tokenizer: { vocabSize: 300 } } }, 'TOKENIZER'],
    ['shares beyond the run', { schedule: { learningRate: { warmupShare: 0.9 } } }, 'SCHEDULE'],
    ['a word for a number', { steps: 'many' }, 'VALUE'],
    ['an unknown precision', { precision: 'fp4' }, 'VALUE'],
    ['an unknown form', { fp8: { kept: { swigluInputs: 'e5m2' } } }, 'VALUE'],
    [
      'a recipe for another precision',
      { precision: 'bf16', fp8: { weights: { scales: 'powerOfTwo' } } },
      'PRECISION',
    ],
  ])('%s', (_, values, what) => {
    const error = refusal(values);
    expect(error.code).toBe(`ERR_BALEEN_CONFIG_${what}`);
    expect(error.message).toMatch(/^config\./);
    expect(error.path).not.toBe('');
    expect(error.hint?.length).toBeGreaterThan(5);
  });

  test.each([
    [{ steps: -1 }, 'steps', 'give a whole number from 1 (optimizer updates)'],
    [
      { data: { tokenizer: { vocabSize: 2 } } },
      'data.tokenizer.vocabSize',
      'give a whole number from 258 or null (tokens of a BPE; null for bytes)',
    ],
    [
      { optimizer: { epsilon: 0 } },
      'optimizer.epsilon',
      'give a number above 0 (AdamW: added to the root of the second moment)',
    ],
    [
      { optimizer: { beta1: 1 } },
      'optimizer.beta1',
      'give a number from 0 to below 1 (AdamW: decay of the first moment)',
    ],
    [
      { seed: 0.5 },
      'seed',
      'give a whole number (seeds initial weights and the order of documents)',
    ],
    [
      { data: { sources: [] } },
      'data.sources',
      'give a list of 1 or more (text: moby-dick, sotu, or paths of files and folders)',
    ],
    [
      { precision: 'fp4' },
      'precision',
      'give one of fp8, bf16, fp32 (inputs of the linear layers’ products; weights and sums are FP32)',
    ],
    [
      { model: { moe: { normalizeGates: 1 } } },
      'model.moe.normalizeGates',
      'give true or false (divide gate weights by their sum)',
    ],
    [
      { schedule: { learningRate: { finalShares: [{ share: 2, rate: 0 }] } } },
      'schedule.learningRate.finalShares.0.share',
      'give a number from 0 to 1 (share of the tokens)',
    ],
    [
      { model: { attention: { yarn: 3 } } },
      'model.attention.yarn',
      'give a mapping of factor, originalMaxSequence, betaFast, betaSlow, mscale, mscaleAllDim or null (extension by YaRN where maxSequence exceeds its originalMaxSequence; null for none)',
    ],
  ])('%j: the hint is what the key takes', (values, path, hint) => {
    expect(refusal(values)).toMatchObject({ code: 'ERR_BALEEN_CONFIG_VALUE', path, hint });
  });
});
