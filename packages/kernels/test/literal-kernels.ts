// The literal contract behind the interface of kernels, so that the cases can run on it. Backward kernels are not here:
// gradients.test.ts compares those with differences of the forward ones.
import {
  bytesPerElement,
  cpuBuffer,
  createCpuStorage,
  type KernelName,
  type Kernels,
  type View,
  viewOf,
} from '@baleen/kernels';

import * as literal from './literal';
import { literalLatents } from './literal-latents';
import { literalProducts } from './literal-products';
import { literalRouting } from './literal-routing';
import { fromBf16, grid, read, toBf16, write } from './literal-views';

const literalLayers: Pick<Kernels, 'rmsNorm' | 'swiglu'> = {
  rmsNorm: (y, rstd, x, weight, { rows, cols, epsilon }) => {
    const [values, w] = [read(x), read(weight)];
    const at = (r: number, c: number): number => values[r * cols + c];
    const result = literal.rmsNorm(rows, cols, epsilon, at, (c) => w[c]);
    write(y, result.y);
    write(rstd, result.rstd);
  },
  swiglu: (out, gate, up) => {
    const ups = read(up);
    write(
      out,
      read(gate).map((g, i) => literal.swiglu(g, ups[i])),
    );
  },
};

/** The kernels that the literal contract has. */
export const literalKernels: Partial<Kernels> & Pick<Kernels, 'createStorage'> = {
  ...literalProducts,
  ...literalRouting,
  ...literalLatents,
  createStorage: createCpuStorage,
  fill: (out, value) => {
    write(out, new Array<number>(out.size).fill(value));
  },
  copy: (out, x) => {
    const bytes = (v: View): Uint8Array =>
      new Uint8Array(cpuBuffer(v), v.byteOffset, v.size * bytesPerElement[v.dtype]);
    bytes(out).forEach((_, i, target) => {
      target[i] = bytes(x)[i];
    });
  },
  cast: (out, x) => {
    write(out, read(x));
  },
  copyStrided: (out, x, s) => {
    const [from, to] = [read(x), read(out)];
    for (let r = 0; r < s.rows; r += 1)
      for (let c = 0; c < s.cols; c += 1) {
        const at = (s.outOffset ?? 0) + r * s.outStride + c;
        to[at] = from[(s.xOffset ?? 0) + r * s.xStride + c] + (s.accumulate ? to[at] : 0);
      }
    write(out, to);
  },
  add: (out, a, b) => {
    const [left, right] = [read(a), read(b)];
    write(
      out,
      left.map((x, i) => x + right[i]),
    );
  },
  scale: (out, x, factor) => {
    write(
      out,
      read(x).map((v) => v * Math.fround(factor)),
    );
  },
  ...literalLayers,
  rmsNormQuantize: (quantized, y, rstd, x, weight, sizes) => {
    const out = y ?? viewOf(new Float32Array(x.size));
    literalLayers.rmsNorm(out, rstd, x, weight, sizes);
    literalProducts.quantize(quantized, out, sizes);
  },
  swigluQuantize: (quantized, gate, up, sizes) => {
    const out = viewOf(new Float32Array(gate.size));
    literalLayers.swiglu(out, gate, up);
    literalProducts.quantize(quantized, out, sizes);
  },
  rope: (out, x, cos, sin, s) => {
    const [values, result, c, d] = [read(x), read(out), read(cos), read(sin)];
    const half = s.width / 2;
    for (let r = 0; r < s.rows; r += 1)
      for (let i = 0; i < half; i += 1) {
        const table = ((s.start ?? 0) + (r % s.sequence)) * half + i;
        const angle = (s.inverse ? -1 : 1) * Math.atan2(d[table], c[table]);
        const sum = [0, 0];
        for (let h = 0; h < s.heads; h += 1) {
          const from = (s.xOffset ?? 0) + r * s.xStride + h * s.xHeadStride + 2 * i;
          const [re, im] = [values[from], values[from + 1]];
          // (re + i·im) in polar form, turned.
          const [length, turned] = [Math.hypot(re, im), Math.atan2(im, re) + angle];
          const pair = [length * Math.cos(turned), length * Math.sin(turned)];
          for (const part of [0, 1]) {
            sum[part] += pair[part];
            const head = s.sumHeads ? 0 : h * s.outHeadStride;
            result[(s.outOffset ?? 0) + r * s.outStride + head + 2 * i + part] = s.sumHeads
              ? sum[part]
              : pair[part];
          }
        }
      }
    write(out, result);
  },
  attention: (out, lse, q, k, v, sizes) => {
    const round = (p: number): number => (q.dtype === 'bf16' ? fromBf16(toBf16(p)) : p);
    const { documents, ...shape } = sizes;
    const own = documents ? { ...shape, borders: read(documents) } : shape;
    const result = literal.attention(own, read(q), read(k), read(v), round);
    write(out, result.out);
    write(lse, result.lse);
  },
  embedding: (out, weight, ids, { rows, cols }) => {
    const [table, index] = [read(weight), read(ids)];
    write(
      out,
      grid(rows, cols, (r, c) => table[index[r] * cols + c]),
    );
  },
  embeddingBackward: (dweight, dout, ids, { rows, cols, vocab }) => {
    const [old, grad, index] = [read(dweight), read(dout), read(ids)];
    const sums = grid(vocab, cols, (id, c) => {
      let sum = 0;
      for (let r = 0; r < rows; r += 1)
        if (index[r] === id) sum = Math.fround(sum + grad[r * cols + c]);
      return sum;
    });
    write(
      dweight,
      old.map((x, i) => x + sums[i]),
    );
  },
  sum: (out, x) => {
    write(out, [read(x).reduce((sum, v) => sum + v, 0)]);
  },
  sumOfSquares: (out, x) => {
    write(out, [read(x).reduce((sum, v) => sum + v * v, 0)]);
  },
  clipFactor: (norm, factor, finite, squares, loss, { maxNorm }) => {
    const total = Math.sqrt(read(squares).reduce((sum, v) => sum + v, 0));
    write(norm, [total]);
    write(factor, [Math.min(1, maxNorm / (total + 1e-6))]);
    write(finite, [Number.isFinite(total) && Number.isFinite(read(loss)[0]) ? 1 : 0]);
  },
  adamw: (parameter, gradient, m, v, factor, finite, rates, s) => {
    if (read(finite)[0] === 0) return;
    const [p, grad, first, second] = [parameter, gradient, m, v].map(read);
    const [learningRate, correction1, correction2] = read(rates);
    const g = grad.map((x) => x * read(factor)[0]);
    const m1 = first.map((x, i) => s.beta1 * x + (1 - s.beta1) * g[i]);
    const v1 = second.map((x, i) => s.beta2 * x + (1 - s.beta2) * g[i] ** 2);
    write(m, m1);
    write(v, v1);
    write(
      parameter,
      p.map((x, i) => {
        const root = Math.sqrt(v1[i] * correction2) + s.epsilon;
        const update = (m1[i] * correction1) / root;
        return x - learningRate * update - learningRate * s.weightDecay * x;
      }),
    );
  },
};

/** Kernels that gradients.test.ts covers instead. */
export const byGradients: readonly KernelName[] = [
  'rmsNormBackward',
  'swigluBackward',
  'sigmoidBackward',
  'softmaxBackward',
  'attentionBackward',
  'latentAttentionBackward',
  'linearCrossEntropy',
  'gateWeightsBackward',
  'balanceLoss',
  'unpermuteBackward',
];
