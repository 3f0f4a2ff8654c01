// DeepGEMM's gate at V3's shapes: 1 − 2 Σ xy / Σ (x² + y²) of every product below 0.001 against FP32 of the values before
// they were quantised. The sums are as long as published; rows and columns that are not summed over are fewer.
import { loadKernels } from '@baleen/kernels';
import { expect, test } from 'vitest';

import { randomFrom } from '../../../test/support';
import { hopper, inputGradient, multiply, quantize, weightGradient } from '../src/index';
import { difference } from './literal';

/** Outputs and inputs of V3's linear layers, as DeepGEMM's tests list them. */
const layers = [
  [2112, 7168],
  [576, 7168],
  [24576, 1536],
  [32768, 512],
  [7168, 16384],
  [4096, 7168],
  [7168, 2048],
] as const;

const kernels = loadKernels();
const gate = 1e-3;
const [few, some] = [16, 48];

function normal(count: number, seed: number): Float32Array {
  const random = randomFrom(seed);
  return Float32Array.from(
    { length: count },
    () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()),
  );
}

/** a [m, k] · bᵀ, b [n, k]. */
function exact(a: Float32Array, b: Float32Array, k: number): Float64Array {
  const [m, n] = [a.length / k, b.length / k];
  return Float64Array.from({ length: m * n }, (_, at) => {
    const [i, j] = [Math.floor(at / n), at % n];
    let sum = 0;
    for (let kk = 0; kk < k; kk += 1) sum += a[i * k + kk] * b[j * k + kk];
    return sum;
  });
}

function transposed(x: Float32Array, cols: number): Float32Array {
  const rows = x.length / cols;
  return x.map((_, at) => x[(at % rows) * cols + Math.floor(at / rows)]);
}

test.each(layers)('outputs %i, inputs %i: forward and gradient of the input', (outputs, inputs) => {
  const x = normal(few * inputs, 1);
  const w = normal(some * inputs, 2);
  const y = multiply(
    quantize(x, { rows: few, cols: inputs }, { kernels }),
    quantize(w, { rows: some, cols: inputs }, { block: '128x128', kernels }),
    { kernels },
  );
  expect(difference(y, exact(x, w, inputs))).toBeLessThan(gate);

  const dy = normal(few * outputs, 3);
  const v = normal(outputs * some, 4);
  const dx = inputGradient(
    quantize(dy, { rows: few, cols: outputs }, { kernels }),
    quantize(v, { rows: outputs, cols: some }, { block: '128x128', kernels }),
    { kernels },
  );
  expect(difference(dx, exact(dy, transposed(v, some), outputs))).toBeLessThan(gate);
});

test('gradient of the weight over 4096 tokens, added to what is there', () => {
  const tokens = 4096;
  const [dy, x] = [normal(tokens * few, 5), normal(tokens * some, 6)];
  const before = normal(few * some, 7);
  const out = before.slice();
  const form = { block: '128x1', kernels } as const;
  weightGradient(
    quantize(dy, { rows: tokens, cols: few }, form),
    quantize(x, { rows: tokens, cols: some }, form),
    { accumulate: true, out, kernels },
  );
  const sum = exact(transposed(dy, few), transposed(x, some), tokens).map((v, i) => v + before[i]);
  expect(difference(out, sum)).toBeLessThan(gate);
});

test('Hopper passes the gate with promotion every 128, at the longest sum', () => {
  const k = 16384;
  const [x, w] = [normal(few * k, 1), normal(some * k, 2)];
  const y = multiply(
    quantize(x, { rows: few, cols: k }),
    quantize(w, { rows: some, cols: k }, { block: '128x128' }),
    { tensorCore: hopper },
  );
  expect(difference(y, exact(x, w, k))).toBeLessThan(gate);
});
