// Parameter and FLOP counts: against the published numbers of DeepSeek-V3, and against models that exist.
import { nullKernels } from '@baleen/kernels';
import { describe, expect, test } from 'vitest';

import {
  configFromHuggingFace,
  countParameters,
  Decoder,
  flopsPerToken,
  type ModelConfig,
} from '../src/index';
import { publishedConfig } from './v3';

const v3 = configFromHuggingFace(publishedConfig);

describe("DeepSeek-V3's published configuration", () => {
  test('is read whole', () => {
    expect(v3).toEqual({
      vocabSize: 129280,
      hiddenSize: 7168,
      layers: 61,
      denseLayers: 3,
      intermediateSize: 18432,
      maxSequence: 163840,
      normEps: 1e-6,
      initStd: 0.02,
      attention: {
        heads: 128,
        nopeDim: 128,
        ropeDim: 64,
        valueDim: 128,
        queryRank: 1536,
        kvRank: 512,
        ropeTheta: 10000,
        yarn: {
          factor: 40,
          originalMaxSequence: 4096,
          betaFast: 32,
          betaSlow: 1,
          mscale: 1,
          mscaleAllDim: 1,
        },
      },
      moe: {
        routedExperts: 256,
        sharedExperts: 1,
        expertsPerToken: 8,
        groups: 8,
        groupsPerToken: 4,
        intermediateSize: 2048,
        routedScaling: 2.5,
        normalizeGates: true,
      },
      mtp: { depth: 1 },
    } satisfies ModelConfig);
  });

  test('gives the published parameter counts', () => {
    const { main, mtp, total, active } = countParameters(v3);
    expect(main).toBe(671_026_419_200);
    expect(mtp).toBe(11_610_068_224);
    // The release repeats embedding and head in its MTP layer.
    expect(total + 2 * 129280 * 7168).toBe(684_489_845_504);
    expect((active / 1e9).toFixed(2)).toBe('36.63');
    expect(((active + 129280 * 7168) / 1e9).toFixed(2)).toBe('37.55');
  });

  test('costs 250 GFLOPs a token to train at 4,096 tokens (arXiv 2505.09343)', () => {
    const { forward, training } = flopsPerToken(v3, 4096);
    expect(training).toBe(3 * forward);
    expect(Math.round(training / 1e9)).toBe(250);
    // Six a parameter that meets the token, and attention's share on top.
    const { active } = countParameters(v3);
    expect(training / (6 * active)).toBeGreaterThan(1.13);
    expect(training / (6 * active)).toBeLessThan(1.15);
  });
});

/** A small model with every number different. */
const small: ModelConfig = {
  ...v3,
  vocabSize: 50,
  hiddenSize: 28,
  layers: 5,
  denseLayers: 2,
  intermediateSize: 37,
  maxSequence: 16,
  attention: {
    heads: 3,
    nopeDim: 6,
    ropeDim: 4,
    valueDim: 7,
    queryRank: 11,
    kvRank: 9,
    ropeTheta: 10000,
    yarn: null,
  },
  moe: {
    routedExperts: 6,
    sharedExperts: 2,
    expertsPerToken: 2,
    groups: 3,
    groupsPerToken: 2,
    intermediateSize: 13,
    routedScaling: 1,
    normalizeGates: true,
  },
  mtp: { depth: 2 },
};

describe.each<[string, ModelConfig]>([
  ['query compression, shared experts, two depths', small],
  [
    'plain queries, no shared expert, no depth',
    {
      ...small,
      attention: { ...small.attention, queryRank: null },
      moe: { ...small.moe, sharedExperts: 0 },
      mtp: { depth: 0 },
    },
  ],
  ['all dense', { ...small, denseLayers: 5, mtp: { depth: 0 } }],
])('a model that exists: %s', (_, config) => {
  const model = new Decoder(nullKernels(), config, 'fp32');
  const counts = countParameters(config);

  test('holds as many values as were counted', () => {
    expect(counts.trained).toBe(model.parameterCount);
    let state = 0;
    for (const [, { data }] of model.states()) state += data.size;
    expect(counts.total).toBe(model.parameterCount + state);
    expect(counts.main + counts.mtp).toBe(counts.total);
    let mtp = 0;
    for (const [name, { size }] of model.parameters()) if (name.startsWith('mtp.')) mtp += size;
    for (const [name, { data }] of model.states()) if (name.startsWith('mtp.')) mtp += data.size;
    expect(counts.mtp).toBe(mtp);
  });

  test('activates everything but the embedding and the experts not chosen', () => {
    const { moe, layers, denseLayers, hiddenSize, vocabSize } = config;
    const idle = (moe.routedExperts - moe.expertsPerToken) * 3 * hiddenSize * moe.intermediateSize;
    expect(counts.active).toBe(
      counts.main - vocabSize * hiddenSize - (layers - denseLayers) * idle,
    );
  });
});
