// FP8 checkpoints against PyTorch and safetensors, to the bit: they read our export as we do, quantise the same masters to
// the same codes and scales, and we read what they wrote.
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { loadKernels } from '../../packages/kernels/src/index';
import {
  checkpointPieces,
  configFromHuggingFace,
  Decoder,
  loadWeights,
  type ModelConfig,
  quantizationFromHuggingFace,
} from '../../packages/model/src/index';
import {
  exportCheckpoint,
  openSafetensors,
  openWeights,
  readConfig,
} from '../../packages/model/src/node';
import { initialize } from '../../packages/tensor/src/index';
import { firstDifference, values } from '../support';
import { pythonHas, runPython } from './python';

const present = pythonHas('torch', 'safetensors');
const formats = ['fp32', 'powerOfTwo'] as const;

/** 200 × 333 and other widths that 128 does not divide, experts and a depth of multi-token prediction. */
const config: ModelConfig = {
  vocabSize: 50,
  hiddenSize: 200,
  layers: 2,
  denseLayers: 1,
  intermediateSize: 333,
  maxSequence: 16,
  normEps: 1e-6,
  initStd: 0.05,
  attention: {
    heads: 3,
    nopeDim: 48,
    ropeDim: 8,
    valueDim: 50,
    queryRank: 140,
    kvRank: 129,
    ropeTheta: 10000,
    yarn: null,
  },
  moe: {
    routedExperts: 4,
    sharedExperts: 1,
    expertsPerToken: 2,
    groups: 1,
    groupsPerToken: 1,
    intermediateSize: 130,
    routedScaling: 2.5,
    normalizeGates: true,
  },
  mtp: { depth: 1 },
};

const scratch = mkdtempSync(join(tmpdir(), 'baleen-fp8-torch-'));
afterAll(() => {
  rmSync(scratch, { recursive: true });
});

function read(folder: string): Decoder {
  const json = readConfig(folder);
  const model = new Decoder(loadKernels(), configFromHuggingFace(json), 'fp8');
  expect(loadWeights(model, openWeights(folder), quantizationFromHuggingFace(json))).toEqual([]);
  return model;
}

describe.skipIf(!present)('PyTorch', () => {
  beforeAll(() => {
    const model = new Decoder(loadKernels(), config, 'fp32');
    initialize(model, config.initStd, 4);
    for (const { bias } of model.routers) bias.readSync().set(values(bias.size, 1, 0.2));
    // Blocks of different size, one empty, one below the smallest amax that a scale is made from.
    for (const { name, data } of checkpointPieces(model)) {
      if (!name.endsWith('down_proj.weight')) continue;
      const [rows, cols] = data.shape;
      const list = data.readSync();
      for (let r = 0; r < rows; r += 1)
        for (let c = 0; c < cols; c += 1)
          list[r * cols + c] *= r < 128 ? (c < 128 ? 0 : 1e-5) : 2 ** (c % 11);
    }
    for (const scaleFormat of formats) {
      const folder = join(scratch, scaleFormat);
      mkdirSync(folder);
      const maxShardBytes = 66_600; // a weight of 200 × 333: its scales lie in the next file
      exportCheckpoint(join(folder, 'masters'), model, { dtype: 'F32', maxShardBytes });
      exportCheckpoint(join(folder, 'exported'), model, {
        dtype: 'F8_E4M3',
        scaleFormat,
        maxShardBytes,
      });
    }
    runPython(
      'fp8_checkpoint.py',
      formats.map((format) => join(scratch, format)),
    );
  });

  test.each(formats)('scales %s', (format) => {
    const folder = join(scratch, format);
    const said = JSON.parse(readFileSync(join(folder, 'result.json'), 'utf8')) as {
      torch: string;
      safetensors: string;
      quantized: number;
      apart: number;
      largest: number;
      different: string[];
    };
    console.log(
      `torch ${said.torch}, safetensors ${said.safetensors}: ${said.quantized} weights in FP8, ${said.apart} with their scales in another file`,
    );
    expect(said.quantized).toBe(3 * 5 + 3 + 2 * 5 * 3); // attention, dense, four experts and a shared one
    expect(said.apart).toBeGreaterThan(0);
    if (format === 'fp32') expect(said.largest).toBe(448);
    expect(said.different).toEqual([]);
    const decoded = openSafetensors(join(folder, 'decoded.safetensors'));
    for (const from of ['exported', 'written']) {
      const model = read(join(folder, from));
      let compared = 0;
      for (const { name, data } of checkpointPieces(model)) {
        const expected = new Float32Array(decoded.read(name).slice().buffer);
        expect(firstDifference(data.readSync(), expected), `${from}: ${name}`).toBe(-1);
        compared += 1;
      }
      expect(compared).toBe(decoded.tensors.size);
    }
  });
});
