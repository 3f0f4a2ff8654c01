// A checkpoint that Baleen saves loads in Hugging Face transformers with the same logits, and the keys that transformers
// does not know are exactly those of multi-token prediction, and in V2's case the routers' biases.
//
// It needs Python with torch, transformers and safetensors (see python.ts).
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { type Kernels, loadKernels } from '../../packages/kernels/src/index';
import {
  configToHuggingFace,
  Decoder,
  generate,
  isMtpTensor,
  type ModelConfig,
  weightsToWrite,
} from '../../packages/model/src/index';
import { writeConfig, writeSafetensors, writeShards } from '../../packages/model/src/node';
import { initialize, Region, Run, type Tensor, tensorFrom } from '../../packages/tensor/src/index';
import { largestDifference, randomFrom, values } from '../support';
import { pythonHas, runPython } from './python';

const present = pythonHas('torch', 'transformers', 'safetensors');

const base: ModelConfig = {
  vocabSize: 300,
  hiddenSize: 64,
  layers: 3,
  denseLayers: 1,
  intermediateSize: 96,
  maxSequence: 128,
  normEps: 1e-6,
  initStd: 0.1,
  attention: {
    heads: 4,
    nopeDim: 16,
    ropeDim: 8,
    valueDim: 12,
    queryRank: 40,
    kvRank: 24,
    ropeTheta: 10000,
    yarn: null,
  },
  moe: {
    routedExperts: 8,
    sharedExperts: 1,
    expertsPerToken: 3,
    groups: 4,
    groupsPerToken: 2,
    intermediateSize: 32,
    routedScaling: 2.5,
    normalizeGates: true,
  },
  mtp: { depth: 1 },
};
const yarn = {
  factor: 8,
  originalMaxSequence: 16,
  betaFast: 32,
  betaSlow: 1,
  mscale: 1,
  mscaleAllDim: 1,
};

function modelOf(kernels: Kernels, config: ModelConfig): Decoder {
  const model = new Decoder(kernels, config, 'fp32');
  initialize(model, config.initStd, 9);
  let seed = 0;
  for (const [, { data, init }] of model.parameters())
    if (init === 'ones') data.readSync().set(values(data.size, (seed += 1)).map((v) => 1 + v / 3));
  // V2 knows no biases.
  const spread = config.moe.gate === 'softmax' ? 0 : 0.2;
  for (const { bias } of model.routers) bias.readSync().set(values(bias.size, (seed += 1), spread));
  return model;
}

function logitsOf(model: Decoder, ids: number[][]): Float32Array {
  const { kernels } = model;
  const input = tensorFrom(
    new Region(kernels, 'inputs'),
    [ids.length, ids[0].length],
    Int32Array.from(ids.flat()),
  );
  const run = new Run(new Region(kernels, 'logits'), { grad: false });
  let h = input;
  model.hiddenPhases().forEach((phase, index) => {
    h = run.forward(phase, index === 0 ? { ids: input } : undefined).h as Tensor;
  });
  let logits = new Float32Array(0);
  run.tape.scoped(() => {
    logits = Float32Array.from(model.logits(run.tape, h).readSync());
    return [];
  });
  run.finish();
  return logits;
}

/** Keys as transformers names them from version 5 on: the experts of a layer stacked, gate and up in one. */
function stacked(keys: readonly string[]): string[] {
  const names = keys.map((key) =>
    key
      .replace(/(\.mlp\.experts)\.\d+\.(gate|up)_proj\.weight$/, '$1.gate_up_proj')
      .replace(/(\.mlp\.experts)\.\d+\.down_proj\.weight$/, '$1.down_proj'),
  );
  return [...new Set(names)].sort();
}

const cases: [string, ModelConfig, 'one file' | 'shards'][] = [
  ['query compression, one depth, one file', base, 'one file'],
  ['two depths, shards', { ...base, mtp: { depth: 2 } }, 'shards'],
  [
    'plain queries, two shared experts, no groups, YaRN',
    {
      ...base,
      attention: { ...base.attention, queryRank: null, yarn },
      moe: { ...base.moe, sharedExperts: 2, groups: 1, groupsPerToken: 1 },
    },
    'one file',
  ],
  ['no multi-token prediction', { ...base, mtp: { depth: 0 } }, 'one file'],
  [
    'V2: softmax gate, groups by their best expert, gate weights as they are',
    {
      ...base,
      // A whole number, which Python must not take for an integer.
      moe: {
        ...base.moe,
        ...{ gate: 'softmax', groupBest: 1, normalizeGates: false, routedScaling: 2 },
      },
      mtp: { depth: 0 },
    },
    'one file',
  ],
];

const random = randomFrom(3);
const ids = Array.from({ length: 2 }, () =>
  Array.from({ length: 40 }, () => Math.floor(random() * base.vocabSize)),
);
const scratch = mkdtempSync(join(tmpdir(), 'baleen-roundtrip-'));
const folderOf = (index: number): string => join(scratch, String(index));
afterAll(() => {
  rmSync(scratch, { recursive: true });
});

describe.skipIf(!present)('transformers', () => {
  // One process for all: importing torch and transformers takes longer than the rest.
  beforeAll(() => {
    cases.forEach(([, config, layout], index) => {
      const folder = folderOf(index);
      mkdirSync(folder);
      const tensors = weightsToWrite(modelOf(loadKernels(), config));
      if (layout === 'shards') writeShards(folder, tensors, 200_000);
      else writeSafetensors(join(folder, 'model.safetensors'), tensors);
      writeConfig(folder, configToHuggingFace(config));
      writeFileSync(join(folder, 'ids.json'), JSON.stringify(ids));
    });
    const folders = cases.map((_, index) => folderOf(index));
    runPython('transformers_roundtrip.py', folders);
  });

  test.each(cases.map(([name, config], index) => [name, config, folderOf(index)] as const))(
    '%s',
    (name, config, folder) => {
      const model = modelOf(loadKernels(), config);
      const said = JSON.parse(readFileSync(join(folder, 'result.json'), 'utf8')) as {
        torch: string;
        transformers: string;
        missing: string[];
        unexpected: string[];
        greedy: number[][];
      };
      expect(said.missing).toEqual([]);
      const keys = weightsToWrite(model).map((tensor) => tensor.name);
      const mtp = keys.filter((key) => isMtpTensor(key, config.layers));
      expect(mtp.length > 0).toBe(config.mtp.depth > 0);
      // V2 has no biases, and leaves ours out.
      const v2 = config.moe.gate === 'softmax';
      const biases = keys.filter((key) => v2 && key.endsWith('e_score_correction_bias'));
      expect(stacked(said.unexpected)).toEqual(stacked([...mtp, ...biases]));
      const bytes = readFileSync(join(folder, 'logits.bin'));
      const expected = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4).slice();
      const difference = largestDifference(logitsOf(model, ids), expected);
      console.log(
        `${name}: logits differ by at most ${difference.toExponential(1)} of ${Math.max(...expected.map(Math.abs)).toFixed(1)} (torch ${said.torch}, transformers ${said.transformers})`,
      );
      expect(difference).toBeLessThan(2e-4);
      ids.forEach((row, b) => {
        const prompt = Int32Array.from(row.slice(0, 4));
        expect([...generate(model, prompt, { maxTokens: 8 })]).toEqual(said.greedy[b]);
      });
    },
  );
});
