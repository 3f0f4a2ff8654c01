// Gradients of whole layers and of the whole loss against central differences.
import { loadKernels, referenceKernels } from '@baleen/kernels';
import { Rotary } from '@baleen/mla';
import {
  type Bundle,
  type ComputePhase,
  checkGradients,
  initialize,
  Pools,
  plainLinears,
  Region,
  type Tensor,
  tensorFrom,
} from '@baleen/tensor';
import { describe, expect, test } from 'vitest';

import { implementationsOf, values } from '../../../test/support';
import { DecoderLayer, type ModelConfig } from '../src/index';
import { gradientsOf, randomBatch, runBatch, smallConfig, smallModel } from './small';

describe.each(implementationsOf(referenceKernels(), loadKernels()))('%s kernels', (_, kernels) => {
  test.each([
    ['a dense layer', true, 1],
    ['a layer with experts and a shared expert', false, 1],
    ['a layer with experts alone', false, 0],
  ])('%s', (_name, dense, sharedExperts) => {
    const pools = new Pools(kernels);
    const config = { ...smallConfig, moe: { ...smallConfig.moe, sharedExperts } };
    const rotary = new Rotary(pools, 16, 4, 100, null);
    const factory = plainLinears('fp32');
    const linears = { attention: factory, feedForward: factory, experts: factory };
    const layer = new DecoderLayer(pools, linears, config, rotary, dense);
    initialize(layer, 0.4, 5);
    const x = tensorFrom(new Region(kernels, 'inputs'), [2, 4, 12], values(96, 6));
    const region = new Region(kernels, 'test');
    const phases = layer.phases('layer', {
      balanceFactor: 0,
      balanceOver: 'sequence',
      balanceCounts: null,
      balanceLoss: null,
      withScores: false,
      cached: null,
    });
    expect(phases).toHaveLength(dense ? 2 : 4);
    const results = checkGradients({
      region,
      inputs: { x },
      module: layer,
      step: 2e-3, // small, so that no token changes its experts
      directions: 2,
      body: (tape) =>
        phases
          .filter((phase): phase is ComputePhase => phase.kind === 'compute')
          .reduce<Bundle>((bundle, phase) => phase.forward(tape, bundle), { h: x }).h as Tensor,
    });
    expect(results).toHaveLength(2 * (1 + [...layer.parameters()].length));
    for (const { name, error } of results) expect(error, name).toBeLessThan(1e-2);
    expect(region.liveBytes).toBe(0);
  });

  const yarn: ModelConfig['attention']['yarn'] = {
    factor: 4,
    originalMaxSequence: 4,
    betaFast: 2,
    betaSlow: 0.5,
    mscale: 1,
    mscaleAllDim: 1,
  };
  test.each<[string, Partial<ModelConfig>]>([
    ['experts, two depths, balance loss', {}],
    [
      'no query compression, YaRN, one depth, every expert chosen',
      {
        attention: { ...smallConfig.attention, queryRank: null, yarn },
        moe: { ...smallConfig.moe, groupsPerToken: 2, expertsPerToken: 4 },
        mtp: { depth: 1 },
      },
    ],
  ])('the whole loss: %s', (_name, changes) => {
    const model = smallModel(kernels, changes);
    const batch = randomBatch(2, 7, 6);
    const alpha = 0.5;
    runBatch(model, batch, 2, { alpha });
    const gradients = gradientsOf(model);
    const lossAt = (): number => runBatch(model, batch, 2, { alpha, backward: false }).total;
    const half = 5e-4; // small, so that no token changes its experts
    // Module by module: single weights were looked at above, here it is how modules hang together.
    const all = [...model.parameters()];
    const moduleOf = (name: string): string => name.split('.').slice(0, 3).join('.');
    let seed = 50;
    for (const name of new Set(all.map(([key]) => moduleOf(key)))) {
      const own = all.filter(([key]) => moduleOf(key) === name);
      const parts = own.map(([key, parameter]) => {
        const data = parameter.data.readSync() as Float32Array;
        const grad = gradients.get(key) ?? new Float32Array();
        return {
          parameter,
          data,
          grad,
          original: data.slice(),
          along: values(data.length, seed++),
        };
      });
      const at = (step: number): number => {
        for (const { parameter, data, original, along } of parts) {
          data.set(original.map((value, i) => value + step * along[i]));
          parameter.version += 1;
        }
        return lossAt();
      };
      const numeric = (at(half) - at(-half)) / (2 * half);
      at(0);
      let analytic = 0;
      let norm = 0;
      for (const { grad, along } of parts)
        grad.forEach((value, i) => {
          analytic += value * along[i];
          norm += (value * value) / 3;
        });
      expect(norm, name).toBeGreaterThan(1e-6);
      const size = Math.max(Math.abs(analytic), Math.abs(numeric), Math.sqrt(norm));
      expect(Math.abs(analytic - numeric) / size, name).toBeLessThan(5e-3);
    }
  });
});
